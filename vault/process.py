"""Run tools: the one place where this project starts another program.

What holds for every tool:

* argv lists and an environment by allow-list; standard input is empty unless it is given.
* A session and process group of its own, so that stopping it stops what it has started.
* It dies with us: ``setpriv --pdeathsig`` (util-linux) has the kernel kill it when *the thread that
  started it* ends. So that thread has to live through the tool's life. Where that is not enough (what
  the tool itself has started, no setpriv), :func:`sweep_orphans` of the next run ends what is left.
* Its exit status is checked, whatever it wrote; the tail of its stderr is kept in bounded memory,
  free of the given secrets.
"""

from __future__ import annotations

import fcntl
import io
import os
import re
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import IO, BinaryIO, cast

from vault.errors import IncompleteDump, SourceError, SourceUnavailable, printable, redact

PIPE_BYTES = 1024 * 1024
STDERR_BYTES = 64 * 1024
STDERR_LINES = 25
LINE_CHARACTERS = 400
MARK = "BACKUPS_RUN_PID"

_INHERITED = ("PATH", "HOME", "TMPDIR", "TZ")
_NAP = 0.001
_PACKAGES = {
    **dict.fromkeys(("psql", "pg_dump", "pg_restore"), "postgresql-client"),
    **dict.fromkeys(("tar", "zstd", "gzip", "age"), ""),
    "ssh": "openssh-client",
}


@dataclass(frozen=True)
class Command:
    """What to run, and how to judge it.

    ``env`` is added to the allow-listed environment. ``idle_timeout``: seconds without output (or, for one
    that is fed, without taking input) after which it is stopped; None: never. ``ok``: exit codes that are
    success. ``transient``: a regular expression; stderr that matches it says that trying again may help.
    """

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    idle_timeout: float | None = 600.0
    cwd: str | None = None
    ok: frozenset[int] = frozenset({0})
    transient: str = ""

    @property
    def name(self) -> str:
        """The tool's name, for messages."""
        return printable(os.path.basename(self.argv[0]))


@dataclass(frozen=True)
class Completed:
    """What a short tool wrote."""

    stdout: bytes
    warnings: tuple[str, ...]


def run(command: Command, input: bytes = b"") -> Completed:
    """Run a short tool to its end and check it; its whole output is held in memory."""
    with _memory_file(input) as stdin, _running(command, stdin, subprocess.PIPE) as tool:
        output = tool.stdout.read()
        tool.finish()
    return Completed(output, tuple(tool.warnings))


@contextmanager
def stream(command: Command) -> Iterator[Tool]:
    """Run a tool and read ``tool.stdout``. A clean exit means: read to its end, and ended well.

    Leaving with an exception kills the tool and all that it started. Raises ``SourceError``,
    ``SourceUnavailable`` (killed, silent for too long), ``IncompleteDump`` (left before the end).
    """
    with _running(command, subprocess.DEVNULL, subprocess.PIPE) as tool:
        yield tool
        if tool.stdout.read(1):
            raise IncompleteDump(f"the output of {command.name} was not read to its end")
        tool.finish()


@contextmanager
def feed(command: Command) -> Iterator[Tool]:
    """Run a tool and write to ``tool.stdin``. A clean exit means: it took everything, and ended well.

    When it ends early, the write raises the tool's own error. Its standard output is dropped.
    """
    with _running(command, subprocess.PIPE, subprocess.DEVNULL) as tool:
        yield tool
        tool.stdin.close()
        tool.finish()


@contextmanager
def session(command: Command) -> Iterator[Tool]:
    """Talk with a tool through ``tool.stdin`` and ``tool.stdout``. A clean exit means: it ended well."""
    with _running(command, subprocess.PIPE, subprocess.PIPE) as tool:
        yield tool
        tool.stdin.close()
        tool.finish()


def which(tool: str) -> str | None:
    """Where *tool* is, looked up as :func:`run` will."""
    return shutil.which(tool, path=_environment({})["PATH"])


