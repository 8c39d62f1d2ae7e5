"""Streams in between: of chunks, with a digest, from thread to thread. None of them swallows an error."""

from __future__ import annotations

import hashlib
import io
import queue
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import BinaryIO

from vault.spool import MIB, Buffer

_AHEAD = 8  # reads of at most 1 MiB that may wait to be hashed


class Digesting(io.RawIOBase):
    """A stream whose `size` and `sha256` are those of what was read through it; a thread of its own hashes."""

    def __init__(self, stream: BinaryIO) -> None:
        self.size, self._hash, self._stream = 0, hashlib.sha256(), stream
        self._hashing = ThreadPoolExecutor(1, "sha256")
        self._pending: deque[Future[None]] = deque()

    @property
    def sha256(self) -> str:
        self._settle(0)
        return self._hash.hexdigest()

    def readable(self) -> bool:
        return True

    def readinto(self, target: Buffer) -> int:  # type: ignore[override]
        view = memoryview(target)[:MIB]
        count = fill(self._stream, view)
        self._pending.append(self._hashing.submit(self._hash.update, bytes(view[:count])))
        self._settle(_AHEAD)
        self.size += count
        return count

    def close(self) -> None:
        self._hashing.shutdown()
        super().close()

    def _settle(self, left: int) -> None:
        while len(self._pending) > left:
            self._pending.popleft().result()


class Ending(io.RawIOBase):
    """A stream that calls *ended* as soon as it has been read to its end."""

    def __init__(self, stream: BinaryIO, ended: Callable[[], object]) -> None:
        self._readinto: Callable[[Buffer], int] = stream.readinto  # type: ignore[attr-defined]
        self._ended = ended

    def readable(self) -> bool:
        return True

    def readinto(self, target: Buffer) -> int:  # type: ignore[override]
        count = self._readinto(target)
        if not count:
            self._ended()
        return count


class ChunkStream(io.RawIOBase):
    """A file made of chunks. An error is raised again by each later read, lest it be taken for the end."""

    def __init__(self, chunks: Iterator[Buffer]) -> None:
        self._chunks, self._rest = chunks, memoryview(b"")
        self.error: BaseException | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, target: Buffer) -> int:  # type: ignore[override]
        while not self._rest:
            if self.error:
                raise self.error
            try:
                self._rest = memoryview(next(self._chunks))
            except StopIteration:
                return 0
            except BaseException as error:
                self.error = error
                raise
        count = min(len(target), len(self._rest))
        memoryview(target)[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class Sink:
    """A writer for pyrage that counts, and keeps the first error: pyrage may swallow or reword it."""

    def __init__(self, write: Callable[[Buffer], object]) -> None:
        self.size = 0
        self.error: BaseException | None = None
        self._write = write

    def write(self, data: Buffer) -> int:
        if self.error:
            raise self.error
        try:
            self._write(data)
        except BaseException as error:
            self.error = error
            raise
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


class Handover:
    """From the decrypting thread (`write`, `end`) to the reader (iteration, `leave`), at most 4 MiB."""

    def __init__(self) -> None:
        self._queue: queue.Queue[bytearray | BaseException | None] = queue.Queue(3)
        self._left = Event()
        self._filling = bytearray()  # pyrage writes 8 KiB at a time

    def write(self, data: bytes) -> int:
        if self._left.is_set():
            raise BrokenPipeError("the reader left early")
        self._filling += data
        if len(self._filling) >= MIB:
            self._queue.put(self._filling)
            self._filling = bytearray()
        return len(data)

    def flush(self) -> None:
        """Held back until a MiB is full, or the end."""

    def end(self, error: BaseException | None) -> None:
        """Nothing follows: the stream was authenticated to its end, or failed."""
        for item in [error] if error else [self._filling, None]:
            if not self._left.is_set():
                self._queue.put(item)

    def __iter__(self) -> Iterator[Buffer]:
        while isinstance(item := self._queue.get(), bytearray):
            yield item
        if item:
            raise item

    def leave(self) -> None:
        """Free the thread: a `put` that waits gets its place, and any later step sees `_left`."""
        self._left.set()
        while not self._queue.empty():  # nobody else takes from it
            self._queue.get_nowait()


def fill(stream: BinaryIO, view: memoryview) -> int:
    """Read until `view` is full or the stream ends; the number of bytes read."""
    filled = 0
    while filled < len(view):
        rest = view[filled:]
        if isinstance(stream, io.RawIOBase | io.BufferedIOBase):
            count = stream.readinto(rest)
        else:
            data = stream.read(min(len(rest), MIB))
            count = len(data)
            rest[:count] = data
        if count is None:
            raise BlockingIOError("the plain stream must block")
        if count == 0:
            break
        filled += count
    return filled
