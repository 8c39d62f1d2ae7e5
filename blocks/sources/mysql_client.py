"""How the tools of MySQL and MariaDB log in, and SQL through their client."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from pydantic import SecretStr

from blocks.host import Host, RunningTool
from blocks.sources import mysql_tools
from blocks.sources.mysql_tools import MARIADB, MYSQL, Installation, Server, find_installations, parse_server
from vault.errors import ConfigError, SourceError
from vault.process import Command

PASSWORD_BYTES = 1000  # a line of an option file has room for 4095, and each byte may take two

# By their number: the words are translated. Everything else (password, name, right, disk) will not pass.
_PASSING = "|".join(
    (
        "1040|1203|1226",  # too many connections
        "1205|1213|1412",  # locks, and tables that changed while they were read (S21)
        "1053|1047|1927|2006|2013|1158|1159|1160|1161",  # the server or the network went away
        "2002|2003|2005",  # it is not there yet
    )
)
TRANSIENT = rf"(?:ERROR|[Ee]rror:?) (?:{_PASSING})\b|\((?:{_PASSING})\)"

# How each kind of tool is told of TLS; MySQL's since 5.7.11.
_TLS: dict[str, dict[str, tuple[str, ...]]] = {
    MARIADB: {
        "disable": ("--skip-ssl",),
        "prefer": ("--skip-ssl-verify-server-cert",),
        "require": ("--ssl", "--skip-ssl-verify-server-cert"),
        "verify-full": ("--ssl", "--ssl-verify-server-cert"),
    },
    MYSQL: {
        "disable": ("--ssl-mode=DISABLED",),
        "prefer": ("--ssl-mode=PREFERRED",),
        "require": ("--ssl-mode=REQUIRED",),
        "verify-full": ("--ssl-mode=VERIFY_IDENTITY",),
    },
}
_UNESCAPED = {"n": "\n", "t": "\t", "0": "\0", "\\": "\\"}


def identifier(name: str) -> str:
    """*name* as an SQL identifier."""
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """*text* as an SQL literal, whatever ``sql_mode`` is."""
    return f"_utf8mb4 0x{text.encode().hex()}" if text else "''"


def option_file(password: str) -> str:
    """The option file that gives *password* to whatever server the tool connects to (N08)."""
    if "\0" in password or len(password.encode()) > PASSWORD_BYTES:
        raise ConfigError(
            f"a password has at most {PASSWORD_BYTES} bytes, and no NUL among them", "Set another password."
        )
    named = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})
    return f'[client]\npassword="{password.translate(named)}"\n'


@dataclass(frozen=True)
class Endpoint:
    """One server and how to log in; ``open`` gives access to it."""

    server: Host
    host: str
    port: int
    socket: str
    username: str
    password: SecretStr
    ssl_mode: str
    ssl_ca: str
    bin_dir: str
    idle_timeout: float

    @contextmanager
    def open(self) -> Iterator[Access]:
        """Access for as long as the context lasts: a password lies in a private option file meanwhile."""
        installed = find_installations(self.server, self.bin_dir)
        password = self.password.get_secret_value() or os.environ.get("MYSQL_PWD", "")
        if not password:  # the user's own ~/.my.cnf may have one
            yield Access(self, installed, (), ())
            return
        with self.server.secret_file(option_file(password)) as path:
            yield Access(self, installed, (f"--defaults-file={path}",), (password,))

    def where(self, flavour: str) -> tuple[str, ...]:
        """Where the server is, as options of a tool of *flavour*."""
        by_default = self.host in ("", "localhost") and self.port == 3306
        if self.socket:
            place: tuple[str, ...] = ("--protocol=socket", f"--socket={self.socket}")
        elif by_default:  # the client's own socket
            place = ("--host=localhost",)
        else:
            place = ("--protocol=tcp", f"--host={self.host or 'localhost'}", f"--port={self.port}")
        user = (f"--user={self.username}",) if self.username else ()
        tls = () if self.socket or by_default else self._tls(flavour)
        return (*place, *user, *tls)

    def _tls(self, flavour: str) -> tuple[str, ...]:
        authority = (f"--ssl-ca={self.ssl_ca}",) if self.ssl_ca else ()
        return (*_TLS[flavour][self.ssl_mode], *authority)


@dataclass(frozen=True)
class Access:
    """Access to a server with its tools: every command and statement goes through here."""

    endpoint: Endpoint
    installed: tuple[Installation, ...]
    first: tuple[str, ...] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    def command(self, path: str, flavour: str, *arguments: str) -> Command:
        """One of the tools, with what it takes to log in."""
        return Command(
            (path, *self.first, *self.endpoint.where(flavour), *arguments),
            {},
            self.secrets,
            self.endpoint.idle_timeout,
            transient=TRANSIENT,
        )

    def client(self, database: str = "", tool: Installation | None = None) -> Command:
        """The client, deaf to commands of its own but DELIMITER (A08); the first error ends it."""
        tool = tool or self.installed[-1]
        return self.command(
            tool.client,
            tool.flavour,
            *("--batch", "--skip-column-names", "--binary-mode", "--unbuffered", "--skip-reconnect"),
            *("--default-character-set=utf8mb4", "--max-allowed-packet=1G", "--local-infile=0"),
            *("--connect-timeout=15", f"--database={database}"),
        )

    def rows(self, sql: str, database: str = "") -> list[list[str]]:
        """Run *sql*, statement by statement; gives back the rows. NULL is the text ``NULL``."""
        done = self.endpoint.server.run(self.client(database), sql.encode())
        return parse_rows(done.stdout.decode(errors="replace"))

    def value(self, sql: str, database: str = "") -> str:
        """The one value that *sql* selects."""
        return self.rows(sql, database)[0][0]

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A conversation with the server in one connection. A clean exit means that the client ended well."""
        with self.endpoint.server.session(replace(self.client(), idle_timeout=None)) as tool:
            yield Session(tool)

    def look(self, database: str = "") -> Server:
        """Which server it is. Refuses a connection in clear where TLS is required."""
        version, cipher = self.rows("SELECT VERSION(); SHOW STATUS LIKE 'Ssl_cipher';", database)
        if self.endpoint.ssl_mode == "require" and "--protocol=tcp" in self.endpoint.where(MARIADB) and not cipher[-1]:
            raise SourceError("TLS is required, and the server does not offer it", "Set it up there, or ask for less.")
        return parse_server(version[0])

    def for_dump(self, server: Server) -> Installation:
        """The tools that fit *server* best."""
        return mysql_tools.for_dump(self.installed, server)

    def for_load(self, server: Server) -> Installation:
        """The newest tools of the kind of *server*, else the newest."""
        return mysql_tools.for_load(self.installed, server)


class Session:
    """One connection, statement after statement."""

    def __init__(self, tool: RunningTool) -> None:
        self.tool = tool

    def ask(self, sql: str) -> list[list[str]]:
        """Run *sql* and give back its rows. Raises the client's own error when it has ended."""
        end = "end-of-answer"
        self.tool.stdin.write(f"{sql}\nSELECT '{end}';\n".encode())
        lines = []
        while (line := self.tool.stdout.readline().decode(errors="replace")) != f"{end}\n":
            if not line:
                self.tool.finish()
                raise SourceError("the client ended before it answered")
            lines.append(line)
        return parse_rows("".join(lines))


def parse_rows(text: str) -> list[list[str]]:
    """The rows that the client wrote in batch mode."""
    return [[_unescaped(value) for value in line.split("\t")] for line in text.split("\n")[:-1]]


def _unescaped(value: str) -> str:
    return re.sub(r"\\([nt0\\])", lambda match: _UNESCAPED[match[1]], value) if "\\" in value else value
