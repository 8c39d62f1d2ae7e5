"""Prefect's SQLite database, as far as the encryption of its blocks goes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.output import note
from cli.reencrypt import PATIENCE, TABLES, Ask, Contents, read, write
from vault.errors import BackupError, ConfigError, printable
from vault.milestone import milestone


@dataclass(frozen=True)
class SqliteFile:
    """A ``PrefectDatabase`` in the file *path*; nothing lies in one that is not there."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def contents(self) -> Contents:
        """See ``PrefectDatabase``."""
        if not self.path.exists():
            return Contents()
        with self._opened() as connection:
            return _contents(connection)

    def bring_under(self, key: str, *before: str, alone: bool) -> int:
        """See ``PrefectDatabase``."""
        with self._opened() as connection:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("BEGIN IMMEDIATE")
            try:
                found = _contents(connection)
                write(_asking(connection), found, key, before, alone=alone)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            milestone("rotate:committed")
            if alone and found != Contents():
                self._forget(connection)
        return len(found.blocks)

    def refuse_users(self) -> None:
        """See ``PrefectDatabase``."""
        for pid, argv in self.users().items():
            raise ConfigError(
                f"process {pid} uses Prefect's database {self.path}: {argv}",
                "End it first; a server that runs on would go on with the old key.",
            )

    def users(self) -> dict[int, str]:
        """The other processes that have it open, with their command lines, as far as we may see."""
        found: dict[int, str] = {}
        try:
            wanted = self.path.stat()
        except FileNotFoundError:
            return found
        for process in Path("/proc").iterdir():
            if process.name.isdecimal() and int(process.name) != os.getpid() and _has_open(process, wanted):
                argv = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(process.name)] = printable(argv.strip())[:120]
        return found

    def _forget(self, connection: sqlite3.Connection) -> None:
        """What was replaced would stay in free pages and in the write-ahead log."""
        try:
            connection.execute("VACUUM")
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError:  # no room for a copy: that is no reason not to start
            busy = 1
        if busy:
            note(f"The old key may still lie in free space of {self.path}: free disk space, then run VACUUM on it.")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise BackupError(
                f"Prefect's database {self.path} cannot be used: {error}",
                "End the processes that use it, or look at its disk; then try again.",
            ) from error


def _asking(connection: sqlite3.Connection) -> Ask:
    def ask(text: str, parameters: Mapping[str, str]) -> Sequence[Sequence[Any]]:
        return connection.execute(text, parameters).fetchall()

    return ask


def _contents(connection: sqlite3.Connection) -> Contents:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return read(_asking(connection)) if tables.issuperset(TABLES) else Contents()


def _has_open(process: Path, wanted: os.stat_result) -> bool:
    try:
        for file in (process / "fd").iterdir():
            with suppress(FileNotFoundError):  # closed in this moment
                if os.path.samestat(file.stat(), wanted):
                    return True
    except OSError:  # it has ended, or is somebody else's
        pass
    return False
