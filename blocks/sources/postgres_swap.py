"""Databases beside a database: made under names of our own, given its properties, and swapped in by rename.

The swap is two renames in one transaction: the server does both or none, whatever happens to us.
"""

# ruff: noqa: S608  # names in SQL pass through identifier() or literal()
from __future__ import annotations

import hashlib
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Literal

from blocks.sources.postgres_client import Access, Session, identifier, literal
from blocks.sources.postgres_facts import OBJECTS, Properties
from vault.errors import BackupError, RestoreRefused, SourceError, SourceUnavailable

NAME_BYTES = 63
_PREFIX_BYTES = 41  # of the 63 of a name: leaves room for what `beside` adds
_PRIVILEGES = ("CREATE", "CONNECT", "TEMPORARY")


@dataclass(frozen=True)
class Target:
    """The database to restore to, as it stands, and the one from which it is administered.

    ``lock``: the session that holds the server's lock on restores of it, while one runs.
    """

    access: Access
    name: str
    maintenance: str
    state: Literal["absent", "empty", "full"]
    may_create: bool
    may_replace: bool
    lock: Session | None = None

    @property
    def beside(self) -> bool:
        """Whether the restore goes beside it; else an empty database is filled in one transaction."""
        return self.may_create and self.may_replace

    def sql(self, text: str) -> str:
        """Run *text* outside of the target."""
        return self.access.execute(self.maintenance, text)

    def check_alone(self) -> None:
        """Raise where the lock is lost: with the line to the server, for instance."""
        if self.lock is not None:
            self.lock.ask("SELECT 1;")

    def undo(self, step: Callable[[Target], object]) -> None:
        """Do *step*, which undoes something; where it fails, once more by a new login, and then never mind.

        A line that is cut takes along what the tools log in with. The error that leads here is the one to tell.
        """
        with suppress(BackupError):
            try:
                step(self)
            except BackupError:
                with self.access.endpoint.open() as access:
                    step(replace(self, access=access))

    def names(self, what: str) -> list[str]:
        """The databases of which the SQL condition *what* holds."""
        query = f"SELECT coalesce(json_agg(datname), '[]') FROM pg_database WHERE {what};"
        return [str(name) for name in self.access.query(self.maintenance, query)]


def beside(name: str, what: str) -> str:
    """A new name for a database of ours that belongs to *name*; see :func:`drop_leftovers`."""
    return f"{_family(name, what)}{secrets.token_hex(3)}"


def drop(target: Target, name: str, *, was_live: bool = False) -> None:
    """Drop a database that is ours, whoever is connected to it; one that *was_live* not while it has subscriptions."""
    if not was_live:
        _unsubscribe(target, name)
    target.sql(f"{_terminate(name)}\nDROP DATABASE IF EXISTS {identifier(name)};")


def _unsubscribe(target: Target, name: str) -> None:
    """Drop subscriptions, which hold a database. Those of a copy must not drop the slot of the original."""
    found = target.access.query(
        target.maintenance,
        "SELECT coalesce(json_agg(subname), '[]') FROM pg_subscription JOIN pg_database d ON d.oid = subdbid"
        f" WHERE datname = {literal(name)};",
    )
    for subscription in map(identifier, found):
        alter = f"ALTER SUBSCRIPTION {subscription}"
        target.access.execute(
            name, f"{alter} DISABLE; {alter} SET (slot_name = NONE); DROP SUBSCRIPTION {subscription};"
        )


def drop_leftovers(target: Target) -> None:
    """Databases that only a restore of ours can have left: we hold its lock, so it is dead."""
    for what in ("restore", "old"):
        family = _family(target.name, what)
        for name in target.names(f"strpos(datname, {literal(family)}) = 1"):
            if re.fullmatch(re.escape(family) + "[0-9a-f]{6}", name):
                drop(target, name, was_live=what == "old")


def create(name: str, properties: Properties | None) -> str:
    parts = [f"CREATE DATABASE {identifier(name)} TEMPLATE template0"]
    if properties:
        parts.append(f"ENCODING {literal(properties.encoding)}")
        parts.append(f"LC_COLLATE {literal(properties.collate)}")
        parts.append(f"LC_CTYPE {literal(properties.ctype)}")
        provider = properties.locale_provider
        if provider and properties.locale:
            parts.append(f"LOCALE_PROVIDER {provider}")
            parts.append(f"{provider.upper()}_LOCALE {literal(properties.locale)}")
    return " ".join(parts) + ";"


