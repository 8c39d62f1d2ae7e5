"""The bodies of requests and answers: a segment that can be sent again, and an object that is read to its end."""

from __future__ import annotations

import hashlib
import io
from typing import Any, Self

from blocks.destinations.b2_bucket import Bucket
from blocks.destinations.b2_errors import NothingThere, translated
from vault.errors import AlreadyExists, DestinationError, DestinationUnavailable, SpoolError
from vault.spool import Segment

BLOCK = 1024 * 1024
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
        """The MD5 of all of it, from its start; then it stands there again."""
        digest = hashlib.md5(usedforsecurity=False)  # S3's own check of a body
        self.seek(0)
        while data := self.read(BLOCK):
            digest.update(data)
        self.seek(0)
        return digest.digest()


class Reader(io.RawIOBase):
    """*key* from *offset* on. A connection that breaks is made again where it broke, to the very same object (T02)."""

    def __init__(self, bucket: Bucket, key: str, offset: int) -> None:
        self._bucket, self._key, self._position = bucket, key, offset
        self._etag = ""
        self._size = offset
        self._body: Any = None
        self._open()

    def _open(self) -> None:
        same = {"IfMatch": self._etag} if self._etag else {}
        try:
            with translated(self._bucket.what(self._key)):
                answer = self._bucket.client.get_object(
                    **self._bucket.address(self._key), Range=f"bytes={self._position}-", **same
                )
        except NothingThere:  # an empty object, or the end of one
            return
        except AlreadyExists as error:
            raise DestinationError(f"{self._bucket.what(self._key)} was exchanged while it was read") from error
        self._etag, self._body = answer["ETag"], answer["Body"]
        self._size = self._position + int(answer["ContentLength"])

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As files do; raises ``DestinationUnavailable`` where the object cannot be had to its end (T11)."""
        for tries_left in reversed(range(_TRIES)):
            try:
                return self._read(buffer)
            except DestinationUnavailable:
                if not tries_left:
                    raise
                self._drop()
        raise AssertionError("unreachable")

    def _read(self, buffer: Any) -> int:
        if self._position >= self._size:
            return 0
        if self._body is None:
            self._open()
        with translated(self._bucket.what(self._key)):
            count = int(self._body.readinto(buffer))
        self._position += count
        if not count and len(buffer):
            raise DestinationUnavailable(
                f"{self._bucket.what(self._key)}: {self._position} of its {self._size} bytes came"
            )
        return count

    def _drop(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()

    def close(self) -> None:
        """Give the connection back, or break it where something is left in it."""
        self._drop()
        super().close()
