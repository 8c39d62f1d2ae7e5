"""The socket below SSH: it gives up in time, and asks the kernel less often than paramiko would have it do."""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import paramiko

_READ_AHEAD = 1024 * 1024  # of the encrypted stream
_GATHERED, _NAP = 512 * 1024, 0.001


class PatientSocket(socket.socket):
    """A socket that fails at its ``deadline``, whatever trickles in until then (T20).

    paramiko looks at its socket at least ten times a second, also while it waits for the other side to read.
    """

    def __init__(self, plain: socket.socket) -> None:
        """Takes the connection of *plain* over."""
        super().__init__(fileno=plain.detach())
        self.deadline = math.inf
        self.expired = False
        self._ahead = memoryview(b"")
        # The same connection: a socket with a time-out asks the kernel before each send, this one does not.
        self._now = socket.socket(fileno=os.dup(self.fileno()))
        self._now.setblocking(False)

    def close(self) -> None:
        self._now.close()
        super().close()

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Reads ahead: paramiko asks for each packet in two small pieces."""
        _look(self)
        if not self._ahead:
            self._ahead = memoryview(super().recv(_READ_AHEAD, flags))
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return bytes(data)

    def send(self, data: Any, flags: int = 0) -> int:
        """Tries first, and waits only where it has to."""
        _look(self)
        try:
            return self._now.send(data, flags)
        except BlockingIOError:
            return super().send(data, flags)

    @property
    def ended(self) -> bool:
        """Whether the other side has closed it, as far as this side knows."""
        poll = select.poll()
        try:
            poll.register(self, select.POLLIN)
            return not self._ahead and bool(poll.poll(0)) and not super().recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):  # reset, or closed here
            return True

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """What is done meanwhile may last so long; ``TimeoutError`` where it does not end in time."""
        return _within(self, seconds)


class PatientChannel:
    """The same through another SSH server, which carries it to where we want to: closing it ends that one too."""

    def __init__(self, channel: paramiko.Channel, end: Callable[[], None]) -> None:
        self._channel, self._end = channel, end
        self.deadline = math.inf
        self.expired = False

    def close(self) -> None:
        """End it, and the way to it."""
        with suppress(EOFError, OSError, paramiko.SSHException):  # it may be gone already
            self._channel.close()
        self._end()

    @property
    def _closed(self) -> bool:
        """What paramiko asks a socket while it ends a connection."""
        return bool(self._channel.closed)

    def settimeout(self, seconds: float | None) -> None:
        """As a socket has it."""
        self._channel.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        """As a socket has it."""
        _look(self)
        return self._channel.recv(size)

    def send(self, data: bytes) -> int:
        """As a socket has it."""
        _look(self)
        return self._channel.send(bytes(data))

    @property
    def ended(self) -> bool:
        """Whether it is closed, as far as this side knows."""
        return bool(self._channel.closed or self._channel.eof_received)

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """What is done meanwhile may last so long; ``TimeoutError`` where it does not end in time."""
        return _within(self, seconds)


def gather(waiting: Sized) -> None:
    """Let more come where little is *waiting*: to be woken for each packet costs both threads more than it brings."""
    if len(waiting) < _GATHERED:
        time.sleep(_NAP)


Wire = PatientSocket | PatientChannel
"""What SSH runs on."""


def _look(wire: Wire) -> None:
    if time.monotonic() > wire.deadline:
        wire.expired = True
        # Not ETIMEDOUT: paramiko takes that for its own short time-out, and tries again.
        raise ConnectionAbortedError(errno.ECONNABORTED, "no whole answer in time")


@contextmanager
def _within(wire: Wire, seconds: float) -> Iterator[None]:
    wire.deadline = time.monotonic() + seconds
    try:
        yield
    except (EOFError, OSError, paramiko.SSHException) as error:
        if wire.expired:
            raise TimeoutError(errno.ETIMEDOUT, f"no whole answer within {seconds:g} s") from error
        raise
    finally:
        wire.deadline = math.inf
