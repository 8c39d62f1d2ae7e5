"""Records that were read and found genuine before, so that a listing reads only those that are new.

A record never changes once it is written, so its bytes are good as long as the store lists it with the same size and
time. What rots at the store afterwards is not seen through the cache: only ``backups list`` uses it. Retention,
restore and whatever else decides on a record reads it where it lies. The file may be deleted at any time.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable
from contextlib import closing, suppress
from pathlib import Path

from vault.store import Store, StoredObject

_TABLE = """
CREATE TABLE IF NOT EXISTS record (
    store TEXT, app TEXT, key TEXT, size INTEGER, modified TEXT, data BLOB, PRIMARY KEY (store, app, key)
) WITHOUT ROWID
"""
_PATIENCE = 1.0  # seconds for another listing to end its transaction


def default_path() -> Path:
    """``prefect-backups-records/1.sqlite`` in the user's cache directory."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "prefect-backups-records" / "1.sqlite"


class RecordCache:
    """The bytes of genuine records by store, app and key. It never fails: where it cannot be used, it is empty."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, store: Store, app: str, listed: Iterable[StoredObject]) -> dict[str, bytes]:
        """What is known of the *listed* objects, by key."""
        query = "SELECT key, size, modified, data FROM record WHERE store = ? AND app = ?"
        try:
            with closing(self._open()) as database:
                rows = database.execute(query, (store.location, app)).fetchall()
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
            return {}
        known = {key: (size, modified, data) for key, size, modified, data in rows}
        return {
            stored.key: known[stored.key][2]
            for stored in listed
            if known.get(stored.key, ())[:2] == (stored.size, stored.modified.isoformat())
        }

    def save(self, store: Store, app: str, new: dict[StoredObject, bytes], keys: Collection[str]) -> None:
        """Add *new* ones; forget those of the app that are not among *keys* any more."""
        place = (store.location, app)
        try:
            with closing(self._open()) as database, database:
                rows = database.execute("SELECT key FROM record WHERE store = ? AND app = ?", place).fetchall()
                gone = {key for (key,) in rows}.difference(keys)
                database.executemany(
                    "DELETE FROM record WHERE store = ? AND app = ? AND key = ?", [(*place, key) for key in gone]
                )
                database.executemany(
                    "INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?, ?, ?)",
                    [(*place, o.key, o.size, o.modified.isoformat(), data) for o, data in new.items()],
                )
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        database = sqlite3.connect(self.path, timeout=_PATIENCE)
        try:
            database.execute(_TABLE)
        except BaseException:
            database.close()
            raise
        return database

    def _give_up(self, error: sqlite3.Error | OSError) -> None:
        """Locked, read-only or full: next time perhaps. A file that is no database goes."""
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            with suppress(OSError):
                self.path.unlink()
