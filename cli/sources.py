"""``backups source``: what is backed up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App

from cli.api import prefect_api
from cli.saved import Flag, Repeated, SecretFile, add_verbs, made, save, secret
from vault.store import absolute

source_app = App(name="source", help="What is backed up: databases and directories.", version_flags=[])
_add_source = App(name="add", help="Save a source, after a test of it.", version_flags=[])
source_app.command(_add_source)
add_verbs(source_app, "source")


@_add_source.command(name="postgres")
def add_postgres(
    name: str,
    /,
    *,
    database: str,
    user: str,
    host: str = "localhost",
    port: int = 5432,
    password_file: SecretFile = None,
    no_password: Annotated[bool, Flag] = False,
    plain: Annotated[bool, Flag] = False,
    no_test: Annotated[bool, Flag] = False,
) -> None:
    """Save a PostgreSQL database. Its password is asked for.

    Example: backups source add postgres shop-db --database shop --user shop

    Parameters
    ----------
    name
        The name of the source.
    database
        The database's name.
    user
        The role that reads it.
    host
        A host name, or the directory of a Unix socket.
    port
        The server's port.
    password_file
        A file with the password, or - for standard input.
    no_password
        The server needs none, or ~/.pgpass has it.
    plain
        Dump as SQL text instead of pg_dump's custom format.
    no_test
        Save it without a test.
    """
    password = None if no_password else secret(f"Password of {user} at {host}", password_file)
    with prefect_api():
        from pydantic import SecretStr

        from blocks.sources import PostgresDatabase

        block = made(
            PostgresDatabase,
            database=database,
            username=user,
            host=host,
            port=port,
            password=SecretStr(password or ""),
            format="plain" if plain else "custom",
        )
        save("source", name, block, no_test)


@_add_source.command(name="sqlite")
def add_sqlite(name: str, path: Path, /, *, no_test: Annotated[bool, Flag] = False) -> None:
    """Save an SQLite database.

    Example: backups source add sqlite shop-db /srv/shop/shop.sqlite

    Parameters
    ----------
    name
        The name of the source.
    path
        The database's file.
    no_test
        Save it without a test.
    """
    with prefect_api():
        from blocks.sources import SqliteDatabase

        save("source", name, made(SqliteDatabase, path=absolute(str(path))), no_test)


@_add_source.command(name="directory")
def add_directory(
    name: str,
    path: Path,
    /,
    *,
    exclude: Annotated[list[str] | None, Repeated] = None,
    one_file_system: Annotated[bool, Flag] = False,
    allow_unreadable: Annotated[bool, Flag] = False,
    no_test: Annotated[bool, Flag] = False,
) -> None:
    """Save a directory.

    Example: backups source add directory shop-uploads /srv/shop/uploads --exclude '*.tmp'

    Parameters
    ----------
    name
        The name of the source.
    path
        The directory.
    exclude
        A pattern of names to leave out. Repeatable.
    one_file_system
        Do not descend into other file systems.
    allow_unreadable
        Warn about files that cannot be read, instead of failing.
    no_test
        Save it without a test.
    """
    with prefect_api():
        from blocks.sources import Directory

        block = made(
            Directory,
            path=absolute(str(path)),
            exclude=exclude or [],
            one_file_system=one_file_system,
            allow_unreadable=allow_unreadable,
        )
        save("source", name, block, no_test)
