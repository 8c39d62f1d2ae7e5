"""A tool that runs behind SSH: its output with flow control, its errors in a ring, its status, and its certain end."""

from __future__ import annotations

import io
import re
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, cast

import paramiko

from blocks.framed import FramedInput
from blocks.ssh.links import Link
from blocks.ssh.wire import gather
from vault.command import Command, exit_code, judge_by_shell, silent
from vault.errors import SourceError, SourceUnavailable
from vault.pipes import Tail
from vault.process import PIPE_BYTES
from vault.said import told

WINDOW = 8 * 1024 * 1024
"""Bytes of output that may be on their way, or wait for us."""

_PACKET = 32 * 1024 - 64  # what a channel sends to OpenSSH in one packet
_FAREWELL = 10.0  # seconds for a tool to end that was killed
_GREETING = 1024 * 1024  # bytes that the account's start-up files may print before the tool
_NO_SUCH = re.compile(r"^(env|.*/env): .*(No such file or directory|Permission denied)", re.MULTILINE)


def new_mark() -> str:
    """What is printed before a tool's own output begins, which nobody else prints."""
    return f"backups-{secrets.token_hex(16)}"


class RemoteTool:
    """A tool that runs. It is killed, with all that it started, when the channel's input ends before its own end."""

    stdin: BinaryIO
    stdout: BinaryIO

    def __init__(self, command: Command, channel: paramiko.Channel, link: Link, where: str, mark: str) -> None:
        self.command = command
        self._channel, self._link, self._where = channel, link, where
        self._judged = threading.Lock()
        self._killed = False
        self._exit_code: int | None = None
        channel.settimeout(command.idle_timeout)
        self._stderr = Tail(_AfterMark(self._read_stderr, mark), told(command.name, command.secrets))
        self._output = _Output(channel, self._silent, self._at_end, self._at_cut)
        self._await_mark(mark)
        self.stdout = cast("BinaryIO", io.BufferedReader(self._output, PIPE_BYTES))
        self.input = FramedInput(self._send, self._refused)
        self.stdin = cast("BinaryIO", self.input)

    @property
    def warnings(self) -> list[str]:
        """See ``RunningTool.warnings``."""
        return self._stderr.lines(self.command.secrets)

    @property
    def exit_code(self) -> int | None:
        """See ``RunningTool.exit_code``."""
        return self._exit_code

    def finish(self) -> None:
        """Wait for its end and check its status. None at all: the connection died, or somebody killed it there."""
        if not self._channel.status_event.wait(self.command.idle_timeout):
            raise self._silent()
        self._stderr.join()
        code = self._channel.exit_status
        if code == -1:
            if not self._link.alive:
                raise self._lost()
            said = "\n".join(self.warnings) or "it said nothing"
            raise SourceUnavailable(f"{self.command.name} on {self._where} was killed: {said}")
        self._exit_code = exit_code(code)
        judge_by_shell(self.command, self._exit_code, self.warnings, _NO_SUCH, f" on {self._where}")

    def kill(self) -> None:
        """See ``RunningTool.kill``. The end of the line is the order to kill: it comes also when we cannot give it."""
        self._killed = True
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.shutdown_write()

    def close(self) -> None:
        """Leave nothing behind: it has ended, or nobody can know. Idempotent."""
        if not self._channel.status_event.is_set():
            self.kill()
            self._drain(time.monotonic() + _FAREWELL)
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()
        self._stderr.join()

    def _drain(self, deadline: float) -> None:
        """Take what is on its way: before that, the other side does not say that the tool has ended."""
        self._channel.settimeout(0.1)
        while not self._channel.status_event.is_set() and time.monotonic() < deadline:
            try:
                if not self._channel.recv(WINDOW):
                    self._channel.status_event.wait(max(0.0, deadline - time.monotonic()))
            except (OSError, EOFError):
                continue

    def _await_mark(self, mark: str) -> None:
        """Pass over what the account's start-up files print (to stdout, where the dump is to come)."""
        seen, wanted = b"", mark.encode() + b"\n"
        buffer = bytearray(4096)
        while (found := seen.find(wanted)) < 0:
            count = self._output.readinto(buffer)
            seen += buffer[:count]
            if not count:
                self._stderr.join()
                self.finish()
                raise SourceError(f"{self._where} did not run a command: is the account's shell a POSIX one?")
            if len(seen) > _GREETING:
                raise SourceError(f"{self._where} prints without end", "Look at the shell's start-up files there.")
        self._output.unread(seen[found + len(wanted) :])

    def _read_stderr(self, size: int) -> bytes:
        while True:
            try:
                return self._channel.recv_stderr(size)
            except TimeoutError:  # the time-out of its output, which is the channel's
                continue

    def _send(self, data: bytes) -> bool:
        view = memoryview(data)
        for begin in range(0, len(view), _PACKET):
            piece = bytes(view[begin : begin + _PACKET])
            while piece:
                try:
                    sent = self._channel.send(piece)
                except TimeoutError:
                    raise self._silent() from None
                except (OSError, EOFError, paramiko.SSHException):
                    return False
                if not sent:
                    return False
                piece = piece[sent:]
        return True

    def _silent(self) -> SourceError:
        self.kill()
        return silent(self.command)

    def _at_end(self) -> None:
        """The output has ended: because the tool has, and not the connection."""
        if not self._killed and not self._link.alive:
            self.finish()

    def _at_cut(self) -> None:
        """The connection failed in the middle of the output."""
        if not self._killed:
            raise self._lost()

    def _lost(self) -> SourceUnavailable:
        lost = f"the connection to {self._where} was lost while {self.command.name} ran"
        return SourceUnavailable(lost, "\n".join(self.warnings))

    def _refused(self) -> SourceError:
        """Why its input cannot be written: raises the tool's own error where it has one."""
        self.finish()
        return SourceError(f"{self.command.name} stopped reading before the end of its input")


