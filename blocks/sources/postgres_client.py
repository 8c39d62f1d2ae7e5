"""PostgreSQL's own tools: which of the installed ones fit, how they find the server, and SQL through psql."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import SecretStr

from blocks.host import Host, RunningTool
from blocks.servers import LocalServer
from vault.errors import ConfigError, SourceError, printable
from vault.process import Command

DIRECTORIES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin")

# What a client or a server says that may pass. Everything else (password, name, right, disk) will not.
TRANSIENT = "|".join(
    (
        r"Connection refused",
        r"could not translate host name",
        r"timeout expired",
        r"[Cc]onnection timed out",
        r"No route to host|Network is unreachable",
        r"Connection reset by peer",
        r"connection to server on socket .* failed: No such file or directory",
        r"server closed the connection unexpectedly",
        r"SSL (SYSCALL error|connection has been closed)",
        r"the database system is (starting up|shutting down|in recovery mode|not yet accepting)",
        r"terminating connection|no connection to the server",
        r"too many clients already|remaining connection slots|too many connections for",
        r"canceling statement due to (conflict with recovery|lock timeout)|deadlock detected",
    )
)
_TLS_OF_THE_OPERATOR = ("PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGSSLCRL", "KRB5CCNAME")


def version_key(text: str) -> int:
    """A number that orders major versions: ``9.6.1`` → 906, ``15.18 (Debian …)`` → 1500."""
    match = re.search(r"(\d+)(?:\.(\d+))?", text)
    if match is None:
        raise SourceError(f"{printable(text)[:80]!r} is not the version of PostgreSQL")
    major = int(match[1])
    return major * 100 + (int(match[2] or 0) if major < 10 else 0)


def identifier(name: str) -> str:
    """*name* as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """*text* as an SQL literal, whatever ``standard_conforming_strings`` is."""
    escaped = text.replace("'", "''")
    return f"E'{escaped.replace(chr(92), chr(92) * 2)}'" if "\\" in escaped else f"'{escaped}'"


@dataclass(frozen=True)
class Installation:
    """One installed set of client tools."""

    key: int
    version: str
    directory: str

    def tool(self, name: str) -> str:
        """The path of one of its tools."""
        return os.path.join(self.directory, name)


@dataclass(frozen=True)
class Endpoint:
    """One PostgreSQL server and how to log in; ``open`` gives access to it."""

    server: Host
    host: str
    port: int
    username: str
    password: SecretStr
    ssl_mode: str
    bin_dir: str
    idle_timeout: float

    @contextmanager
    def open(self) -> Iterator[Access]:
        """Access for as long as the context lasts: a password lies in a private passfile meanwhile."""
        local = isinstance(self.server, LocalServer)  # what lies on this machine is of no use elsewhere
        env = {name: os.environ[name] for name in _TLS_OF_THE_OPERATOR if local and name in os.environ}
        password = self.password.get_secret_value() or os.environ.get("PGPASSWORD", "")
        installed = find_installations(self.server, self.bin_dir)
        if not password:
            if local and "PGPASSFILE" in os.environ:
                env["PGPASSFILE"] = os.environ["PGPASSFILE"]
            yield Access(self, installed, env, ())
            return
        with self.server.secret_file(passfile(password)) as path:
            yield Access(self, installed, {**env, "PGPASSFILE": path}, (password,))

    def conninfo(self, database: str) -> str:
        """Where *database* is, in libpq's form. A name is quoted, never read as a conninfo of its own (N07)."""
        parts = {
            "dbname": database,
            "host": self.host,
            "port": str(self.port),
            "user": self.username,
            "sslmode": self.ssl_mode,
            "connect_timeout": "15",
            "application_name": "prefect-backups",
        }
        return " ".join(f"{name}={_quoted(value)}" for name, value in parts.items() if value)


