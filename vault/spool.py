"""The spool: the encoded stream on local disk, in numbered segments, between one writer and many readers.

The dump writes; each upload and the checksum follow while it grows, and read back what is on disk. A
segment is removed as soon as every reader is done with it. When the spool reaches its limit (its own
bytes, or what the disk can spare) the writer waits: back-pressure reaches the dump. A reader may hold
the writer back for `stall_timeout` seconds, then it is dropped and the others go on.
"""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition
from typing import BinaryIO

from vault.errors import ConfigError, SpoolError
from vault.pace import Pace

MIB = 1 << 20
Buffer = bytes | bytearray | memoryview

_REMEDY = "Look at the worker's disk: free space, quota, limits; or put the spool on a larger one."
_POLL = 1.0  # seconds: other programs free disk space without telling us
# From this segment on, segments are so many times as large. A segment is a part of a multipart upload, of which S3
# takes 10 000: with segments of 32 MiB that makes 1.5 TiB, if the spool's limit lets them grow.
_GROWTH = ((6000, 8), (2000, 4), (0, 1))


@dataclass(frozen=True)
class Segment:
    """Bytes `offset` to `offset + size` of an artifact, in a file of the spool or in memory."""

    index: int
    offset: int
    size: int
    source: Path | bytes
    pace: Pace | None = field(default=None, compare=False)
    """How fast it is read, by those who send it."""

    @classmethod
    def of(cls, data: bytes, index: int = 0, offset: int = 0) -> Segment:
        """A segment in memory: for small objects such as records."""
        return cls(index, offset, len(data), data)

    def open(self) -> BinaryIO:
        """The segment's bytes from their start, at its pace; `SpoolError` if the file is gone."""
        return self._opened() if self.pace is None else self.pace.reading(self._opened())

    def _opened(self) -> BinaryIO:
        if isinstance(self.source, bytes):
            return io.BytesIO(self.source)
        try:
            return os.fdopen(os.open(self.source, os.O_RDONLY | os.O_NOFOLLOW), "rb")
        except OSError as error:
            raise SpoolError(f"segment {self.source} is gone: {error.strerror}") from error

    def read(self) -> bytes:
        """All its bytes; `SpoolError` unless it has its size."""
        with self.open() as file:
            data = file.read()
        if len(data) != self.size:
            raise SpoolError(f"segment {self.source!s:.200} has {len(data)} of {self.size} bytes")
        return data


