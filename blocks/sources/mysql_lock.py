"""The server's locks on a database that is restored: one restore of it at a time, and none beside a swap that goes on.

A swap runs in a connection of its own. When its client is killed, or the line to it is cut, the server may still be at
a statement of it: whoever takes a swap back waits until that has ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from blocks.sources.base import ANOTHER_RUNS
from blocks.sources.mysql_client import Access, Session, literal
from vault.errors import RestoreRefused

SETTLED = 60
"""Seconds to wait for a swap whose client is gone: the server notices that between two statements."""


@contextmanager
def locked(access: Access, database: str, patience: int = 0) -> Iterator[Session]:
    """Hold the lock on restores of *database*, for which is waited *patience* seconds. No swap of it goes on."""
    with access.session() as session:
        session.ask("SET SESSION wait_timeout = 2147483;")
        if session.ask(f"SELECT GET_LOCK({_name(database, 'restore')}, {patience});") != [["1"]]:
            raise RestoreRefused(f"another restore of {database!r} is running", ANOTHER_RUNS)
        settle(access, database)
        yield session


def settle(access: Access, database: str) -> None:
    """Wait until no swap of *database* goes on."""
    if access.value(f"SELECT GET_LOCK({_name(database, 'swap')}, {SETTLED});") != "1":
        raise RestoreRefused(f"tables of {database!r} are still being exchanged by a restore that was given up")


def swapping(database: str) -> str:
    """The statement that says that this connection swaps *database*; it holds as long as the connection."""
    return f"DO GET_LOCK({_name(database, 'swap')}, 0);\n"


def _name(database: str, what: str) -> str:
    digest = hashlib.sha256(database.encode()).hexdigest()[:32]
    return literal(f"prefect-backups {what} {digest}")
