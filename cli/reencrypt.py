"""The blocks in Prefect's database, as far as their encryption goes: the same for SQLite and for PostgreSQL.

A block's content is a Fernet token in ``block_document.data``. A server that has no key in its environment makes one
and keeps it, in plain text, in the table ``configuration`` of the same database.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from vault.errors import ConfigError, printable
from vault.milestone import milestone

Ask = Callable[[str, Mapping[str, str]], Sequence[Sequence[Any]]]
"""Runs a statement with ``:name`` parameters within the one transaction, and returns its rows."""
PATIENCE = 30.0  # seconds for another process to end its transaction
TABLES = ("block_document", "configuration")
_OWN_KEY = {"key": "ENCRYPTION_KEY"}  # the row of Prefect's own key


@dataclass(frozen=True)
class Block:
    """A block document: its token, and what a person calls it."""

    id: str
    name: str
    kind: str
    token: str

    def __str__(self) -> str:
        return f"{printable(self.name)} ({printable(self.kind)})"


@dataclass(frozen=True)
class Contents:
    """All blocks of a database, and the key that Prefect keeps there itself, if it does."""

    blocks: tuple[Block, ...] = ()
    own_key: str | None = None

    def unreadable(self, *keys: str) -> tuple[Block, ...]:
        """The blocks that none of *keys* decrypts."""
        ring = [Fernet(key) for key in keys]
        return tuple(block for block in self.blocks if not any(_fits(fernet, block.token) for fernet in ring))

    def refuse_lost(self, *keys: str, remedy: str = "") -> None:
        """``ConfigError`` names the blocks that neither *keys* nor Prefect's own decrypt."""
        lost = self.unreadable(*keys, *([self.own_key] if self.own_key else []))
        if lost:
            named = ", ".join(map(str, lost))
            raise ConfigError(f"{len(lost)} blocks can be decrypted with none of the keys: {named}", remedy)


class PrefectDatabase(Protocol):
    """What changes the key of a database of Prefect's. ``str()`` of it is how a person knows it, without a secret."""

    def contents(self) -> Contents:
        """What lies in it now; nothing where no Prefect server has set it up."""
        ...

    def refuse_users(self) -> None:
        """``ConfigError`` while others are connected: a server that runs on would go on with the old key."""
        ...

    def bring_under(self, key: str, *before: str, alone: bool) -> int:
        """All blocks are under *key*, or nothing is changed. Returns their number.

        One transaction: whoever is killed leaves all under the old key or all under the new one. The old one is among
        *before*, or Prefect's own; ``ConfigError`` names the blocks that none fits. Who is *alone* takes Prefect's own
        key out of the database: a server that runs would go on with it, and what it saved then could never be read.
        """
        ...


def read(ask: Ask) -> Contents:
    """What lies in both ``TABLES``."""
    text = "SELECT CAST(id AS TEXT), name, block_type_name, CAST(data AS TEXT) FROM block_document ORDER BY id"
    rows = [(id, name, kind or "", json.loads(data or "{}")) for id, name, kind, data in ask(text, {})]
    values = ask("SELECT CAST(value AS TEXT) FROM configuration WHERE key = :key", _OWN_KEY)
    return Contents(
        tuple(Block(id, name, kind, token) for id, name, kind, token in rows if isinstance(token, str)),
        next((str(json.loads(value)["fernet_key"]) for (value,) in values), None),
    )


def write(ask: Ask, found: Contents, key: str, before: Sequence[str], *, alone: bool) -> None:
    """What *found* has, under *key*; the promise of ``bring_under`` but for the end of the transaction."""
    found.refuse_lost(key, *before)
    keys = [key, *before, *([found.own_key] if found.own_key else [])]
    ring = MultiFernet([Fernet(each) for each in keys])
    for block in found.blocks:
        token = json.dumps(ring.rotate(block.token.encode()).decode())
        ask("UPDATE block_document SET data = :data WHERE CAST(id AS TEXT) = :id", {"data": token, "id": block.id})
        milestone("rotate:document")
    if alone and found.own_key:
        ask("DELETE FROM configuration WHERE key = :key", _OWN_KEY)


def _fits(fernet: Fernet, token: str) -> bool:
    try:
        fernet.decrypt(token.encode())
    except InvalidToken:
        return False
    return True
