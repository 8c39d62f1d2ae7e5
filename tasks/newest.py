"""The newest backup of an app at each destination: what there is to restore, as far as it can be seen now."""

from __future__ import annotations

from dataclasses import dataclass

from blocks.app import APP_SLUG, App, load_destinations, type_of
from blocks.destinations.base import Destination
from blocks.loading import load
from blocks.signing_key import keyring
from vault.catalog import Catalog
from vault.errors import BackupError
from vault.record import BackupRecord, BackupType
from vault.signing import Trust


@dataclass(frozen=True)
class Newest:
    """The newest valid backup at *destination*; neither *record* nor *error* where there is none."""

    destination: str
    record: BackupRecord | None = None
    error: BackupError | None = None


def newest_of(
    app: str, backup_type: BackupType | None, destinations: list[str] | None
) -> tuple[BackupType, list[Newest]]:
    """The type that is meant, and what each destination has of it; None, or none, is as the saved app says.

    A destination that cannot be read is no error. ``ConfigError`` where a block is missing.
    """
    saved = load(f"{APP_SLUG}/{app}", App)
    doors = load_destinations(destinations or saved.destinations)
    kind, trust = backup_type or type_of(saved.load_sources(None)), keyring().trust
    return kind, [_newest(name, door, app, kind, trust) for name, door in doors.items()]


def _newest(name: str, door: Destination, app: str, kind: BackupType, trust: Trust) -> Newest:
    try:
        return Newest(name, Catalog(door, app, trust).newest(kind))
    except BackupError as error:
        return Newest(name, error=error)
