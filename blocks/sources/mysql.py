"""Databases of MySQL and MariaDB, dumped and restored by the tools that fit their server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import quote, unquote, urlencode

from pydantic import AfterValidator, ConfigDict, Field, HttpUrl, SecretStr

from blocks.docker.container import host_of
from blocks.docker.engine import OptionalDockerName
from blocks.look import DOCUMENTATION_URL, LOGO_URL
from blocks.sources import mysql_restore
from blocks.sources.base import Category, Content, Dump, Facts, RestoreOptions, Source
from blocks.sources.mysql_client import Endpoint, option_file
from blocks.sources.mysql_dump import check_rights, script_dump
from blocks.sources.mysql_restore import look_at
from blocks.sources.mysql_swap import NAME_CHARACTERS, beside, drop, drop_leftovers, is_drill
from blocks.sources.urls import other_machine, split_database, understood
from vault.errors import ConfigError

SslMode = Literal["disable", "prefer", "require", "verify-full"]

_HOST = re.compile(r"[A-Za-z0-9._:%][A-Za-z0-9._:%-]*|")
PARAMETERS = frozenset({"socket", "ssl-mode", "ssl-ca", "container"})
_SCHEMES = ("mysql", "mariadb")


def _name(value: str) -> str:
    """A name that the server can have, on one line, and that no tool cuts (N04, N05)."""
    if not value.isprintable() or len(value) > NAME_CHARACTERS or any(ord(character) > 0xFFFF for character in value):
        raise ValueError(f"a name has to be printable, of the basic plane, and at most {NAME_CHARACTERS} characters")
    return value


def _database(value: str) -> str:
    if not value or value.endswith(" "):
        raise ValueError("a database has to be named, and no name ends with a space")
    return _name(value)


def _host(value: str) -> str:
    if not (value.isprintable() and _HOST.fullmatch(value)):
        raise ValueError("a host is one name or one address")
    return value


def _file(value: str) -> str:
    if value and not (value.isprintable() and value.startswith("/")):
        raise ValueError("has to be an absolute path")
    return value


def _password(value: SecretStr) -> SecretStr:
    try:
        option_file(value.get_secret_value())
    except ConfigError as error:
        raise ValueError(error.message) from None
    return value


class MySQLDatabase(Source):
    """
    A database of MySQL (5.7, 8, 9) or MariaDB: dumped in one snapshot, restored beside what is there.

    Attributes:
        host: Name or address of the server; `localhost` with the usual port means the client's own socket.
        port: The server's port.
        socket: The server's socket, a file; empty to connect to the host.
        database: The name of the database.
        username: Who logs in; empty for the name of the system's user.
        password: The password; empty where `~/.my.cnf`, `MYSQL_PWD` or the server needs none.
        ssl_mode: How TLS is used; over a network take `verify-full`.
        ssl_ca: The file of the authority that signed the server's certificate; empty for those of the system.
        bin_dir: The directory of the client and the dump tool; empty to find the ones that fit.
        idle_timeout: Seconds without output after which a dump is stopped.
        container: The Docker container in which the server runs: its own tools are run there, and *host* or *socket*
            is what they connect to; empty where it runs in none.

    Example:
        Load a database and dump it:
        ```python
        from blocks import MySQLDatabase

        database = MySQLDatabase.load("BLOCK_NAME")
        with database.dump() as dump:
            content = dump.stream.read()
        ```
    """

    kind: ClassVar[str] = "mysql"
    category: ClassVar[Category] = "database"

    _block_type_name: ClassVar[str | None] = "MySQL Database"
    _block_type_slug: ClassVar[str | None] = "mysql-database"
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL

    model_config = ConfigDict(hide_input_in_errors=True)

    host: Annotated[str, AfterValidator(_host)] = Field(
        default="localhost", description="Name or address of the server; localhost for its socket."
    )
    port: int = Field(default=3306, ge=1, le=65535, description="The server's port.")
    socket: Annotated[str, AfterValidator(_file)] = Field(
        default="", description="The server's socket, a file; empty to connect to the host."
    )
    database: Annotated[str, AfterValidator(_database)] = Field(description="The name of the database.")
    username: Annotated[str, AfterValidator(_name)] = Field(
        default="", description="Who logs in; empty for the name of the system's user."
    )
    password: Annotated[SecretStr, AfterValidator(_password)] = Field(
        default=SecretStr(""),
        description="The password; empty where ~/.my.cnf has it, or none is needed.",
    )
    ssl_mode: SslMode = Field(default="prefer", description="How TLS is used; over a network take verify-full.")
    ssl_ca: Annotated[str, AfterValidator(_file)] = Field(
        default="", description="The file of the authority that signed the server's certificate."
    )
    bin_dir: str = Field(
        default="",
        description="The directory of the client and the dump tool; empty to find the ones that fit.",
    )
    idle_timeout: int = Field(default=900, ge=1, description="Seconds without output after which a dump is stopped.")
    container: OptionalDockerName = Field(
        default="", description="The Docker container in which the server runs, and its tools are run; or empty."
    )

    @classmethod
    def from_url(cls, url: str) -> Self:
        """From ``mysql://user@host:port/database?socket=/file&ssl-mode=require``, without a password."""
        with understood("a database of MySQL or MariaDB", "mysql://user@host:3306/database"):
            elsewhere = "~/.my.cnf or the environment variable MYSQL_PWD"
            parts, options = split_database(url, _SCHEMES, PARAMETERS, elsewhere)
            return cls(
                host=unquote(parts.hostname or "localhost"),
                port=parts.port or 3306,
                socket=options.get("socket", ""),
                database=unquote(parts.path[1:], errors="strict"),
                username=unquote(parts.username or "", errors="strict"),
                ssl_mode=options.get("ssl-mode", "prefer"),
                ssl_ca=options.get("ssl-ca", ""),
                container=options.get("container", ""),
            )

    @property
    def location(self) -> str:
        """The URL, without a password, and on which server its tools run."""
        user = f"{quote(self.username, safe='')}@" if self.username else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = "localhost" if self.socket else f"{host}:{self.port}"
        more = {"socket": self.socket, "container": self.container}
        given = urlencode({name: value for name, value in more.items() if value}, safe="/")
        where = f"?{given}" if given else ""
        return self.placed(f"mysql://{user}{place}/{quote(self.database, safe='')}{where}")

    @property
    def connects_to(self) -> str:
        """See ``Source.connects_to``."""
        return "" if self.socket else other_machine(self.host)

    def runs_in(self) -> tuple[str, ...]:
        """See ``Source.runs_in``."""
        return (self.container,) if self.container else ()

    def check(self) -> str:
        """The tools are there, the server lets us in, the database exists, and the account sees all of it."""
        with self._endpoint().open() as access:
            server = access.look(self.database)
            tool = access.for_dump(server)
            check_rights(access, server, self.database)
            return f"{tool}, {server}"

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """See ``Source.dump``. The proof: the exit status, the last line, and every table and view."""
        with self._endpoint().open() as access:
            check_rights(access, access.look(self.database), self.database)
            with script_dump(access, self.database) as dump:
                yield dump

    def restore(self, content: Content, options: RestoreOptions) -> Facts:
        """See ``Source.restore``. Restores beside the database, and moves all tables in one statement."""
        with self._endpoint().open() as access:
            return mysql_restore.restore(look_at(access, self.database), content, options)

    def check_target(self, options: RestoreOptions) -> None:
        """See ``Source.check_target``."""
        with self._endpoint().open() as access:
            mysql_restore.check(look_at(access, self.database), options)

    def replaces(self, options: RestoreOptions) -> bool:
        """See ``Source.replaces``: no server swaps tables, views and programs in one step."""
        if not options.overwrite or is_drill(self.database):
            return False
        with self._endpoint().open() as access:
            return look_at(access, self.database).state == "full"

    @contextmanager
    def scratch(self) -> Iterator[MySQLDatabase]:
        """A database of a new name on the same server, dropped at exit. No event runs in it."""
        other = self.model_copy(update={"database": beside(self.database, "drill")})
        try:
            yield other
        finally:
            with self._endpoint().open() as access:
                target = look_at(access, other.database)
                drop_leftovers(target)
                drop(target, other.database)

    def _endpoint(self) -> Endpoint:
        return Endpoint(
            host_of(self.server, self.container),
            self.host,
            self.port,
            self.socket,
            self.username,
            self.password,
            self.ssl_mode,
            self.ssl_ca,
            self.bin_dir,
            self.idle_timeout,
        )
