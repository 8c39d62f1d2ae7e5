"""The bodies of requests and answers: a segment that can be sent again, and an object that is read to its end."""

from __future__ import annotations

import hashlib
import io
import re
import time
from dataclasses import replace
from typing import Any, Self

from blocks.destinations.b2_bucket import Bucket
from blocks.destinations.b2_errors import NothingThere, translated
from vault.errors import AlreadyExists, DestinationError, DestinationUnavailable, SpoolError
from vault.spool import Segment

BLOCK = 1024 * 1024
WINDOW = 60.0
SLOWEST = 1024
"""Bytes a second that have to come within so many seconds of waiting for them."""
_TRIES = 3


class Body:
    """A segment as the body of a request. Its errors are the spool's, never the store's (T09, T10)."""

    def __init__(self, segment: Segment) -> None:
        self._segment, self._file = segment, segment.open()

    def __len__(self) -> int:
        return self._segment.size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        """At most *size* bytes, fewer only at the end of the segment."""
        segment = self._segment
        try:
            data = self._file.read(size)
            if not data and size and self._file.tell() < segment.size:
                raise SpoolError(f"segment {segment.index} is shorter than its {segment.size} bytes")
        except OSError as error:
            raise SpoolError(f"segment {segment.index} cannot be read: {error.strerror}") from error
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As files do: a request that is tried again reads from the start."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As files do."""
        return self._file.tell()

    def md5(self) -> bytes:
        """The MD5 of all of it: for that nothing is sent."""
        digest = hashlib.md5(usedforsecurity=False)  # S3's own check of a body
        with Body(replace(self._segment, pace=None)) as same:
            while data := same.read(BLOCK):
                digest.update(data)
        return digest.digest()


class Reader(io.RawIOBase):
    """*key* from *offset* on. A connection that breaks is made again where it broke, to the very same object (T02)."""

    def __init__(self, bucket: Bucket, key: str, offset: int) -> None:
        self._bucket, self._key, self._what = bucket, key, bucket.what(key)
        self._position = self._size = offset
        self._etag = ""
        self._stream: Any = None
        self._waited, self._came = 0.0, 0
        self._connect()

    def _connect(self) -> None:
        same = {"IfMatch": self._etag} if self._etag else {}
        try:
            with translated(self._what):
                answer = self._bucket.client.get_object(
                    **self._bucket.address(self._key), Range=f"bytes={self._position}-", **same
                )
        except NothingThere:  # an empty object, or the end of one
            return
        except AlreadyExists as error:
            raise DestinationError(f"{self._what} was exchanged while it was read") from error
        # boto3's own wrapper waits until all that was asked for has come: of a trickle nobody would hear.
        self._stream = answer["Body"]._raw_stream
        self._etag = answer["ETag"]
        self._size = self._whole(answer)
        self._waited, self._came = 0.0, 0

    def _whole(self, answer: dict[str, Any]) -> int:
        """The size of the object; what comes has to begin where it should."""
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.get("ContentRange", ""))
        begin, size = (int(span[1]), int(span[2])) if span else (0, int(answer["ContentLength"]))
        if begin != self._position:
            raise DestinationError(f"{self._what}: the store does not give the bytes from {self._position} on")
        return size

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As files do; raises ``DestinationUnavailable`` where the object cannot be had to its end (T11)."""
        view = memoryview(buffer).cast("B")[: self._size - self._position]
        if not view:
            return 0
        for tries_left in reversed(range(_TRIES)):
            try:
                count = self._read(view)
                break
            except DestinationUnavailable:
                self._drop()
                if not tries_left:
                    raise
        self._check_pace(count)
        return count

    def _read(self, view: memoryview) -> int:
        if self._stream is None:
            self._connect()
        began = time.monotonic()
        with translated(self._what):
            data = self._stream.read1(len(view)) if self._stream is not None else b""
        self._waited += time.monotonic() - began
        if not data:
            raise DestinationUnavailable(f"{self._what}: only {self._position} of its {self._size} bytes came")
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _check_pace(self, count: int) -> None:
        """Pass unless bytes only trickle: another connection would hardly be a better one (T20)."""
        self._came += count
        if self._waited > WINDOW:
            if self._came < SLOWEST * self._waited:
                raise DestinationUnavailable(f"{self._what}: only {self._came} bytes came in {self._waited:.0f} s")
            self._waited, self._came = 0.0, 0

    def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def close(self) -> None:
        """Break the connection where something is left in it."""
        self._drop()
        super().close()
