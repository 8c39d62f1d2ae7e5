"""The promises every destination keeps, whatever lies behind it."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from prefect.blocks.core import Block

from blocks.destinations.probe import step
from vault.errors import BackupError, DestinationError, NotFound, ReadBackMismatch
from vault.spool import Segment
from vault.store import Digest, StoredObject

PROBE_BYTES = 64 * 1024


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


class Destination(Block, ABC):
    """A place for objects.

    It promises: an object is complete or absent; nothing is replaced; what ``commit`` returned, ``open``
    and ``list`` see; ``list`` returns everything or raises; ``remove`` is final and idempotent. Keys
    are ``app/name``, see ``vault.store.check_key``; objects that do not fit are never listed.
    """

    @property
    @abstractmethod
    def location(self) -> str:
        """Where this is, for a person: never with a secret in it."""

    @abstractmethod
    def prepare(self) -> None:
        """Claim an empty place for backups, as ``destination add`` does. Idempotent."""

    @abstractmethod
    def upload(self, key: str, resume: str | None = None) -> Upload:
        """Begin *key*, or go on with the upload whose token is *resume*."""

    @abstractmethod
    def open(self, key: str, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """The bytes of *key* from *offset* on. Raises ``NotFound``."""

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
    def paths(self) -> tuple[Path, ...]:
        """Local paths that this fills: no source may contain them (S19)."""
        return ()

    def clean(self, now: datetime) -> tuple[str, ...]:
        """Remove unfinished uploads that nobody has written to for 24 hours; returns their names."""
        return ()

    def free_space(self) -> int | None:
        """Bytes that still fit, None where the destination cannot say."""
        return None

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