def hasten(target: Target, database: str, jobs: int) -> None:
    """Give the new *database* settings that make loading it faster, until :func:`calm` takes them back.

    More memory for building indexes, shared by *jobs*; and commits that do not wait for the disk: the swap at the
    end, which does, makes all of them durable.
    """
    name = identifier(database)
    target.sql(f"ALTER DATABASE {name} SET synchronous_commit = off;")
    memory = max(64, 512 // max(1, jobs)) * 1024  # KiB, as pg_settings has it
    has = target.sql("SELECT setting FROM pg_settings WHERE name = 'maintenance_work_mem';")
    if int(has) < memory:
        target.sql(f"ALTER DATABASE {name} SET maintenance_work_mem = '{memory}kB';")


def calm(target: Target, database: str) -> None:
    """Take back what :func:`hasten` has set."""
    target.sql(f"ALTER DATABASE {identifier(database)} RESET ALL;")


def adopt(target: Target, database: str, properties: Properties) -> list[str]:
    """Give *database* the settings, rights and owner of *properties*; returns what could not be given."""
    name, statements = identifier(database), []
    for role, setting, value in properties.settings:
        whose = f"ROLE {identifier(role)} IN DATABASE {name}" if role else f"DATABASE {name}"
        quoted = ".".join(identifier(part) for part in setting.split("."))
        statements.append(
            f"BEGIN; SELECT set_config({literal(setting)}, {literal(value)}, true);"
            f" ALTER {whose} SET {quoted} FROM CURRENT; COMMIT;"
        )
    if properties.grants is not None:
        statements.append(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC;")
    for grantee, privilege, grantable in properties.grants or ():
        if privilege in _PRIVILEGES:
            whom = identifier(grantee) if grantee else "PUBLIC"
            option = " WITH GRANT OPTION" if grantable else ""
            statements.append(f"GRANT {privilege} ON DATABASE {name} TO {whom}{option};")
    statements.append(f"ALTER DATABASE {name} OWNER TO {identifier(properties.owner)};")
    notes = []
    for statement in statements:
        try:
            target.sql(statement)
        except SourceUnavailable:
            raise
        except SourceError as error:
            notes.append(f"not taken over: {statement} ({error.message})")
    return notes


def is_empty(target: Target, name: str) -> bool:
    """Whether the database *name* holds nothing of a user."""
    return target.access.execute(name, f"{OBJECTS};") == "0"


def check_still_empty(target: Target, name: str) -> None:
    """Raise ``RestoreRefused`` when *name*, which is the target or had its name, was filled during the restore."""
    if not is_empty(target, name):
        raise RestoreRefused(
            f"the database {target.name!r} is not empty any more: it was filled during the restore",
            "Restore to another name, or allow it to be replaced (--overwrite).",
        )


def swap(target: Target, new: str, *, overwrite: bool) -> str | None:
    """Give *new* the name of the target; returns the new name of what had it, if there was something.

    Without *overwrite* that is empty, or nothing changes (law 8). Only what was renamed is sure to stay so: until
    then clients come back as soon as they are disconnected.
    """
    target.check_alone()
    live = target.name
    rename = f"ALTER DATABASE {identifier(new)} RENAME TO {identifier(live)};"
    if target.state == "absent":
        target.sql(rename)
        return None
    old = beside(live, "old")
    if not overwrite:
        check_still_empty(target, live)
    aside = f"ALTER DATABASE {identifier(live)} RENAME TO {identifier(old)};"
    with _disconnecting(target):
        target.sql(f"BEGIN; {aside} {rename} COMMIT;")
    if not overwrite:
        try:
            check_still_empty(target, old)
        except BaseException:
            away = f"ALTER DATABASE {identifier(live)} RENAME TO {identifier(new)};"
            back = f"ALTER DATABASE {identifier(old)} RENAME TO {identifier(live)};"
            with _disconnecting(target):
                target.sql(f"BEGIN; {away} {back} COMMIT;")
            raise
    return old


def _family(name: str, what: str) -> str:
    """What the names of all databases begin with that a restore makes for *name*."""
    prefix = name.encode()[:_PREFIX_BYTES].decode(errors="ignore")
    return f"{prefix}__{what}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"


@contextmanager
def _disconnecting(target: Target) -> Iterator[None]:
    """End the connections to the target until the context ends.

    A rename lets no new connection in while it waits (5 s) for the others to go: this makes them go.
    """
    done = threading.Event()

    def disconnect() -> None:
        while True:
            with suppress(SourceError):  # then the rename says who is in the way
                target.sql(_terminate(target.name))
            if done.wait(0.2):
                return

    thread = threading.Thread(target=disconnect, name="disconnect")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _terminate(name: str) -> str:
    return (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = {literal(name)} AND pid <> pg_backend_pid();"
    )
