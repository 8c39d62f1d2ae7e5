"""Prefect's PostgreSQL database, as far as the encryption of its blocks goes: through what Prefect's server uses."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from cli.home import URL_VARIABLE
from cli.output import note
from cli.reencrypt import PATIENCE, TABLES, Ask, Contents, read, write
from vault.errors import BackupError, ConfigError, printable
from vault.milestone import milestone

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")
_PARTING = 5.0  # seconds in which the session of a process that has ended is gone
_NAP = 0.1
_SERVER = re.compile(rb"prefect server (start|services)|prefect\.server\.")
# Without rights of its own, a role sees of others' sessions only who and as what; PostgreSQL's own have no user.
_SESSIONS = """
    SELECT pid, usename, application_name, host(client_addr) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename IS NOT NULL
      AND coalesce(backend_type, 'client backend') = 'client backend'
    ORDER BY pid"""
_STOP = (
    "A server that runs on would go on with the old key. Stop every API server and the background services:"
    " systemctl stop 'prefect-api@*' prefect-services; in containers: docker compose stop api-1 api-2 services."
    " Then try again."
)


@dataclass(frozen=True)
class PostgresUrl:
    """A ``PrefectDatabase`` at *url*, as Prefect's server is given it."""

    url: str = field(repr=False)

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return printable(f"{unquote(parts.path.removeprefix('/'))} on {parts.hostname or 'this machine'}")

    def contents(self) -> Contents:
        """See ``PrefectDatabase``."""
        return self._within(_contents)

    def refuse_users(self) -> None:
        """See ``PrefectDatabase``. A session of who was killed just now is given time to go.

        A server that nobody has asked anything has no session yet: on this machine it is found all the same.
        """
        self._within(self._refuse)
        for pid, argv in _servers(self.url).items():
            raise ConfigError(f"process {pid} is a Prefect server on the database {self}: {argv}", _STOP)

    def bring_under(self, key: str, *before: str, alone: bool) -> int:
        """See ``PrefectDatabase``. Who is *alone* refuses whoever connects meanwhile."""

        def change(connection: Connection) -> Contents:
            _asking(connection)(f"LOCK TABLE {', '.join(TABLES)} IN SHARE ROW EXCLUSIVE MODE", {})
            found = _contents(connection)
            if alone:
                self._refuse(connection)
            write(_asking(connection), found, key, before, alone=alone)
            if alone:
                self._refuse(connection)
            return found

        found = self._within(change)
        milestone("rotate:committed")
        if alone:
            self._forget()
        return len(found.blocks)

    def _refuse(self, connection: Connection) -> None:
        deadline = time.monotonic() + _PARTING
        while True:
            _asking(connection)("SELECT pg_stat_clear_snapshot()", {})  # else it stays what it was in this transaction
            sessions = _asking(connection)(_SESSIONS, {})
            if not sessions:
                return
            if time.monotonic() > deadline:
                raise ConfigError(f"others are connected to Prefect's database {self}: {_named(sessions)}", _STOP)
            time.sleep(_NAP)

    def _forget(self) -> None:
        """What was replaced would stay in the tables' files."""
        from sqlalchemy import text

        def vacuum(connection: Connection) -> None:
            for table in TABLES:
                connection.execute(text(f"VACUUM FULL {table}"))

        try:
            self._within(vacuum, isolation_level="AUTOCOMMIT")
        except BackupError as error:
            note(f"What the old key encrypts may still lie in {self}: run VACUUM FULL {', '.join(TABLES)} on it.")
            note(f"  {error.message}")

    def _within(self, work: Callable[[Connection], T], **options: Any) -> T:
        """What *work* returns, in one transaction; nothing is changed where it raises."""
        from asyncpg import InterfaceError, PostgresError
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError

        try:
            return asyncio.run(_run(self.url, work, options))
        except (SQLAlchemyError, PostgresError, InterfaceError, OSError, ValueError) as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            told = "" if isinstance(error, ValueError) else f": {printable(str(reason) or type(reason).__name__)}"
        raise BackupError(  # not from the error: its words hold what lies in the blocks
            f"Prefect's database {self} cannot be used{told}",
            f"Does it run, and is {URL_VARIABLE} right? Then try again.",
        )


async def _run(url: str, work: Callable[[Connection], T], options: Mapping[str, Any]) -> T:
    from prefect.server.database.configurations import AsyncPostgresConfiguration

    engine = await AsyncPostgresConfiguration(url, timeout=PATIENCE).engine()
    try:
        async with engine.execution_options(**options).begin() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


def _asking(connection: Connection) -> Ask:
    from sqlalchemy import text

    def ask(statement: str, parameters: Mapping[str, str]) -> Sequence[Sequence[Any]]:
        done = connection.execute(text(statement), dict(parameters))
        return done.fetchall() if done.returns_rows else ()

    return ask


def _contents(connection: Connection) -> Contents:
    ask = _asking(connection)
    there = all(ask("SELECT to_regclass(:name) IS NOT NULL", {"name": name})[0][0] for name in TABLES)
    return read(ask) if there else Contents()


def _servers(url: str) -> dict[int, str]:
    """Prefect's servers and services here that are given *url*, with their command lines, as far as we may see."""
    found, given = {}, f"{URL_VARIABLE}={url}".encode()
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        with suppress(OSError):  # it has ended, or is somebody else's
            argv = (process / "cmdline").read_bytes().strip(b"\0").split(b"\0")
            if _SERVER.search(b" ".join(argv)) and given in (process / "environ").read_bytes().split(b"\0"):
                found[int(process.name)] = printable(b" ".join(argv).decode(errors="replace"))[:120]
    return found


def _named(sessions: Sequence[Sequence[Any]]) -> str:
    """Who they are, and which of the server's processes serve them."""
    processes: dict[str, list[str]] = {}
    for pid, user, application, address in sessions:
        said = [str(user), *([f"as {application}"] if application else []), *([f"from {address}"] if address else [])]
        processes.setdefault(printable(" ".join(said)), []).append(str(pid))
    return "; ".join(f"{who} (server processes {', '.join(pids)})" for who, pids in processes.items())
