"""A destination that fails on demand: another one behind a wrapper. Without a fault it keeps every promise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Literal, Self

from pydantic import PrivateAttr

from blocks.destinations.base import Destination, Upload
from vault.errors import DestinationUnavailable, NoSpace
from vault.spool import Segment
from vault.store import Digest, StoredObject

Call = Literal["upload", "append", "commit", "open", "stat", "list", "remove", "digest", "check"]


@dataclass
class Faults:
    """What goes wrong. ``unavailable``: how often each call fails before it works. ``calls``: all that were made."""

    full_at: int | None = None
    """No space beyond this byte of an upload."""
    short: bool = False
    """The last byte of each object is lost, silently."""
    flip: bool = False
    """One bit of the first byte of each object is stored wrongly, silently."""
    lost_answer: bool = False
    """Each commit succeeds, and says that it did not."""
    short_list: bool = False
    """A listing breaks after its first object."""
    lost: frozenset[str] = frozenset()
    """Keys that a listing leaves out, though they are there."""
    unavailable: dict[Call, int] = field(default_factory=dict)
    calls: list[tuple[Call, str]] = field(default_factory=list)

    def call(self, name: Call, key: str = "") -> None:
        """Note the call; fail if it is to."""
        self.calls.append((name, key))
        if self.unavailable.get(name, 0) > 0:
            self.unavailable[name] -= 1
            raise DestinationUnavailable(f"{name} was made to fail")


class FaultyDestination(Destination):
    """*inner*, with faults."""

    _inner: Destination = PrivateAttr()
    _faults: Faults = PrivateAttr()

    @classmethod
    def around(cls, inner: Destination, faults: Faults | None = None) -> Self:
        """A wrapper of *inner*."""
        faulty = cls()
        faulty._inner, faulty._faults = inner, faults or Faults()
        return faulty

    @property
    def inner(self) -> Destination:
        """What is behind."""
        return self._inner

    @property
    def faults(self) -> Faults:
        """To be changed at will."""
        return self._faults

    @property
    def location(self) -> str:
        return self._inner.location

    @property
    def paths(self) -> tuple[Path, ...]:
        return self._inner.paths

    def prepare(self) -> None:
        self._inner.prepare()

    def check(self) -> None:
        self._faults.call("check")
        super().check()

    def _begin(self, key: str, resume: str | None) -> Upload:
        self._faults.call("upload", key)
        return _FaultyUpload(self._inner.upload(key, resume), key, self._faults)

    def _read(self, key: str, offset: int) -> AbstractContextManager[BinaryIO]:
        self._faults.call("open", key)
        return self._inner.open(key, offset)

    def stat(self, key: str) -> StoredObject:
        self._faults.call("stat", key)
        return self._inner.stat(key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        self._faults.call("list", prefix)
        found = (stored for stored in self._inner.list(prefix) if stored.key not in self._faults.lost)
        return _broken(found) if self._faults.short_list else found

    def remove(self, key: str) -> None:
        self._faults.call("remove", key)
        self._inner.remove(key)

    def digest(self, key: str) -> Digest | None:
        self._faults.call("digest", key)
        return self._inner.digest(key)

    def kept_until(self, key: str) -> datetime | None:
        return self._inner.kept_until(key)

    def free_space(self) -> int | None:
        return self._inner.free_space()


class _FaultyUpload(Upload):
    """Passes on; with ``short`` one segment behind, so that the last one is known at commit."""

    def __init__(self, inner: Upload, key: str, faults: Faults) -> None:
        self._inner, self._key, self._faults = inner, key, faults
        self._held: Segment | None = None

    @property  # type: ignore[override]
    def token(self) -> str:
        return self._inner.token

    @property  # type: ignore[override]
    def offset(self) -> int:
        return self._inner.offset if self._held is None else self._held.offset + self._held.size

    def append(self, segment: Segment) -> None:
        self._faults.call("append", self._key)
        limit = self._faults.full_at
        if limit is not None and segment.offset + segment.size > limit:
            self._inner.append(Segment.of(segment.read()[: max(0, limit - segment.offset)], 0, segment.offset))
            raise NoSpace("the destination was made to be full")
        if self._faults.flip and segment.offset == 0 and segment.size:
            data = bytearray(segment.read())
            data[0] ^= 1
            segment = Segment.of(bytes(data), segment.index)
        if self._faults.short:
            self._held, segment = segment, self._held or Segment.of(b"")
        self._inner.append(segment)

    def commit(self) -> StoredObject:
        self._faults.call("commit", self._key)
        if self._held is not None:
            self._inner.append(Segment.of(self._held.read()[:-1], self._held.index, self._held.offset))
        stored = self._inner.commit()
        if self._faults.lost_answer:
            raise DestinationUnavailable("the answer to commit was made to be lost")
        return stored

    def abort(self) -> None:
        self._inner.abort()


def _broken(found: Iterator[StoredObject]) -> Iterator[StoredObject]:
    yield from [next(found)]
    raise DestinationUnavailable("the listing was made to break")
