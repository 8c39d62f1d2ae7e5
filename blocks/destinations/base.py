"""The promises every destination keeps, whatever lies behind it."""

from __future__ import annotations

import io
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, BinaryIO, cast

from prefect.blocks.core import Block
from pydantic import AfterValidator, BeforeValidator, Field

from blocks.destinations.probe import step
from blocks.loading import reference
from blocks.turns import set_limit
from vault.errors import BackupError, DestinationError, NotFound, ReadBackMismatch
from vault.pace import SLOWEST, Pace, bytes_a_second
from vault.spool import Segment
from vault.store import Digest, StoredObject

PROBE_BYTES = 64 * 1024
_BUFFER = 64 * 1024


def _with_units(value: object) -> object:
    return bytes_a_second(value) if isinstance(value, str) else value


def _no_slip(rate: int) -> int:
    if 0 < rate < SLOWEST:
        raise ValueError(f"{rate} bytes a second is too slow: give a unit, such as 10MB/s")
    return rate


MaxRuns = Annotated[int, Field(ge=0, le=1000, description="How many runs may upload there at once; 0: no limit.")]
MaxWait = Annotated[
    int,
    Field(ge=0, description="Seconds that a run waits for its turn there, then goes on without it; 0: no limit."),
]
Bandwidth = Annotated[
    int,
    Field(ge=0, description="Bytes a second that one run sends there and reads from there, at most; 0: no limit."),
    BeforeValidator(_with_units),
    AfterValidator(_no_slip),
]


class Upload(ABC):
    """An object on its way: invisible under its key until :meth:`commit`.

    ``append`` takes segments in order; one that the destination already holds in part is sent from
    ``offset`` on, one that it holds whole is skipped. After an error the upload may be resumed with
    ``destination.upload(key, resume=upload.token)``, in this or in another process.
    """

    token: str
    offset: int
    """Bytes, from the first on, that the destination holds of this upload, so that nobody has to send them again.

    A small last segment may be held back until ``commit``, without being counted.
    """

    @abstractmethod
    def append(self, segment: Segment) -> None:
        """Send what the destination lacks of *segment*. Raises ``DestinationError`` (see its kinds)."""

    @abstractmethod
    def commit(self) -> StoredObject:
        """Make the object exist, durably, under its key; only now is it visible.

        Where the key is taken by the same bytes this is success; by others it raises ``AlreadyExists``
        and replaces nothing.
        """

    @abstractmethod
    def abort(self) -> None:
        """Drop what was sent. Idempotent; after ``commit`` it does nothing."""


def limit_of(ref: str) -> str:
    """The name of the limit that the destination saved as *ref* may have."""
    return f"backups-{ref.replace('/', '-')}"


