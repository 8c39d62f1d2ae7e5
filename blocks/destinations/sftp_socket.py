"""The socket below SSH: it gives up in time, and asks the kernel less often than paramiko would have it do."""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import paramiko

_READ_AHEAD = 1024 * 1024  # of the encrypted stream


class PatientSocket(socket.socket):
    """A socket that fails at its ``deadline``, whatever trickles in until then (T20).

    paramiko looks at its socket at least ten times a second, also while it waits for the other side to read.
    """

    deadline = math.inf
    expired = False
    _ahead = memoryview(b"")

    def _look(self) -> None:
        if time.monotonic() > self.deadline:
            self.expired = True
            # Not ETIMEDOUT: paramiko takes that for its own short time-out, and tries again.
            raise ConnectionAbortedError(errno.ECONNABORTED, "no whole answer in time")

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Reads ahead: paramiko asks for each packet in two small pieces."""
        self._look()
        if not self._ahead:
            self._ahead = memoryview(super().recv(_READ_AHEAD, flags))
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return bytes(data)

    def send(self, data: Any, flags: int = 0) -> int:
        """Tries first: a socket with a time-out asks the kernel whether it may, before each time."""
        self._look()
        try:
            return os.write(self.fileno(), data)
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

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """What is done meanwhile may last so long; ``TimeoutError`` where it does not end in time."""
        self.deadline = time.monotonic() + seconds
        try:
            yield
        except (EOFError, OSError, paramiko.SSHException) as error:
            if self.expired:
                raise TimeoutError(errno.ETIMEDOUT, f"no whole answer within {seconds:g} s") from error
            raise
        finally:
            self.deadline = math.inf
