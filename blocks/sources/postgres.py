"""PostgreSQL databases, dumped and restored by PostgreSQL's own tools."""

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
from blocks.servers import LocalServer
from blocks.sources import postgres_restore
from blocks.sources.base import Category, Content, Dump, Facts, RestoreOptions, Source
from blocks.sources.postgres_client import Endpoint, passfile
from blocks.sources.postgres_dump import custom_dump, plain_dump
from blocks.sources.postgres_restore import look_at
from blocks.sources.postgres_swap import NAME_BYTES, beside, drop
from blocks.sources.urls import other_machine, split_database, understood
from blocks.ssh_server import SshServer
from vault.errors import ConfigError

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

_HOST = re.compile(r"/[^,]*|[A-Za-z0-9._:%-]*")
_SCHEMES = ("postgresql", "postgres")
PARAMETERS = frozenset({"host", "port", "sslmode", "container"})


def _name(value: str) -> str:
    """A name that PostgreSQL can have, on one line, and that no tool cuts (N04, N05)."""
    if not value.isprintable() or len(value.encode(errors="replace")) > NAME_BYTES:
        raise ValueError(f"a name has to be printable and at most {NAME_BYTES} bytes long")
    return value


def _database(value: str) -> str:
    if not value:
        raise ValueError("a database has to be named")
    return _name(value)


def _host(value: str) -> str:
    if not (value.isprintable() and _HOST.fullmatch(value)):
        raise ValueError("a host is one name, one address, or the directory of a socket")
    return value


def _password(value: SecretStr) -> SecretStr:
    try:
        passfile(value.get_secret_value())
    except ConfigError as error:
        raise ValueError(error.message) from None
    return value


class PostgresDatabase(Source):
    """
    A PostgreSQL database: dumped by `pg_dump` from one snapshot, restored by `pg_restore` or `psql`.

    Attributes:
        host: Name or address of the server; the directory of its socket; empty for the local socket.
        port: The server's port.
        database: The name of the database.
        username: Who logs in; empty for the name of the system's user.
        password: The password; empty where `~/.pgpass`, `PGPASSWORD` or the server needs none.
        format: `custom` restores in parallel; `plain` is an SQL script that `psql` reads.
        ssl_mode: How TLS is used, as libpq has it; over a network take `verify-full`.
        bin_dir: The directory of `pg_dump`, `pg_restore` and `psql`; empty to find the ones that fit.
        idle_timeout: Seconds without output after which a dump is stopped.
        container: The Docker container in which the server runs: its own tools are run there, and *host* is what they
            connect to; empty where it runs in none.

    Example:
        Load a database and dump it:
        ```python
        from blocks import PostgresDatabase

        database = PostgresDatabase.load("BLOCK_NAME")
        with database.dump() as dump:
            content = dump.stream.read()
        ```
    """

    kind: ClassVar[str] = "postgres"
    category: ClassVar[Category] = "database"
    part: ClassVar[Literal["path", "table", ""]] = "table"

    _block_type_name: ClassVar[str | None] = "PostgreSQL Database"
    _block_type_slug: ClassVar[str | None] = "postgres-database"
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL

    model_config = ConfigDict(hide_input_in_errors=True)

    host: Annotated[str, AfterValidator(_host)] = Field(
        default="localhost",
        description="Name or address of the server, or the directory of its socket.",
    )
    port: int = Field(default=5432, ge=1, le=65535, description="The server's port.")
    database: Annotated[str, AfterValidator(_database)] = Field(description="The name of the database.")
    username: Annotated[str, AfterValidator(_name)] = Field(
        default="", description="Who logs in; empty for the name of the system's user."
    )
    password: Annotated[SecretStr, AfterValidator(_password)] = Field(
        default=SecretStr(""),
        description="The password; empty where ~/.pgpass has it, or none is needed.",
    )
    format: Literal["custom", "plain"] = Field(
        default="custom",
        description="The form of the dump: custom restores in parallel, plain is an SQL script.",
    )
    ssl_mode: SslMode = Field(default="prefer", description="How TLS is used, as libpq has it.")
    bin_dir: str = Field(
        default="",
        description="The directory of pg_dump and psql; empty to find the ones that fit.",
    )
    idle_timeout: int = Field(default=900, ge=1, description="Seconds without output after which a dump is stopped.")
    container: OptionalDockerName = Field(
        default="", description="The Docker container in which the server runs, and its tools are run; or empty."
    )

    @classmethod
    def from_url(cls, url: str, server: LocalServer | SshServer | None = None) -> Self:
        """From ``postgresql://user@host:port/database?host=/socket&sslmode=require``, without a password."""
        with understood("a PostgreSQL database", "postgresql://user@host:5432/database"):
            elsewhere = "~/.pgpass or the environment variable PGPASSWORD"
            parts, options = split_database(url, _SCHEMES, PARAMETERS, elsewhere)
            return cls(
                server=server or LocalServer(),
                host=options.get("host", unquote(parts.hostname or "")),
                port=int(options.get("port", parts.port or 5432)),
                database=unquote(parts.path[1:], errors="strict"),
                username=unquote(parts.username or "", errors="strict"),
                ssl_mode=options.get("sslmode", "prefer"),
                container=options.get("container", ""),
            )

    @property
    def location(self) -> str:
        """The URL, without a password, and on which server its tools run."""
        user = f"{quote(self.username, safe='')}@" if self.username else ""
        socket = self.host.startswith("/")
        host = "" if socket else f"[{self.host}]" if ":" in self.host else self.host
        more = {"host": self.host if socket else "", "container": self.container}
        given = urlencode({name: value for name, value in more.items() if value}, safe="/")
        where = f"?{given}" if given else ""
        return self.placed(f"postgresql://{user}{host}:{self.port}/{quote(self.database, safe='')}{where}")

    @property
    def connects_to(self) -> str:
        """See ``Source.connects_to``."""
        return other_machine(self.host)

    def runs_in(self) -> tuple[str, ...]:
        """See ``Source.runs_in``."""
        return (self.container,) if self.container else ()

    def check(self) -> str:
        """The tools are there, the server lets us in, the database exists, and pg_dump fits the server."""
        with self._endpoint().open() as access:
            version = access.server_version(self.database)
            client = access.for_dump(version)
            return f"pg_dump {client.version}, PostgreSQL {version}"

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """See ``Source.dump``. The proof: every exit status, the table of contents, and the end."""
        make = custom_dump if self.format == "custom" else plain_dump
        with self._endpoint().open() as access:
            version = access.server_version(self.database)
            with make(access, self.database, version) as dump:
                yield dump

    def restore(self, content: Content, options: RestoreOptions) -> Facts:
        """See ``Source.restore``. Restores beside the database, and swaps by rename in one transaction."""
        with self._endpoint().open() as access:
            return postgres_restore.restore(look_at(access, self.database), content, options)

    def check_target(self, options: RestoreOptions) -> None:
        """See ``Source.check_target``."""
        with self._endpoint().open() as access:
            postgres_restore.check(look_at(access, self.database), options)

    @contextmanager
    def scratch(self) -> Iterator[PostgresDatabase]:
        """A database of a new name on the same server, dropped at exit."""
        other = self.model_copy(update={"database": beside(self.database, "drill")})
        try:
            yield other
        finally:
            with self._endpoint().open() as access:
                target = look_at(access, other.database)
                drop(target, other.database)

    def _endpoint(self) -> Endpoint:
        return Endpoint(
            host_of(self.server, self.container),
            self.host,
            self.port,
            self.username,
            self.password,
            self.ssl_mode,
            self.bin_dir,
            self.idle_timeout,
        )
