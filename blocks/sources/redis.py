"""Redis servers: one snapshot of all databases, as a replica is given it, proven by Redis's own check."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, ClassVar, Self
from urllib.parse import quote, unquote, urlencode

from pydantic import AfterValidator, ConfigDict, Field, HttpUrl, SecretStr

from blocks.docker.container import host_of
from blocks.docker.engine import OptionalDockerName
from blocks.host import Host
from blocks.look import DOCUMENTATION_URL, LOGO_URL
from blocks.sources.base import Category, Content, Dump, Facts, RestoreOptions, Source
from blocks.sources.redis_check import RESTORE_WITH, checked
from blocks.sources.redis_file import RedisFile
from blocks.sources.urls import no_password, split, understood
from vault.errors import ConfigError, RestoreRefused, SourceError, printable
from vault.process import Command

# What redis-cli or a server says that may pass. Everything else (password, right, name of a command) will not.
TRANSIENT = (
    r"Could not connect|Connection refused|Connection reset|timed out|Server closed the connection"
    r"|I/O Error|Error reading|LOADING |MASTERDOWN|BUSY |max number of clients"
)
_ANSWER = 30.0  # seconds: where TLS is spoken to a server that does not, redis-cli waits for ever
_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9._:%-]*")
_DATABASE = re.compile(r"^(db\d+):keys=(\d+),expires=(\d+)", re.MULTILINE)


def _host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError("a host is one name or one address")
    return value


def _one_line(value: str) -> str:
    if not value.isprintable() or " " in value:
        raise ValueError("must be printable, without spaces")
    return value


def _password(value: SecretStr) -> SecretStr:
    if re.search(r"[\n\r\0]", value.get_secret_value()):
        raise ValueError("a password with a line break cannot be given to redis-cli")
    return value


class RedisDatabase(Source):
    """
    A Redis server, with all its databases: `redis-cli --rdb` is given a snapshot as a replica would be.

    It is restored to a dump file, which a stopped server is given: see docs/sources.md.

    Attributes:
        host: Name or address of the server.
        port: The server's port.
        socket: The path of the server's Unix socket; then host and port do not count.
        username: The ACL user who logs in; empty for the default user.
        password: The password; empty where `REDISCLI_AUTH` has it, or none is needed.
        tls: Speak TLS with the server, and check its certificate.
        ca_file: The certificate of the authority that signed the server's; empty for the system's.
        idle_timeout: Seconds without output after which a dump is stopped.
        container: The Docker container in which the server runs: its own tools are run there, and *host* or *socket*
            is what they connect to; empty where it runs in none.

    Example:
        Load a Redis server and check it:
        ```python
        from blocks import RedisDatabase

        database = RedisDatabase.load("BLOCK_NAME")
        database.check()
        ```
    """

    kind: ClassVar[str] = "redis"
    category: ClassVar[Category] = "database"

    _block_type_name: ClassVar[str | None] = "Redis Server"
    _block_type_slug: ClassVar[str | None] = "redis-server"
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL

    model_config = ConfigDict(hide_input_in_errors=True)

    host: Annotated[str, AfterValidator(_host)] = Field(
        default="localhost", description="Name or address of the server."
    )
    port: int = Field(default=6379, ge=1, le=65535, description="The server's port.")
    socket: Annotated[str, AfterValidator(_one_line)] = Field(
        default="", pattern=r"^(/.*)?$", description="The path of the server's Unix socket, instead of host and port."
    )
    username: Annotated[str, AfterValidator(_one_line)] = Field(
        default="", description="The ACL user who logs in; empty for the default user."
    )
    password: Annotated[SecretStr, AfterValidator(_password)] = Field(
        default=SecretStr(""), description="The password; empty where none is needed."
    )
    tls: bool = Field(default=False, description="Speak TLS with the server, and check its certificate.")
    ca_file: Annotated[str, AfterValidator(_one_line)] = Field(
        default="", description="The certificate of the authority that signed the server's; empty for the system's."
    )
    idle_timeout: float = Field(
        default=900.0, gt=0, description="Seconds without output after which a dump is stopped."
    )
    container: OptionalDockerName = Field(
        default="", description="The Docker container in which the server runs, and its tools are run; or empty."
    )

    @classmethod
    def from_url(cls, url: str) -> Self:
        """From ``redis://user@host:6379``, ``rediss://…`` for TLS, or ``redis:///run/redis.sock``; no password."""
        with understood("a Redis server", "redis://user@host:6379"):
            parts, options = split(url)
            if parts.password is not None:
                raise no_password(
                    "Save the source (`backups source add redis` asks for the password), or put it into the "
                    "environment variable REDISCLI_AUTH."
                )
            if parts.scheme not in ("redis", "rediss") or parts.fragment or set(options) - {"ca_file", "container"}:
                raise ValueError(url)
            path = unquote(parts.path, errors="strict")
            if parts.hostname and path not in ("", "/"):
                raise ConfigError(
                    "a backup of Redis holds all databases of the server, not one", "Leave the database out of the URL."
                )
            return cls(
                host=unquote(parts.hostname or "localhost"),
                port=parts.port or 6379,
                socket="" if parts.hostname else path.rstrip("/"),
                username=unquote(parts.username or "", errors="strict"),
                tls=parts.scheme == "rediss",
                ca_file=options.get("ca_file", ""),
                container=options.get("container", ""),
            )

    @property
    def location(self) -> str:
        """The URL, without a password, and on which server its tools run."""
        user = f"{quote(self.username, safe='')}@" if self.username else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        where = quote(self.socket) if self.socket else f"{host}:{self.port}"
        more = {"ca_file": self.ca_file, "container": self.container}
        given = urlencode({name: value for name, value in more.items() if value}, safe="/", quote_via=quote)
        return self.placed(f"redis{'s' if self.tls else ''}://{user}{where}{'?' if given else ''}{given}")

    def runs_in(self) -> tuple[str, ...]:
        """See ``Source.runs_in``."""
        return (self.container,) if self.container else ()

    def check(self) -> str:
        """The tools are there, the server lets us in."""
        return self._versions(self._info())

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """See ``Source.dump``. The proof: redis-cli got all of it, and redis-check-rdb reads it to its checksum."""
        info = self._info()
        command, secret = self._command("--rdb", "-", idle_timeout=self.idle_timeout)
        with self._place.session(command) as tool:
            tool.stdin.write(secret)
            tool.stdin.close()
            dump = Dump(tool.stdout, "rdb", self._versions(info), RESTORE_WITH)
            with checked(self._place, dump, self.idle_timeout, tool.finish):
                yield dump
        dump.facts["databases"] = {name: int(keys) for name, keys, _ in _DATABASE.findall(info)}

    def check_target(self, options: RestoreOptions) -> None:
        """A running server is no target: it would write its own content over the file that it is given."""
        raise RestoreRefused(
            f"{self.location} is a running server, and Redis reads a dump only when it starts",
            f"Restore to a file: --to /path/dump.rdb. Then stop {self.container or 'the server'}, put the file in the "
            "place of its own, and start it; see docs/sources.md.",
        )

    def restore(self, content: Content, options: RestoreOptions) -> Facts:
        """See ``check_target``."""
        self.check_target(options)
        return {}

    @contextmanager
    def scratch(self) -> Iterator[Source]:
        """A file in a private directory, removed at exit."""
        with self._place.private_directory() as directory:
            yield RedisFile(server=self.server, path=Path(directory / "scratch.rdb"), container=self.container)

    @property
    def _place(self) -> Host:
        """Where its tools run."""
        return host_of(self.server, self.container)

    def _versions(self, info: str) -> str:
        client = self._place.run(Command(("redis-cli", "--version"), idle_timeout=_ANSWER)).stdout.decode()
        server = re.search(r"^redis_version:(\S+)", info, re.MULTILINE)
        return printable(f"{client.strip()}, Redis {server[1] if server else '?'}")

    def _info(self) -> str:
        """What the server says of itself. redis-cli ends well whatever a server answers: so we look."""
        command, secret = self._command("INFO", idle_timeout=_ANSWER)
        done = self._place.run(command, secret)
        answer = done.stdout.decode(errors="replace").replace("\r", "")
        if "redis_version:" in answer:
            return answer
        said = "; ".join([*done.warnings, *answer.splitlines()][:3]) or "nothing"
        raise SourceError(
            f"{self.location} does not let us in: it said {printable(said)}",
            "The user needs a password that fits, and the rights +info +psync +sync +replconf +ping.",
        )

    def _command(self, *arguments: str, idle_timeout: float) -> tuple[Command, bytes]:
        """redis-cli with *arguments*, and what it has to read first: a password is in no argument or variable."""
        where = ("-s", self.socket) if self.socket else ("-h", self.host, "-p", str(self.port))
        password = self.password.get_secret_value() or os.environ.get("REDISCLI_AUTH", "")
        options = ["--tls"] if self.tls else []
        options += ["--cacert", self.ca_file] if self.ca_file else []
        options += ["--user", self.username] if self.username else []
        asked = bool(password or self.username)
        options += ["--askpass"] if asked else []
        command = Command(
            ("redis-cli", *where, *options, *arguments),
            secrets=(password,),
            idle_timeout=idle_timeout,
            transient=TRANSIENT,
        )
        return command, f"{password}\n".encode() if asked else b""