@dataclass(frozen=True)
class Access:
    """Access to a server with its tools: every command and statement goes through here."""

    endpoint: Endpoint
    installed: tuple[Installation, ...]
    env: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    def command(self, path: str, *arguments: str, database: str) -> Command:
        """One of the tools, connected to *database*. It never asks for a password."""
        dbname = f"--dbname={self.endpoint.conninfo(database)}"
        return Command(
            (path, "--no-password", dbname, *arguments),
            self.env,
            self.secrets,
            self.endpoint.idle_timeout,
            transient=TRANSIENT,
        )

    def psql(self, *arguments: str, database: str) -> Command:
        """psql without the user's psqlrc; the first error ends it."""
        path = self.installed[-1].tool("psql")
        return self.command(path, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", *arguments, database=database)

    def execute(self, database: str, sql: str) -> str:
        """Run *sql*, statement by statement; gives back the rows, unaligned."""
        command = self.psql("--no-align", "--tuples-only", "--file=-", database=database)
        command = replace(command, env={**command.env, "PGCLIENTENCODING": "UTF8"})
        done = self.endpoint.server.run(command, sql.encode())
        return done.stdout.decode().rstrip("\n")

    def query(self, database: str, sql: str) -> Any:
        """The one JSON value that *sql* selects."""
        return json.loads(self.execute(database, sql))

    @contextmanager
    def session(self, database: str) -> Iterator[Session]:
        """A conversation with the server in one connection. A clean exit means that psql ended well."""
        command = self.psql("--no-align", "--tuples-only", database=database)
        command = replace(command, env={**command.env, "PGCLIENTENCODING": "UTF8"}, idle_timeout=None)
        with self.endpoint.server.session(command) as tool:
            yield Session(tool)

    def server_version(self, database: str) -> str:
        """The server's version, as ``15.18``."""
        return self.execute(database, "SHOW server_version;").split()[0]

    def for_dump(self, server_version: str) -> Installation:
        """The oldest tools that can dump a server of that version (S11)."""
        return self._at_least(version_key(server_version), f"the server is PostgreSQL {server_version}: its pg_dump")

    def for_restore(self, dumped_with: str) -> Installation:
        """The oldest tools that can read a dump made by *dumped_with*."""
        wanted = version_key(dumped_with)
        return self._at_least(wanted, f"the dump was made by pg_dump {dumped_with}: its pg_restore")

    def _at_least(self, key: int, whose: str) -> Installation:
        for found in self.installed:
            if found.key >= key:
                return found
        major = f"{key // 100}.{key % 100}" if key < 1000 else str(key // 100)
        there = ", ".join(f"{one.version} in {one.directory}" for one in self.installed)
        raise SourceError(
            f"{whose} has to be {major} or newer, and only {there} is installed",
            f"Install it: apt-get install postgresql-client-{major} (from apt.postgresql.org).",
        )


class Session:
    """One connection, statement after statement."""

    def __init__(self, tool: RunningTool) -> None:
        self.tool = tool

    def ask(self, sql: str) -> str:
        """Run *sql* and give back its rows, unaligned. Raises psql's own error when it has ended."""
        end = "end-of-answer"
        self.tool.stdin.write(f"{sql}\n\\echo {end}\n".encode())
        lines = []
        while (line := self.tool.stdout.readline().decode()) != f"{end}\n":
            if not line:
                self.tool.finish()
                raise SourceError("psql ended before it answered")
            lines.append(line)
        return "".join(lines).rstrip("\n")


def find_installations(server: Host, bin_dir: str = "") -> tuple[Installation, ...]:
    """The installed client tools, oldest first; only those of *bin_dir* where it is given."""
    if bin_dir:
        places = [bin_dir]
    else:
        places = [place for pattern in DIRECTORIES for place in server.glob(pattern)]
        on_path = server.which("pg_dump")
        # Debian's wrapper on PATH only chooses among the places that we look at ourselves.
        if on_path and not _leads_to(server, on_path, "pg_wrapper"):
            places.append(os.path.dirname(on_path))
    found: dict[int, Installation] = {}
    for place in places:
        complete = all(server.which(os.path.join(place, name)) for name in ("psql", "pg_dump"))
        if complete:
            one = _installation(server, place)
            found.setdefault(one.key, one)
    if not found:
        where = bin_dir or f"PATH and {', '.join(DIRECTORIES)}"
        raise SourceError(
            f"pg_dump and psql are not installed (looked in {printable(where)})",
            "Install them (Debian, Ubuntu: apt-get install postgresql-client).",
        )
    return tuple(sorted(found.values(), key=lambda one: one.key))


def _installation(server: Host, directory: str) -> Installation:
    command = Command((os.path.join(directory, "pg_dump"), "--version"), idle_timeout=30)
    said = server.run(command).stdout.decode(errors="replace")
    match = re.search(r"\(PostgreSQL\) (\S+)", said)
    if match is None:
        raise SourceError(f"{directory}/pg_dump does not say its version: {printable(said)[:80]!r}")
    return Installation(version_key(match[1]), match[1], directory)


def _leads_to(server: Host, path: str, name: str) -> bool:
    real = server.run(Command(("readlink", "-f", path), idle_timeout=30)).stdout
    return os.path.basename(os.fsdecode(real).rstrip("\n")) == name


def passfile(password: str) -> str:
    """The passfile that gives *password* to whatever server we connect to (N08)."""
    if "\n" in password or "\r" in password or "\0" in password:
        raise ConfigError("a password with a line break cannot be given to PostgreSQL's tools", "Set another.")
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    return f"*:*:*:*:{escaped}\n"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
