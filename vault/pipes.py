"""The pipes to and from a tool: none of them blocks for ever, floods memory, or loses an error."""

from __future__ import annotations

import io
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO

from vault.errors import SourceError, printable, redact
from vault.said import LINE_CHARACTERS, Told

STDERR_BYTES = 64 * 1024
STDERR_LINES = 25
_NAP = 0.001

Ready = Callable[[int, int], None]
"""Waits until a descriptor is ready for an event of ``select.poll``, or raises."""


class Output(io.RawIOBase):
    """The read end of a pipe: waits no longer than the tool's idle timeout."""

    def __init__(self, pipe: IO[bytes], ready: Ready) -> None:
        self._pipe, self._ready = pipe, ready
        os.set_blocking(pipe.fileno(), False)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            try:
                return os.readv(self._pipe.fileno(), [buffer])
            except BlockingIOError:
                self._ready(self._pipe.fileno(), select.POLLIN)
                # Tools write 4 KiB at a time: let some gather, rather than wake for each.
                time.sleep(_NAP)


class Input(io.RawIOBase):
    """The write end of a pipe: each write is whole, or raises what became of the tool."""

    def __init__(self, pipe: IO[bytes], ready: Ready, finish: Callable[[], None], name: str) -> None:
        self._pipe, self._ready, self._finish, self._name = pipe, ready, finish, name
        os.set_blocking(pipe.fileno(), False)

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._pipe.fileno(), rest) :]
            except BlockingIOError:
                self._ready(self._pipe.fileno(), select.POLLOUT)
            except BrokenPipeError:
                self._finish()
                raise SourceError(f"{self._name} stopped reading before the end of its input") from None
        return len(data)

    def close(self) -> None:
        self._pipe.close()
        super().close()


class Tail:
    """Reads a tool's stderr to its end in a thread of its own and keeps the tail (S10)."""

    def __init__(self, read: Callable[[int], bytes], told: Told | None = None) -> None:
        """*read* gives at most so many bytes, and none at the end; all of it is *told* too."""
        self._source, self._told = read, told
        self._kept, self._size, self._lines = b"", 0, 0
        self._thread = threading.Thread(target=self._read, name="stderr", daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(timeout=5)

    def _read(self) -> None:
        with suppress(OSError, ValueError):  # closed by us: what was read is what there is
            while chunk := self._source(STDERR_BYTES):
                self._size += len(chunk)
                self._lines += chunk.count(b"\n")
                self._kept = (self._kept + chunk)[-STDERR_BYTES:]
                if self._told is not None:
                    self._told.take(chunk)
        if self._told is not None:
            self._told.end()

    def lines(self, secrets: Sequence[str]) -> list[str]:
        text = self._kept.decode(errors="replace")
        if self._size > len(self._kept):  # its beginning may be the rest of a secret
            text = text.partition("\n")[2] or text[max(map(len, secrets), default=0) :]
        found = [line for line in redact(text, secrets).splitlines() if line.strip()]
        return [printable(line[:LINE_CHARACTERS]) for line in found[-STDERR_LINES:]]
