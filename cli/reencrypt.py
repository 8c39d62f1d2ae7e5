"""Prefect's SQLite database, as far as the encryption of its blocks goes.

A block's content is a Fernet token in ``block_document.data``. A server that has no key in its environment makes one
and keeps it, in plain text, in the table ``configuration`` of the same database.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from cli.output import note
from vault.errors import BackupError, ConfigError, printable
from vault.milestone import milestone

_PATIENCE = 30.0  # seconds for another process to end its transaction
_OWN_KEY = "ENCRYPTION_KEY"  # the row of Prefect's own key


@dataclass(frozen=True)
class Block:
    """A block document: its token, and what a person calls it."""

    id: str
    name: str
    kind: str
    token: str


@dataclass(frozen=True)
class Contents:
    """All blocks of a database, and the key that Prefect keeps there itself, if it does."""

    blocks: tuple[Block, ...] = ()
    own_key: str | None = None

    def unreadable(self, key: str) -> tuple[Block, ...]:
        """The blocks that *key* does not decrypt."""
        fernet = Fernet(key)
        return tuple(block for block in self.blocks if not _fits(fernet, block.token))


def contents(database: Path) -> Contents:
    """What lies in *database* now; nothing where there is none, or none that a Prefect server has set up."""
    if not database.exists():
        return Contents()
    with _opened(database) as connection:
        return _contents(connection)


def bring_under(database: Path, key: str, before: str | None, *, alone: bool) -> int:
    """All blocks of *database* are under *key*, or nothing is changed. Returns their number.

    One transaction: whoever is killed leaves all under the old key or all under the new one. The old one is *before*
    or Prefect's own; ``ConfigError`` where neither fits. Who is *alone* takes Prefect's own key out of the database:
    a server that runs would go on with it, and what it saved then could never be read again.
    """
    with _opened(database) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("BEGIN IMMEDIATE")
        try:
            found = _contents(connection)
            ring = MultiFernet([Fernet(each) for each in (key, before, found.own_key) if each])
            for block in found.blocks:
                data = json.dumps(_rotated(ring, block))
                connection.execute("UPDATE block_document SET data = ? WHERE id = ?", (data, block.id))
                milestone("rotate:document")
            if alone and found.own_key:
                connection.execute("DELETE FROM configuration WHERE key = ?", (_OWN_KEY,))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        milestone("rotate:committed")
        if alone and found != Contents():
            _forget(connection, database)
    return len(found.blocks)


def _forget(connection: sqlite3.Connection, database: Path) -> None:
    """What was replaced would stay in free pages and in the write-ahead log."""
    try:
        connection.execute("VACUUM")
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError:  # no room for a copy: that is no reason not to start
        busy = 1
    if busy:
        note(f"The old key may still lie in free space of {database}: free disk space, then run VACUUM on it.")


def users(database: Path) -> dict[int, str]:
    """The other processes that have *database* open, with their command lines, as far as we may see."""
    found: dict[int, str] = {}
    try:
        wanted = database.stat()
    except FileNotFoundError:
        return found
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) != os.getpid() and _has_open(process, wanted):
            argv = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found[int(process.name)] = printable(argv.strip())[:120]
    return found


def _has_open(process: Path, wanted: os.stat_result) -> bool:
    try:
        for file in (process / "fd").iterdir():
            with suppress(FileNotFoundError):  # closed in this moment
                if os.path.samestat(file.stat(), wanted):
                    return True
    except OSError:  # it has ended, or is somebody else's
        pass
    return False


def _contents(connection: sqlite3.Connection) -> Contents:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"configuration", "block_document"} <= tables:
        return Contents()
    rows = connection.execute("SELECT id, name, block_type_name, data FROM block_document ORDER BY id").fetchall()
    blocks = [(id, name, kind or "", json.loads(data)) for id, name, kind, data in rows]
    value = connection.execute("SELECT value FROM configuration WHERE key = ?", (_OWN_KEY,)).fetchone()
    return Contents(
        tuple(Block(id, name, kind, token) for id, name, kind, token in blocks if isinstance(token, str)),
        str(json.loads(value[0])["fernet_key"]) if value else None,
    )


def _rotated(ring: MultiFernet, block: Block) -> str:
    try:
        return ring.rotate(block.token.encode()).decode()
    except InvalidToken:
        raise ConfigError(
            f"block {printable(block.name)} ({printable(block.kind)}) can be decrypted with none of the keys"
        ) from None


def _fits(fernet: Fernet, token: str) -> bool:
    try:
        fernet.decrypt(token.encode())
    except InvalidToken:
        return False
    return True


@contextmanager
def _opened(database: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(database, timeout=_PATIENCE, isolation_level=None)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise BackupError(
            f"Prefect's database {database} cannot be used: {error}",
            "End the processes that use it, or look at its disk; then try again.",
        ) from error