class Spool:
    """One writer, many readers, at most `limit` bytes on disk. Every method may be called by any thread.

    `directory` is created 0700 and must not exist. The writer calls `write` and at last `close` (only
    when the dump is proven complete: a reader takes it for the end) or `abort`. Register all readers first.
    `others` says whether other spools of this run fill the disk, which they will free.
    """

    def __init__(
        self,
        directory: Path,
        *,
        limit: int,
        segment_size: int = 32 * MIB,
        reserve: int = 256 * MIB,
        stall_timeout: float,
        others: Callable[[], bool] = lambda: False,
    ) -> None:
        if segment_size < 1 or limit < 2 * segment_size:
            raise ConfigError(
                f"a spool of {limit} bytes cannot hold two segments of {segment_size} bytes",
                "Raise the spool's limit, or choose smaller segments.",
            )
        self.directory, self.limit, self.segment_size = directory, limit, segment_size
        self.reserve, self.stall_timeout, self._others = reserve, stall_timeout, others
        self.size = self.peak = self.bytes_on_disk = 0
        self._changed = Condition()
        self._sealed: list[Segment] = []
        self._kept: dict[int, Segment] = {}  # sealed and still on disk, oldest first
        self._readers: list[Reader] = []  # those alive
        self._registered = self._destinations = 0  # readers ever, and those of them that are essential
        self._file: io.FileIO | None = None  # the segment being written
        self._filled = 0
        self._closed = False
        self._error: BaseException | None = None
        with self._disk("created"):
            directory.mkdir(mode=0o700)

    # -- the writer

    def write(self, data: Buffer) -> None:
        """Append `data`; waits while the spool is full. A failure is a `SpoolError` and aborts the spool."""
        with self._changed:
            if self._closed:
                raise SpoolError("the spool is closed")
            try:
                self._write(memoryview(data).cast("B"))
            except BaseException as error:  # part of `data` may be written: nobody may take it for whole
                self.abort(error)
                raise

    def close(self) -> None:
        """The stream ends here, whole: readers that took every segment see the end."""
        with self._changed:
            self._raise_if_useless()
            if self._file:
                self._seal(self._file)
            self._closed = True
            self._changed.notify_all()

    def abort(self, error: BaseException) -> None:
        """The stream will not become whole: every reader, and a waiting writer, fails at once."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def destroy(self) -> None:
        """Remove the files and the directory. May be called twice; whoever still reads or writes fails."""
        with self._changed:
            self.abort(SpoolError("the spool was destroyed"))
            if self._file:
                self._file.close()
            self._file, self.bytes_on_disk = None, 0
            self._kept.clear()
            with self._disk("removed"), suppress(FileNotFoundError):
                shutil.rmtree(self.directory)

    def _write(self, rest: memoryview) -> None:
        while rest:
            self._raise_if_useless()
            file = self._file or self._begin_segment()
            rest = rest[self._append(file, rest[: self._room - self._filled]) :]
            if self._filled == self._room:
                self._seal(file)

    def _begin_segment(self) -> io.FileIO:
        self._wait_for_room()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with self._disk("written"):
            self._file = io.FileIO(os.open(self._path(len(self._sealed)), flags, 0o600), "w")
        self._filled = 0
        return self._file

    def _append(self, file: io.FileIO, data: memoryview) -> int:
        with self._disk("written"):
            written = file.write(data)
        self._filled += written
        self.size += written
        self.bytes_on_disk += written
        self.peak = max(self.peak, self.bytes_on_disk)
        return written

    def _seal(self, file: io.FileIO) -> None:
        with self._disk("written"):
            file.close()
        index = len(self._sealed)
        segment = Segment(index, self.size - self._filled, self._filled, self._path(index))
        self._file, self._filled = None, 0
        self._sealed.append(segment)
        self._kept[index] = segment
        self._sweep()

    @property
    def _room(self) -> int:
        """How many bytes the segment that is being written, or comes next, may have."""
        growth = next(times for first, times in _GROWTH if len(self._sealed) >= first)
        return max(self.segment_size, min(self.segment_size * growth, self.limit // 4))

    def _wait_for_room(self) -> None:
        """Wait until a whole segment fits; after `stall_timeout` without progress drop who holds it back."""
        freed, since = self._freed, time.monotonic()
        while True:
            self._raise_if_useless()
            if self._fits():
                return
            if self._freed != freed:
                freed, since = self._freed, time.monotonic()
            left = since + self.stall_timeout - time.monotonic()
            if left <= 0:
                self._drop_laggards()
            else:
                self._changed.wait(min(left, _POLL))

    def _fits(self) -> bool:
        if self.bytes_on_disk + self._room > self.limit:
            return False
        with self._disk("measured"):
            disk = os.statvfs(self.directory)
        free = disk.f_bavail * disk.f_frsize
        if free >= self.reserve + self._room:
            return True
        if not self._kept and not self._others():  # nothing of ours is left that could be freed
            raise SpoolError(
                f"the spool's disk at {self.directory} has {free // MIB} MiB free; a segment and the"
                f" reserve need {(self.reserve + self._room) // MIB} MiB",
                _REMEDY,
            )
        return False

    @property
    def _freed(self) -> int:
        return len(self._sealed) - len(self._kept)

    def _raise_if_useless(self) -> None:
        if self._error:
            raise SpoolError("the dump was abandoned") from self._error
        if self._destinations and not any(r.essential for r in self._readers):
            raise SpoolError("no destination is left to take the dump", "See each upload's own error.")

    def _drop_laggards(self) -> None:
        oldest = next(iter(self._kept), len(self._sealed))  # none: other spools fill the disk
        laggards = [reader for reader in self._readers if self._kept and reader._holds(oldest)]
        if not laggards:
            raise SpoolError(f"the spool is full and nobody read it for {self.stall_timeout:g} s")
        for reader in laggards:
            reader._error = SpoolError(
                f"{reader.name} held the dump back for {self.stall_timeout:g} s and was dropped",
                "Look at the speed and the health of that destination, or raise the spool's limit.",
            )
            self._readers.remove(reader)
        self._sweep()

    # -- the readers

    def reader(self, name: str, *, essential: bool = True) -> Reader:
        """A new reader, from the first segment on. Without an `essential` one the dump is pointless."""
        with self._changed:
            if self._freed:
                raise SpoolError(f"{name} came too late: segments were already removed")
            reader = Reader(self, name, essential)
            self._readers.append(reader)
            self._registered += 1
            self._destinations += essential
            return reader

    def _sweep(self) -> None:
        """Remove each segment that every living reader is done with; wake everybody."""
        finished = [i for i in self._kept if not any(r._holds(i) for r in self._readers)]
        for index in finished if self._registered else []:
            self.bytes_on_disk -= self._kept.pop(index).size
            with self._disk("emptied"):
                self._path(index).unlink(missing_ok=True)
        self._changed.notify_all()

    def _path(self, index: int) -> Path:
        return self.directory / f"{index:06}.seg"

    @contextmanager
    def _disk(self, verb: str) -> Iterator[None]:
        """A failure of the local disk is ours, never the source's or a destination's."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise SpoolError(f"the spool at {self.directory} could not be {verb}: {reason}", _REMEDY) from error