class _Output(io.RawIOBase):
    """What comes: it is asked for only when somebody reads, so at most a window of it waits here."""

    def __init__(
        self,
        channel: paramiko.Channel,
        silent: Callable[[], SourceError],
        at_end: Callable[[], None],
        at_cut: Callable[[], None],
    ) -> None:
        self._channel, self._silent, self._at_end, self._at_cut = channel, silent, at_end, at_cut
        self._rest = memoryview(b"")
        self._flowing = False

    def readable(self) -> bool:
        return True

    def unread(self, data: bytes) -> None:
        """*data* comes again, before what has not been read."""
        self._rest = memoryview(data + bytes(self._rest))

    def readinto(self, buffer: memoryview | bytearray) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = memoryview(self._received())
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _received(self) -> bytes:
        if self._flowing:
            gather(self._channel.in_buffer)
        try:
            # All there is: paramiko would move what is left of it with each piece that is taken.
            data = self._channel.recv(2 * WINDOW)
            self._flowing = len(data) > _PACKET
        except TimeoutError:
            raise self._silent() from None
        except (OSError, EOFError, paramiko.SSHException):
            # It was taken, and lost with the word that we took it: more may wait, which must not follow on a gap.
            self._at_cut()
            return b""
        if not data:
            self._at_end()
        return data


class _AfterMark:
    """Reads on where the mark was: what comes before is none of the tool's."""

    def __init__(self, read: Callable[[int], bytes], mark: str) -> None:
        self._read, self._mark, self._seen = read, mark.encode() + b"\n", b""

    def __call__(self, size: int) -> bytes:
        if not self._mark:
            return self._read(size)
        while chunk := self._read(size):
            self._seen = (self._seen + chunk)[-_GREETING:]
            _, found, rest = self._seen.partition(self._mark)
            if found:
                self._mark = b""
                return rest or self._read(size)
        return self._seen
