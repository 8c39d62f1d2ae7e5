"""A container as a place where tools run: ``docker exec`` on its server, and a shell in it that ends the tool with us.

Killing ``docker exec`` does not end what it has started. So a shell runs the tool, and ends it when its line to us
does: see ``exec.sh``.
"""

from __future__ import annotations

import io
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import BinaryIO, Self, cast

from blocks.docker.engine import ABSENT, TRANSIENT, docker_name
from blocks.files import put
from blocks.framed import FramedInput, completed
from blocks.held import held_directory
from blocks.host import Host, RunningTool
from vault.command import LOWERING, Command, Completed, exit_code, judge_by_shell
from vault.errors import IncompleteDump, SourceError, SourceUnavailable, Transient, printable
from vault.process import PIPE_BYTES

_DOWN = re.compile("is not running|is paused|is restarting|marked for removal|procReady not received")
_NO_SUCH = re.compile(r"not found|No such file or directory|Permission denied")
_NO_SHELL = re.compile(r'exec: "sh"')
_GLOB = 'IFS=; for path in $1; do [ -e "$path" ] && printf "%s\\0" "$path"; done; :'
# By hand: in busybox `command -v` names no path.
_WHICH = """
case $1 in */*) PATH=${1%/*} ;; esac
IFS=:; for place in $PATH; do
    [ -f "$place/${1##*/}" ] && [ -x "$place/${1##*/}" ] && { printf %s "$place/${1##*/}"; exit; }
done
:
"""
_SCRIPT = Path(__file__).with_name("exec.sh").read_text()


@dataclass(frozen=True)
class Container(Host):
    """The container *name* on *server*, while it runs. Its image needs ``sh`` and what busybox has."""

    server: Host
    name: str

    def __post_init__(self) -> None:
        docker_name(self.name)

    @property
    def location(self) -> str:
        """Where this is, for a person."""
        return f"container {self.name} on {self.server.location}"

    @property
    def is_low(self) -> bool:
        """See ``Host.is_low``."""
        return self.server.is_low

    def hurried(self) -> Self:
        """See ``Host.hurried``."""
        return replace(self, server=self.server.hurried())

    def run(self, command: Command, input: bytes = b"") -> Completed:
        """See ``Host.run``."""
        with self._running(command, fed=bool(input), read=True) as tool:
            return completed(tool, tool.input, input)

    @contextmanager
    def stream(self, command: Command) -> Iterator[RunningTool]:
        """See ``Host.stream``."""
        with self._running(command, fed=False, read=True) as tool:
            yield tool
            if tool.stdout.read(1):
                raise IncompleteDump(f"the output of {command.name} was not read to its end")
            tool.finish()

    @contextmanager
    def feed(self, command: Command) -> Iterator[RunningTool]:
        """See ``Host.feed``."""
        with self._running(command, fed=True, read=False) as tool:
            yield tool
            tool.stdin.close()
            tool.finish()

    @contextmanager
    def session(self, command: Command) -> Iterator[RunningTool]:
        """See ``Host.session``."""
        with self._running(command, fed=True, read=True) as tool:
            yield tool
            tool.stdin.close()
            tool.finish()

    def which(self, tool: str) -> str | None:
        """See ``Host.which``."""
        return self._ask(_WHICH, tool) or None

    def glob(self, pattern: str) -> list[str]:
        """See ``Host.glob``."""
        return sorted(self._ask(_GLOB, pattern).split("\0")[:-1])

    def private_directory(self) -> AbstractContextManager[PurePath]:
        """See ``Host.private_directory``."""
        return held_directory(self, "prefect-backups-")

    @contextmanager
    def secret_file(self, text: str) -> Iterator[str]:
        """See ``Host.secret_file``."""
        with self.private_directory() as directory:
            put(self, io.BytesIO(text.encode()), directory / "secret")
            yield str(directory / "secret")

    def _ask(self, script: str, *arguments: str) -> str:
        done = self.run(Command(("sh", "-c", script, "sh", *arguments), idle_timeout=60))
        return done.stdout.decode(errors="surrogateescape")

    @contextmanager
    def _running(self, command: Command, *, fed: bool, read: bool) -> Iterator[_Tool]:
        mark = f"backups-{secrets.token_hex(16)}"
        how = ("yes" if fed else "no", "yes" if read else "no", command.cwd or "", LOWERING if self.is_low else "low=")
        env = (f"{name}={value}" for name, value in {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **command.env}.items())
        inside = ("sh", "-c", _SCRIPT, "backups", mark, *how, *env, *command.argv)
        client = Command(
            ("docker", "exec", "--interactive", self.name, *inside),
            secrets=command.secrets,
            idle_timeout=command.idle_timeout,
            ok=frozenset(range(256)),
        )
        with self.server.session(client) as running:
            yield _Tool(command, running, mark, self)