class Reader:
    """One follower of a spool. Iterating yields, in order, each segment that is not yet `done`.

    It waits for the writer, ends only after `Spool.close`, and raises `SpoolError` when the dump was
    abandoned or this reader was dropped. A retried upload iterates again: it gets what is not yet done.
    """

    def __init__(self, spool: Spool, name: str, essential: bool) -> None:
        self.spool, self.name, self.essential = spool, name, essential
        self._floor = 0  # every segment below is done
        self._done: set[int] = set()  # done above the floor, out of order
        self._error: BaseException | None = None

    def __iter__(self) -> Iterator[Segment]:
        index = self._floor
        while segment := self._get(index):
            if self._holds(index):
                yield segment
            index += 1

    def done(self, segment: Segment) -> None:
        """This reader never needs `segment` again."""
        with self.spool._changed:
            self._done.add(segment.index)
            while self._floor in self._done:
                self._done.remove(self._floor)
                self._floor += 1
            self.spool._sweep()

    def rewind(self) -> bool:
        """Begin again at the first segment; False, and nothing changes, where it is not on disk any more."""
        with self.spool._changed:
            if self._error or self.spool._freed:
                return False
            self._floor = 0
            self._done.clear()
            return True

    def close(self) -> None:
        """Leave for good: the others are not held back by this reader any more."""
        with self.spool._changed:
            self._error = self._error or SpoolError(f"{self.name} left the spool")
            if self in self.spool._readers:
                self.spool._readers.remove(self)
            self.spool._sweep()

    def _holds(self, index: int) -> bool:
        return index >= self._floor and index not in self._done

    def _get(self, index: int) -> Segment | None:
        spool = self.spool
        with spool._changed:
            while True:
                if self._error:
                    raise self._error
                if spool._error:
                    raise SpoolError("the dump was abandoned") from spool._error
                if index < len(spool._sealed):
                    return spool._sealed[index]
                if spool._closed:
                    return None
                spool._changed.wait()