class Destination(Block, ABC):
    """A place for objects.

    It promises: an object is complete or absent; nothing is replaced; what ``commit`` returned, ``open``
    and ``list`` see; ``list`` returns everything or raises; ``remove`` is final and idempotent. Keys
    are ``app/name``, see ``vault.store.check_key``; objects that do not fit are never listed.
    """

    max_runs: MaxRuns = 0
    max_wait: MaxWait = 14400
    bandwidth: Bandwidth = 0

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """In the form of a block, what is its own comes before what all have."""
        super().__pydantic_init_subclass__(**kwargs)
        for name in Destination.model_fields:
            cls.model_fields[name] = cls.model_fields.pop(name)

    @property
    @abstractmethod
    def location(self) -> str:
        """Where this is, for a person: never with a secret in it."""

    @abstractmethod
    def prepare(self) -> None:
        """Claim an empty place for backups, as ``destination add`` does. Idempotent."""

    def upload(self, key: str, resume: str | None = None) -> Upload:
        """Begin *key*, or go on with the upload whose token is *resume*."""
        begun, pace = self._begin(key, resume), self._pace
        return begun if pace is None else _PacedUpload(begun, pace)

    @contextmanager
    def open(self, key: str, offset: int = 0) -> Iterator[BinaryIO]:
        """The bytes of *key* from *offset* on. Raises ``NotFound``."""
        with self._read(key, offset) as stream:
            pace = self._pace
            yield stream if pace is None else io.BufferedReader(cast("io.RawIOBase", pace.reading(stream)), _BUFFER)

    @abstractmethod
    def _begin(self, key: str, resume: str | None) -> Upload:
        """See ``upload``: as fast as it goes."""

    @abstractmethod
    def _read(self, key: str, offset: int) -> AbstractContextManager[BinaryIO]:
        """See ``open``: as fast as it goes."""

    @abstractmethod
    def stat(self, key: str) -> StoredObject:
        """Size and time of *key*. Raises ``NotFound``."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object whose key begins with *prefix* (``""`` or ``app/``), or an error: never a part."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove *key* for good; it is no error when it is gone already."""

    @abstractmethod
    def digest(self, key: str) -> Digest | None:
        """A digest that the far side computed from the bytes it stores; None where it cannot."""

    def kept_until(self, key: str) -> datetime | None:
        """Until when a lock keeps *key*, whoever asks to remove it; None where there is none, or nobody can tell."""
        return None

    @property
    def limit(self) -> str:
        """The name of Prefect's global concurrency limit for runs that upload there; empty where there is none."""
        return limit_of(self._reference) if self._block_document_name and self.max_runs else ""

    def set_limit(self) -> None:
        """Have Prefect let ``max_runs`` runs upload there at once."""
        set_limit(limit_of(self._reference), self.max_runs)

    @property
    def _reference(self) -> str:
        return reference(self, self._block_document_name or "")

    @property
    def _pace(self) -> Pace | None:
        return _pace_of(self.location, self.bandwidth) if self.bandwidth else None

    @property
    def parallel(self) -> int:
        """How many segments of an upload may be appended at once, each from a thread of its own."""
        return 1

    @property
    def readers(self) -> int:
        """How many objects are read at once where many are to be read: more than one hides the way to a far one."""
        return 8

    @property
    def wants_md5(self) -> bool:
        """Whether ``digest`` gives an ``etag``, to which the MD5 of each segment has to be known."""
        return False

    @property
    def wants_whole_md5(self) -> bool:
        """Whether ``digest`` may give the ``md5`` of an object, to which that of the whole artifact has to be known."""
        return False

    @property
    def paths(self) -> tuple[Path, ...]:
        """Local paths that this fills: no source may contain them (S19)."""
        return ()

    def clean(self, now: datetime) -> tuple[str, ...]:
        """Remove unfinished uploads that nobody has written to for 24 hours; returns their names."""
        return ()

    def free_space(self) -> int | None:
        """Bytes that still fit, None where the destination cannot say."""
        return None

    def clock(self) -> datetime:
        """What time it is there, as it marks what it takes: a probe is written, and removed."""
        key = f"probe/{secrets.token_hex(8)}.probe"
        upload = self.upload(key)
        try:
            upload.append(Segment.of(b"what time is it?"))
            stored = upload.commit()
        finally:
            upload.abort()
        self.remove(key)
        return stored.modified

    def check(self) -> None:
        """Really write, list, read back, compare and delete a probe. Raises what failed, as the driver does."""
        data, key = secrets.token_bytes(PROBE_BYTES), f"probe/{secrets.token_hex(8)}.probe"
        upload: Upload | None = None
        try:
            with step("write"):
                upload = self.upload(key)
                upload.append(Segment.of(data))
                upload.commit()
            with step("list"):
                if key not in {found.key for found in self.list("probe/")}:
                    raise DestinationError(f"{self.location} does not list an object that it has just taken")
            with step("read back"), self.open(key) as stream:
                found = stream.read()
            with step("compare"):
                if found != data:
                    raise ReadBackMismatch(f"{self.location} gives back other bytes than were written")
        except BaseException as error:
            self._drop_probe(upload, key, error)
            raise
        with step("delete"):
            self.remove(key)
            self._refuse_if_there(key)

    def _drop_probe(self, upload: Upload | None, key: str, error: BaseException) -> None:
        """Leave nothing behind; the first error is the one to be told."""
        try:
            if upload is not None:
                upload.abort()
                self.remove(key)
        except BackupError as second:
            error.add_note(f"and the probe {key} could not be removed: {second.message}")

    def _refuse_if_there(self, key: str) -> None:
        try:
            self.stat(key)
        except NotFound:
            return
        raise DestinationError(f"{self.location} still has an object that was deleted")


class _PacedUpload(Upload):
    """Another upload, whose segments are read at a pace."""

    def __init__(self, inner: Upload, pace: Pace) -> None:
        self._inner, self._pace = inner, pace

    @property
    def token(self) -> str:  # type: ignore[override]
        return self._inner.token

    @property
    def offset(self) -> int:  # type: ignore[override]
        return self._inner.offset

    def append(self, segment: Segment) -> None:
        self._inner.append(replace(segment, pace=self._pace))

    def commit(self) -> StoredObject:
        return self._inner.commit()

    def abort(self) -> None:
        self._inner.abort()


@cache
def _pace_of(_location: str, rate: int) -> Pace:
    """One for all that this process sends to a place, or reads from it."""
    return Pace(rate)