class Tool:
    """A tool that runs. ``stdin`` and ``stdout`` exist as the function that started it says."""

    stdin: BinaryIO
    stdout: BinaryIO

    def __init__(self, command: Command, stdin: int, stdout: int) -> None:
        self.command = command
        environment = _environment(command.env)
        argv = [_executable(command, environment["PATH"]), *command.argv[1:]]
        self._process = subprocess.Popen(
            [*tied_to_us(), *argv],
            bufsize=0,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=command.cwd,
            start_new_session=True,
        )
        self._end = os.pidfd_open(self._process.pid)
        self._stderr = _Tail(cast("IO[bytes]", self._process.stderr))
        if self._process.stdout is not None:
            _widen(self._process.stdout.fileno())
            self.stdout = io.BufferedReader(_Output(self, self._process.stdout), PIPE_BYTES)
        if self._process.stdin is not None:
            _widen(self._process.stdin.fileno())
            self.stdin = cast("BinaryIO", _Input(self, self._process.stdin))

    @property
    def warnings(self) -> list[str]:
        """The last lines of its stderr, without secrets. Complete once it has ended."""
        return self._stderr.lines(self.command.secrets)

    @property
    def exit_code(self) -> int | None:
        """Its exit code, None while it runs, negative when a signal killed it."""
        return self._process.returncode

    def finish(self) -> None:
        """Wait for its end and check its status."""
        self.await_ready(self._end, select.POLLIN)
        self._reap()
        self._judge()

    def kill(self) -> None:
        """Kill it, and whatever it started."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Leave nothing behind: no process, no pipe. Idempotent."""
        self.kill()
        self._reap()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        if self._end >= 0:
            os.close(self._end)
            self._end = -1

    def await_ready(self, fd: int, event: int) -> None:
        """Wait until *fd* is ready; when the tool is silent for too long, stop it and say so (S09)."""
        limit = self.command.idle_timeout
        poll = select.poll()
        poll.register(fd, event)
        if not poll.poll(None if limit is None else limit * 1000):
            self.kill()
            raise SourceUnavailable(
                f"{self.command.name} showed no sign of life for {limit:g} seconds and was stopped",
                "Look at what holds it up (a lock? the network?), or raise the idle timeout.",
            )

    def _reap(self) -> None:
        """Wait for the tool; while its id is still ours, end what it left in its group."""
        if self._process.returncode is None:
            select_end = select.poll()
            select_end.register(self._end, select.POLLIN)
            select_end.poll()
            self.kill()
            self._process.wait()
            self._stderr.join()

    def _judge(self) -> None:
        code = self._process.returncode
        if code in self.command.ok:
            return
        name, said = self.command.name, "\n".join(self.warnings) or "it said nothing on stderr"
        if code < 0:
            raise SourceUnavailable(f"{name} was killed by {_signal_name(-code)}: {said}")
        message = f"{name} failed with exit code {code}: {said}"
        if self.command.transient and re.search(self.command.transient, said):
            raise SourceUnavailable(message)
        raise SourceError(message)


class _Output(io.RawIOBase):
    """The read end of a pipe: waits no longer than the tool's idle timeout."""

    def __init__(self, tool: Tool, pipe: IO[bytes]) -> None:
        self._tool, self._pipe = tool, pipe
        os.set_blocking(pipe.fileno(), False)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            try:
                return os.readv(self._pipe.fileno(), [buffer])
            except BlockingIOError:
                self._tool.await_ready(self._pipe.fileno(), select.POLLIN)
                # Tools write 4 KiB at a time: let some gather, rather than wake for each.
                time.sleep(_NAP)


class _Input(io.RawIOBase):
    """The write end of a pipe: each write is whole, or raises what became of the tool."""

    def __init__(self, tool: Tool, pipe: IO[bytes]) -> None:
        self._tool, self._pipe = tool, pipe
        os.set_blocking(pipe.fileno(), False)

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._pipe.fileno(), rest) :]
            except BlockingIOError:
                self._tool.await_ready(self._pipe.fileno(), select.POLLOUT)
            except BrokenPipeError:
                self._tool.finish()
                name = self._tool.command.name
                raise SourceError(f"{name} stopped reading before the end of its input") from None
        return len(data)

    def close(self) -> None:
        self._pipe.close()
        super().close()


