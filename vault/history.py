"""What lies at a store for one app, as far as it can be believed: which backup is meant, and which is the newest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from vault.errors import ConfigError, DestinationError, IntegrityError, WrongKey, printable
from vault.plan import MAX_SKEW
from vault.record import BackupId, BackupRecord, backup_of
from vault.store import StoredObject


@dataclass(frozen=True)
class FromTheFuture:
    """A backup that is passed over, since it claims to be made after *now*. It can be restored by its id."""

    backup_id: BackupId
    now: datetime

    @property
    def message(self) -> str:
        """What is wrong with it."""
        here = f"{self.now.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        return f"backup {self.backup_id} is from the future, and does not count: here it is {here}"

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return (
            "Check the clocks of this machine and of the one that made it. If it was made with a wrong clock, it can"
            f" be restored by its id; then remove {self.backup_id}.* there by hand."
        )


def from_the_future(backup_id: BackupId, now: datetime) -> FromTheFuture | None:
    """What is to be said of it, where it claims to be made so long after *now* that a clock was wrong.

    Such a one is never the newest (Z02).
    """
    return FromTheFuture(backup_id, now) if backup_id.created_at > now + MAX_SKEW else None


@dataclass(frozen=True)
class Damaged:
    """A record that cannot be used: *error* says why, and is raised when somebody asks for it."""

    key: str
    error: IntegrityError | DestinationError

    @property
    def status(self) -> str:
        """``untrusted`` where only the signer is unknown, else ``DAMAGED``."""
        return "untrusted" if isinstance(self.error, WrongKey) else "DAMAGED"

    @property
    def detail(self) -> str:
        """The reason; without the record's key where only its signer is unknown: it is the same for all of his."""
        cause = self.error.__cause__
        return cause.message if isinstance(cause, WrongKey) else self.error.message

    @property
    def backup_id(self) -> BackupId | None:
        """What the key says; the content is not believed."""
        return backup_of(self.key)


@dataclass(frozen=True)
class History:
    """What lies at a store for one app: valid records (oldest first), damaged ones, and orphaned artifacts.

    *pinned* and *confirmed* are what people have said of backups there, see ``vault.marks``.
    """

    app: str
    records: tuple[BackupRecord, ...] = ()
    damaged: tuple[Damaged, ...] = ()
    orphans: tuple[StoredObject, ...] = ()
    pinned: frozenset[BackupId] = frozenset()
    confirmed: frozenset[BackupId] = frozenset()

    def find(self, reference: str, now: datetime, source: str | None = None) -> BackupRecord:
        """The backup that *reference* means: ``latest``, an id, or the beginning (or random end) of one.

        ``latest`` is the newest valid one that is not from the future of *now*, with *source* in it where one is
        named. Raises ``ConfigError`` when nothing or more than one fits, and what is wrong with it when the one that
        fits is damaged.
        """
        if reference == "latest":
            return self._latest(source, now)
        damaged = {str(d.backup_id): d for d in self.damaged if d.backup_id}
        valid = {record.id: record for record in self.records}
        found = [name for name in (*valid, *damaged) if means(reference, name)]
        shown = printable(reference)[:80]
        if len(found) > 1:
            more = f"Give more of the id: {', '.join(sorted(found)[:5])}"
            raise ConfigError(f"{shown!r} fits {len(found)} backups of {self.app}", more)
        if not found:
            raise ConfigError(f"app {self.app} has no backup {shown!r} there", f"See `backups list {self.app}`.")
        if found[0] in damaged:
            raise damaged[found[0]].error
        return valid[found[0]]

    def _latest(self, source: str | None, now: datetime) -> BackupRecord:
        future = self.from_the_future(now)
        passed_over = {one.backup_id for one in future}
        for record in reversed(self.records):
            if record.backup_id not in passed_over and (source is None or source in _sources(record)):
                return record
        if future:
            raise ConfigError(future[-1].message, future[-1].remedy)
        if self.damaged:
            raise self.damaged[-1].error
        there = sorted({source for record in self.records for source in _sources(record)})
        what = f" with source {printable(source or '')}" if there else ""
        remedy = f"There are its sources {', '.join(there)}." if there else "See `backups list --from DEST`."
        raise ConfigError(f"there is no backup of {self.app}{what} there", remedy)

    def from_the_future(self, now: datetime) -> tuple[FromTheFuture, ...]:
        """The valid ones, oldest first, that ``latest`` passes over."""
        return tuple(filter(None, (from_the_future(record.backup_id, now) for record in self.records)))

    def newer_damaged(self, record: BackupRecord) -> tuple[Damaged, ...]:
        """The damaged ones that claim to be newer than *record*: what a restore of the latest must tell."""
        return tuple(d for d in self.damaged if d.backup_id and d.backup_id > record.backup_id)


@dataclass(frozen=True)
class Latest:
    """The newest backup of one app and type that counts, if there is any; and what was passed over on the way to it."""

    record: BackupRecord | None = None
    damaged: tuple[Damaged, ...] = ()
    future: tuple[FromTheFuture, ...] = ()


def _sources(record: BackupRecord) -> set[str]:
    return {artifact.source for artifact in record.artifacts}


def means(reference: str, name: str) -> bool:
    """Whether *reference* is the id *name*, its beginning, or its random end."""
    return bool(reference) and (name.startswith(reference) or name.rpartition("-")[2] == reference)
