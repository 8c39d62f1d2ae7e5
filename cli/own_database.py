"""Prefect's own database as a source: what is saved there is an app like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from cli.api import running_up
from cli.home import URL_VARIABLE, database_url, prefect_database, prefect_setting
from cli.saved import made
from vault.errors import ConfigError
from vault.store import check_name

if TYPE_CHECKING:
    from blocks.sources import PostgresDatabase, SqliteDatabase


def refuse_unknown_database() -> None:
    """Pass where this command can know in which database Prefect's server keeps everything."""
    elsewhere = prefect_setting("PREFECT_API_URL") is not None and running_up() is None
    if database_url() is None and (elsewhere or prefect_database() is None):
        raise ConfigError(
            "where Prefect's server keeps its database is not known here",
            f"Run this on its machine, with {URL_VARIABLE} as the server has it.",
        )


def own_source(app: str) -> str:
    """The name of the source that is Prefect's own database, saved for *app* after a test of it."""
    from cli.adhoc import save_block

    return save_block(_own_database(), check_name(f"{app}-db", "source"))


def key_advice() -> str:
    """Where the key lies that what is in the database is encrypted with, and that it has to be kept apart."""
    from cli.encryption_key import VARIABLES, key_file

    where = VARIABLES[0] if prefect_database() is None or not key_file().exists() else str(key_file())
    return f"Keep a copy of {where} elsewhere: it is not in that backup, which is of no use without it."


def _own_database() -> PostgresDatabase | SqliteDatabase:
    from blocks.sources import PostgresDatabase, SqliteDatabase

    file = prefect_database()
    if file is not None:
        return made(SqliteDatabase, path=file)  # type: ignore[no-any-return]
    url = urlsplit(database_url() or "")
    if not url.scheme.startswith("postgresql"):
        raise ConfigError(f"{URL_VARIABLE} is neither of PostgreSQL nor of an SQLite file", "Prefect knows no others.")
    options = parse_qs(url.query)
    mode = [*options.get("sslmode", []), *options.get("ssl", [])]
    return made(  # type: ignore[no-any-return]
        PostgresDatabase,
        host=url.hostname or "",
        port=url.port or 5432,
        database=unquote(url.path.removeprefix("/")),
        username=unquote(url.username or ""),
        password=unquote(url.password or ""),
        **({"ssl_mode": mode[0]} if mode else {}),
    )