class _Tail:
    """Reads a tool's stderr to its end in a thread of its own and keeps the tail (S10)."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe, self._kept, self._size, self._lines = pipe, b"", 0, 0
        self._thread = threading.Thread(target=self._read, name="stderr", daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(timeout=5)

    def _read(self) -> None:
        with suppress(OSError, ValueError):  # closed by us: what was read is what there is
            while chunk := os.read(self._pipe.fileno(), STDERR_BYTES):
                self._size += len(chunk)
                self._lines += chunk.count(b"\n")
                self._kept = (self._kept + chunk)[-STDERR_BYTES:]

    def lines(self, secrets: Sequence[str]) -> list[str]:
        text = self._kept.decode(errors="replace")
        if self._size > len(self._kept):  # its beginning may be the rest of a secret
            text = text.partition("\n")[2] or text[max(map(len, secrets), default=0) :]
        found = [line for line in redact(text, secrets).splitlines() if line.strip()]
        return [printable(line[:LINE_CHARACTERS]) for line in found[-STDERR_LINES:]]


_live: set[Tool] = set()


def kill_all() -> None:
    """Kill every tool that this process runs: whoever waits for one, in any thread, goes on with its failure."""
    for tool in tuple(_live):
        tool.kill()


@contextmanager
def _running(command: Command, stdin: int, stdout: int) -> Iterator[Tool]:
    tool = Tool(command, stdin, stdout)
    _live.add(tool)
    try:
        yield tool
    finally:
        _live.discard(tool)
        tool.close()


@contextmanager
def _memory_file(data: bytes) -> Iterator[int]:
    """A descriptor that gives *data*: neither a thread to feed it nor a place on disk is needed."""
    fd = os.memfd_create("input", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    defaults = {"PATH": os.defpath, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
    return {**defaults, **inherited, **extra, MARK: run_mark()}


def _executable(command: Command, path: str) -> str:
    found = shutil.which(command.argv[0], path=path)
    if found is None:
        package = _PACKAGES.get(command.name, "") or command.name
        raise SourceError(
            f"{printable(command.argv[0])} is not installed, or not to be executed",
            f"Install it (Debian, Ubuntu: apt-get install {package}), or put it on PATH.",
        )
    return found


@cache
def tied_to_us(signal_name: str = "KILL") -> tuple[str, ...]:
    """What goes before an argv so that the kernel sends that signal when the thread ends that started it."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", signal_name, "--") if setpriv else ()


def _widen(fd: int) -> None:
    with suppress(OSError):  # over the user's limit for pipes: the default size will do
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def run_mark() -> str:
    """What marks the tools and private directories of this process: its id, start time and pid namespace."""
    return f"{os.getpid()}-{_started(os.getpid())}-{_pid_namespace()}"


def is_alive(mark: str) -> bool:
    """Whether the process that *mark* names still runs. One that we cannot see counts as alive."""
    pid, _, rest = mark.partition("-")
    started, _, namespace = rest.partition("-")
    if not (pid.isdecimal() and started.isdecimal()) or namespace != _pid_namespace():
        return True
    return _started(int(pid)) == int(started)


def sweep_orphans() -> list[int]:
    """Kill the tools that dead runs of this user left behind; returns their process groups."""
    swept = set()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):  # it ended meanwhile, or is not ours to read
            mark = _mark_of(pid)
            group = os.getpgid(int(pid))
            if mark is not None and not is_alive(mark) and group != os.getpgrp():
                os.killpg(group, signal.SIGKILL)
                swept.add(group)
    return sorted(swept)


def _mark_of(pid: str) -> str | None:
    if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
        return None
    with open(f"/proc/{pid}/environ", "rb") as file:
        for entry in file.read().split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name == MARK.encode():
                return value.decode(errors="replace")
    return None


def _started(pid: int) -> int | None:
    """When process *pid* started, in clock ticks since boot; None when it is dead."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _pid_namespace() -> str:
    return os.readlink("/proc/self/ns/pid").strip("pid:[]")
