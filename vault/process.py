"""Run tools: the one place where this project starts another program.

What holds for every tool:

* argv lists and an environment by allow-list; standard input is empty unless it is given.
* A session and process group of its own, so that stopping it stops what it has started.
* It dies with us: ``setpriv --pdeathsig`` (util-linux) has the kernel kill it when *the thread that
  started it* ends. So that thread has to live through the tool's life. Where that is not enough (what
  the tool itself has started, no setpriv), ``vault.orphans`` of the next run ends what is left.
* Its exit status is checked, whatever it wrote; the tail of its stderr is kept in bounded memory,
  free of the given secrets.
"""

from __future__ import annotations

import fcntl
import io
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache, partial
from typing import IO, BinaryIO, Protocol, TypeVar, cast

from vault.command import LOW, judge, not_installed, silent
from vault.command import Command as Command
from vault.command import Completed as Completed
from vault.errors import IncompleteDump, SourceError
from vault.orphans import MARK, run_mark
from vault.pipes import Input, Output, Tail
from vault.said import told

PIPE_BYTES = 1024 * 1024

_INHERITED = (
    *("PATH", "HOME", "TMPDIR", "TZ"),
    # Which daemon `docker` talks to.
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"),
)


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
            [*tied_to_us(), *(lowered() if command.priority == "low" else ()), *argv],
            bufsize=0,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=command.cwd,
            start_new_session=True,
        )
        self._end = os.pidfd_open(self._process.pid)
        said = told(command.name, command.secrets)
        self._stderr = Tail(partial(os.read, cast("IO[bytes]", self._process.stderr).fileno()), said)
        if self._process.stdout is not None:
            _widen(self._process.stdout.fileno())
            self.stdout = io.BufferedReader(Output(self._process.stdout, self.await_ready), PIPE_BYTES)
        if self._process.stdin is not None:
            _widen(self._process.stdin.fileno())
            self.stdin = cast("BinaryIO", Input(self._process.stdin, self.await_ready, self.finish, command.name))

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
        judge(self.command, self._process.returncode, self.warnings)

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
            raise silent(self.command)

    def _reap(self) -> None:
        """Wait for the tool; while its id is still ours, end what it left in its group."""
        if self._process.returncode is None:
            select_end = select.poll()
            select_end.register(self._end, select.POLLIN)
            select_end.poll()
            self.kill()
            self._process.wait()
            self._stderr.join()


class Killable(Protocol):
    """What ends when this process is told to."""

    def kill(self) -> None: ...
    def close(self) -> None: ...


K = TypeVar("K", bound=Killable)
_live: set[Killable] = set()


def kill_all() -> None:
    """Kill every tool that this process runs: whoever waits for one, in any thread, goes on with its failure."""
    for tool in tuple(_live):
        tool.kill()


@contextmanager
def living(tool: K) -> Iterator[K]:
    """*tool* is one that ``kill_all`` kills; closed at exit."""
    _live.add(tool)
    try:
        yield tool
    finally:
        _live.discard(tool)
        tool.close()


def _running(command: Command, stdin: int, stdout: int) -> AbstractContextManager[Tool]:
    return living(Tool(command, stdin, stdout))


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
        raise not_installed(command)
    return found


@cache
def tied_to_us(signal_name: str = "KILL") -> tuple[str, ...]:
    """What goes before an argv so that the kernel sends that signal when the thread ends that started it."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", signal_name, "--") if setpriv else ()


@cache
def lowered() -> tuple[str, ...]:
    """What goes before an argv so that it gives way to others, see ``LOW``; what does not work here is left out."""
    working: list[str] = []
    for way in LOW:
        with suppress(SourceError):
            run(Command((*way, "true")))
            working += [which(way[0]) or way[0], *way[1:]]
    return tuple(working)


def _widen(fd: int) -> None:
    with suppress(OSError):  # over the user's limit for pipes: the default size will do
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
