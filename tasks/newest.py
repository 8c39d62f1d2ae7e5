"""The newest backup of an app at each destination: what there is to restore, as far as it can be seen now."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from blocks.app import APP_SLUG, App, load_destinations, type_of
from blocks.loading import load
from blocks.signing_key import keyring
from vault.catalog import Catalog
from vault.errors import BackupError
from vault.history import Latest
from vault.record import BackupRecord, BackupType
from vault.record_cache import RecordCache, default_path
from vault.sizes import Small, small_ones


@dataclass(frozen=True)
class Newest:
    """The newest valid backup at *destination*, and what was passed over; *error* where it cannot be read.

    *small*: what is suspicious about it, where that was asked for.
    """

    destination: str
    there: Latest = field(default_factory=Latest)
    error: BackupError | None = None
    small: tuple[Small, ...] = ()

    @property
    def record(self) -> BackupRecord | None:
        """None where there is none that counts."""
        return self.there.record

    @property
    def passed_over(self) -> tuple[str, ...]:
        """What claims to be newer, and does not count; a sentence for each."""
        damaged = (f"{one.backup_id} is {one.status}: {one.detail}" for one in self.there.damaged)
        return (*damaged, *(one.message for one in self.there.future))

    @property
    def remedies(self) -> tuple[str, ...]:
        """What to do about it."""
        those = (*(one.error for one in self.there.damaged), *self.there.future)
        confirm = [one.remedy for one in self.small]
        return tuple(dict.fromkeys([*(one.remedy for one in those if one.remedy), *confirm]))


def newest_of(
    app: str,
    backup_type: BackupType | None,
    destinations: list[str] | None,
    now: datetime | None = None,
    whole: bool = False,
) -> tuple[BackupType, list[Newest]]:
    """The type that is meant, and what each destination has of it; None, or none, is as the saved app says.

    What is from the future of *now* (None: this moment) does not count. A destination that cannot be read is no error.
    ``ConfigError`` where a block is missing.
    """
    saved = load(f"{APP_SLUG}/{app}", App)
    doors = load_destinations(destinations or saved.destinations)
    kind, trust = backup_type or type_of(saved.load_sources(None)), keyring().trust
    today = now or datetime.now(UTC)
    return kind, [_newest(name, Catalog(door, app, trust), kind, today, whole) for name, door in doors.items()]


def _newest(name: str, catalog: Catalog, kind: BackupType, now: datetime, whole: bool) -> Newest:
    try:
        small = _small(catalog, kind, now) if whole else ()
        return Newest(name, catalog.newest(kind, now), small=small)
    except BackupError as error:
        return Newest(name, error=error)


def _small(catalog: Catalog, kind: BackupType, now: datetime) -> tuple[Small, ...]:
    return tuple(small_ones(catalog.history(RecordCache(default_path())), kind, now))
