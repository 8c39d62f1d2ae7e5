"""``backups source``: what is backed up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App

from cli.api import prefect_api
from cli.docker_volume import add_docker_volume
from cli.saved import Flag, Repeated, SecretFile, add_verbs, made, save, secret
from cli.servers import Place

source_app = App(name="source", help="What is backed up: databases, directories and volumes.", version_flags=[])
_add_source = App(name="add", help="Save a source, after a test of it.", version_flags=[])
source_app.command(_add_source)
add_verbs(source_app, "source")
_add_source.command(add_docker_volume, name="docker-volume")


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
    container: str = "",
    place: Place | None = None,
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
    container
        The Docker container in which the server runs: its own tools are run there.
    """
    password = None if no_password else secret(f"Password of {user} at {host}", password_file)
    where = place or Place()
    with prefect_api():
        from pydantic import SecretStr

        from blocks.sources import PostgresDatabase

        block = made(
            PostgresDatabase,
            **where.fields(),
            database=database,
            username=user,
            host=host,
            port=port,
            password=SecretStr(password or ""),
            format="plain" if plain else "custom",
            container=container,
        )
        save("source", name, block, where.no_test)


@_add_source.command(name="mysql")
def add_mysql(
    name: str,
    /,
    *,
    database: str,
    user: str,
    host: str = "localhost",
    port: int = 3306,
    socket: str = "",
    ssl_mode: Literal["disable", "prefer", "require", "verify-full"] = "prefer",
    ssl_ca: str = "",
    password_file: SecretFile = None,
    no_password: Annotated[bool, Flag] = False,
    container: str = "",
    place: Place | None = None,
) -> None:
    """Save a MySQL or MariaDB database. Its password is asked for.

    Example: backups source add mysql shop-db --database shop --user shop

    Parameters
    ----------
    name
        The name of the source.
    database
        The database's name.
    user
        The account that reads it.
    host
        A host name; localhost with the usual port is the client's own socket.
    port
        The server's port.
    socket
        The file of the server's socket, instead of a host.
    ssl_mode
        How TLS is used: over a network take verify-full.
    ssl_ca
        The file of the authority that signed the server's certificate; default: those of the system.
    password_file
        A file with the password, or - for standard input.
    no_password
        The server needs none, or ~/.my.cnf has it.
    container
        The Docker container in which it runs: its own tools are run there.
    """
    password = None if no_password else secret(f"Password of {user} at {socket or host}", password_file)
    where = place or Place()
    with prefect_api():
        from pydantic import SecretStr

        from blocks.sources import MySQLDatabase

        block = made(
            MySQLDatabase,
            container=container,
            **where.fields(),
            database=database,
            username=user,
            host=host,
            port=port,
            socket=socket,
            ssl_mode=ssl_mode,
            ssl_ca=ssl_ca,
            password=SecretStr(password or ""),
        )
        save("source", name, block, where.no_test)


@_add_source.command(name="redis")
def add_redis(
    name: str,
    /,
    *,
    user: str = "",
    host: str = "localhost",
    port: int = 6379,
    socket: str = "",
    tls: Annotated[bool, Flag] = False,
    ca_file: str = "",
    password_file: SecretFile = None,
    no_password: Annotated[bool, Flag] = False,
    container: str = "",
    place: Place | None = None,
) -> None:
    """Save a Redis server, with all its databases. Its password is asked for.

    Example: backups source add redis shop-cache --user backup

    Parameters
    ----------
    name
        The name of the source.
    user
        The ACL user who logs in; default: the server's default user.
    host
        A host name.
    port
        The server's port.
    socket
        The file of the server's socket, instead of a host.
    tls
        Speak TLS, and check the server's certificate.
    ca_file
        The certificate of the authority that signed the server's; default: the system's.
    password_file
        A file with the password, or - for standard input.
    no_password
        The server needs none, or REDISCLI_AUTH has it.
    container
        The Docker container in which it runs: its own tools are run there.
    """
    password = None if no_password else secret(f"Password of {user or 'Redis'} at {socket or host}", password_file)
    where = place or Place()
    with prefect_api():
        from pydantic import SecretStr

        from blocks.sources import RedisDatabase

        block = made(
            RedisDatabase,
            **where.fields(),
            username=user,
            host=host,
            port=port,
            socket=socket,
            tls=tls,
            ca_file=ca_file,
            container=container,
            password=SecretStr(password or ""),
        )
        save("source", name, block, where.no_test)


@_add_source.command(name="sqlite")
def add_sqlite(name: str, path: Path, /, *, place: Place | None = None) -> None:
    """Save an SQLite database.

    Example: backups source add sqlite shop-db /srv/shop/shop.sqlite

    Parameters
    ----------
    name
        The name of the source.
    path
        The database's file.
    """
    where = place or Place()
    with prefect_api():
        from blocks.sources import SqliteDatabase

        save("source", name, made(SqliteDatabase, **where.fields(), path=where.path(path)), where.no_test)


@_add_source.command(name="directory")
def add_directory(
    name: str,
    path: Path,
    /,
    *,
    exclude: Annotated[list[str] | None, Repeated] = None,
    one_file_system: Annotated[bool, Flag] = False,
    allow_unreadable: Annotated[bool, Flag] = False,
    place: Place | None = None,
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
    """
    where = place or Place()
    with prefect_api():
        from blocks.sources import Directory

        block = made(
            Directory,
            **where.fields(),
            path=where.path(path),
            exclude=exclude or [],
            one_file_system=one_file_system,
            allow_unreadable=allow_unreadable,
        )
        save("source", name, block, where.no_test)