def host_of(server: Host, container: str) -> Host:
    """Where the tools of something on *server* run: in its container, where it has one."""
    return Container(server, container) if container else server


class _Tool:
    """A tool that runs in a container."""

    stdin: BinaryIO
    stdout: BinaryIO

    def __init__(self, command: Command, client: RunningTool, mark: str, where: Container) -> None:
        self.command, self._client, self._where = command, client, where
        first = client.stdout.readline()
        if first.decode(errors="replace").strip() != mark:
            client.stdin.close()
            said = first + client.stdout.read()  # some errors of the runtime come this way
            client.finish()
            raise self._not_begun(" ".join([*client.warnings, printable(said.decode(errors="replace").strip())]))
        self.exit_code: int | None = None
        line = _Line(client.stdin)
        self.input = FramedInput(line.send, self._refused)
        self._output = _Output(client.stdout, mark, line.end)
        self.stdin = cast("BinaryIO", self.input)
        self.stdout = cast("BinaryIO", io.BufferedReader(self._output, PIPE_BYTES))

    @property
    def warnings(self) -> list[str]:
        """See ``RunningTool.warnings``."""
        return self._client.warnings

    def kill(self) -> None:
        """See ``RunningTool.kill``."""
        self._client.kill()

    def finish(self) -> None:
        """Wait for its end and check what was told of it. Nothing was: then Docker failed, and not the tool."""
        while self.stdout.read(PIPE_BYTES):
            pass
        self._client.finish()
        if self._output.status is None:
            said = "\n".join(self.warnings) or "nothing was said about it"
            raise SourceUnavailable(f"{self.command.name} in {self._where.location} was cut off: {said}")
        self.exit_code = exit_code(self._output.status)
        judge_by_shell(self.command, self.exit_code, self.warnings, _NO_SUCH, f" in {self._where.location}")

    def _refused(self) -> SourceError:
        """Why its input cannot be written: raises its own error where it has one."""
        self.finish()
        return SourceError(f"{self.command.name} stopped reading before the end of its input")

    def _not_begun(self, said: str) -> SourceError:
        where = self._where.location
        if ABSENT.search(said):
            return SourceError(f"there is no {where}", "See `docker ps` there for its name.")
        if _DOWN.search(said):
            return SourceUnavailable(f"{where} does not run: {said}", "Start it.")
        if re.search(TRANSIENT, said):
            return SourceUnavailable(f"Docker on {self._where.server.location} does not answer: {said}")
        if _NO_SHELL.search(said):
            return SourceError(f"{where} has no sh: {said}", "Its image has to have a shell.")
        return SourceError(f"nothing can be run in {where}: {said}")


class _Output(io.RawIOBase):
    """What a tool writes, up to the mark with its *status*; then *known* is called, for all has come."""

    def __init__(self, stdout: BinaryIO, mark: str, known: Callable[[], None]) -> None:
        self._stdout, self._mark, self._known = stdout, mark.encode(), known
        self._end = re.compile(self._mark + rb" (\d{1,3})\n\Z")
        self._longest = len(mark) + len(" 255\n")
        self._held = b""  # what may be the beginning of the mark
        self.status: int | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview | bytearray) -> int:  # type: ignore[override]
        view, count = memoryview(buffer), 0
        while not count and self.status is None:
            view[: len(self._held)] = self._held
            came: int = self._stdout.readinto1(view[len(self._held) :])  # type: ignore[attr-defined]
            count, self._held = len(self._held) + came, b""
            if not came:  # cut off
                break
            tail = bytes(view[max(0, count - self._longest) : count])
            if end := self._end.search(tail):
                self.status = int(end[1])
                self._known()
                return count - len(end[0])
            self._held = tail[self._begin(tail) :]
            count -= len(self._held)
        return count

    def _begin(self, tail: bytes) -> int:
        at = tail.find(self._mark[:1])
        while at >= 0 and not self._mark.startswith(tail[at : at + len(self._mark)]):
            at = tail.find(self._mark[:1], at + 1)
        return at if at >= 0 else len(tail)


class _Line:
    """The line to a tool, on which one may write while another one reads that the tool has ended."""

    def __init__(self, line: BinaryIO) -> None:
        self._line, self._turn = line, threading.Lock()

    def send(self, data: bytes) -> bool:
        """False: it has ended. Raises what may be tried again."""
        with self._turn:
            if self._line.closed:
                return False
            try:
                self._line.write(data)
            except SourceError as error:
                if isinstance(error, Transient):
                    raise
                return False
            return True

    def end(self) -> None:
        """Nothing more: the tool has ended."""
        with self._turn:
            self._line.close()
