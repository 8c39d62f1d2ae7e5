"""The database of MySQL or MariaDB that is restored to, as it stands, and what is done to it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from blocks.sources.mysql_client import Access, Session
from blocks.sources.mysql_facts import Inventory, take_inventory
from blocks.sources.mysql_lock import SETTLED, locked
from blocks.sources.mysql_tools import Installation, Server
from vault.errors import BackupError, SourceError


@dataclass(frozen=True)
class Target:
    """The database to restore to, as it stands; ``asleep``: no event may run in it.

    ``lock``: the session that holds the server's lock on restores of it, while one runs.
    """

    access: Access
    server: Server
    tool: Installation
    name: str
    inventory: Inventory | None
    asleep: bool
    lock: Session | None = None

    @property
    def state(self) -> Literal["absent", "empty", "full"]:
        if self.inventory is None:
            return "absent"
        return "empty" if self.inventory.is_empty else "full"

    def again(self) -> Target:
        """The target as it stands now."""
        there = self.name in databases(self.access)
        return replace(self, inventory=take_inventory(self.access, self.name) if there else None)

    def run(self, script: bytes | str) -> None:
        """Run *script* in a connection of its own."""
        command = replace(self.access.client(tool=self.tool), idle_timeout=None)
        self.access.endpoint.server.run(command, script.encode() if isinstance(script, str) else script)

    def check_alone(self) -> None:
        """Raise where the lock is lost: with the line to the server, for instance."""
        if self.lock is not None:
            self.lock.ask("SELECT 1;")

    @property
    def _is_alone(self) -> bool:
        try:
            self.check_alone()
        except SourceError:
            return False
        return True

    def surely(self, step: Callable[[Target], object]) -> None:
        """Do *step*; where it fails since the lock is lost, once more by a new login and with a lock of its own.

        A line that is cut takes along what holds the lock, and what the tools log in with.
        """
        try:
            step(self)
        except BackupError:
            if self._is_alone:
                raise
            with self.access.endpoint.open() as access, locked(access, self.name, SETTLED):
                step(replace(self, access=access, lock=None))

    def undo(self, step: Callable[[Target], object]) -> None:
        """The same, and never mind where that fails too: the error that leads here is the one to tell."""
        with suppress(BackupError):
            self.surely(step)


def databases(access: Access) -> list[str]:
    """The names of all databases that the account sees."""
    return [row[0] for row in access.rows("SELECT schema_name FROM information_schema.schemata;")]
