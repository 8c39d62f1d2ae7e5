"""A real MariaDB server of the tests' own: a fresh data directory, a free port, passwords, an unprivileged user."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cli.api import free_port
from tests.peers.postgres import MissingPeer
from tests.peers.unprivileged import owner_of, run_as

INSTALL = "apt-get install -y mariadb-server"
PASSWORD = r"pa\"ss\'#;%:wörd $(touch x) \n=["
_SMALL = (
    *("innodb-buffer-pool-size=128M", "innodb-flush-log-at-trx-commit=0", "innodb-doublewrite=OFF"),
    *("innodb-log-file-size=96M", "performance-schema=OFF", "skip-log-bin", "sync-frm=OFF"),
)


@dataclass(frozen=True)
class MariaDBServer:
    """A running server. ``admin`` may do everything; everybody needs a password."""

    socket: Path
    port: int
    process: subprocess.Popen[bytes] = field(repr=False)
    host: str = "127.0.0.1"
    admin: str = "admin"
    password: str = PASSWORD

    def sql(self, text: str, database: str = "") -> str:
        """Run *text*, statement by statement; gives back what it selects, a row a line, columns by tabs."""
        argv = ["mariadb", "--no-defaults", "--batch", "--skip-column-names", "--default-character-set=utf8mb4"]
        where = ["--protocol=socket", f"--socket={self.socket}", f"--user={self.admin}"]
        done = subprocess.run(
            [*argv, *where, f"--database={database}"],
            input=text.encode(),
            capture_output=True,
            env={"PATH": os.environ["PATH"], "MYSQL_PWD": self.password},
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode(errors="backslashreplace").rstrip("\n")

    def databases(self) -> list[str]:
        """The names of all databases but those that every server has."""
        every = (
            self.sql("SELECT schema_name FROM information_schema.schemata ORDER BY 1")
            .replace("\\\\", "\\")
            .splitlines()
        )
        return [name for name in every if name not in ("mysql", "information_schema", "performance_schema", "sys")]

    def rows(self, database: str) -> dict[str, list[str]]:
        """Every row of every table, as text: equal dictionaries mean equal data. History counts as rows."""
        tables = self.sql(
            "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = DATABASE()"
            " AND table_type IN ('BASE TABLE', 'SEQUENCE', 'SYSTEM VERSIONED') ORDER BY 1",
            database,
        ).splitlines()
        found = {}
        for name, kind in (line.split("\t") for line in tables):
            past = " FOR SYSTEM_TIME ALL" if kind == "SYSTEM VERSIONED" else ""
            found[name] = sorted(self.sql(f"SELECT * FROM {quoted(name)}{past}", database).splitlines())  # noqa: S608
        return found

    @contextmanager
    def database(self, script: str = "", name: str | None = None, options: str = "") -> Iterator[str]:
        """A new database, filled by *script*, gone afterwards with all that was made beside it."""
        name = name or f"shop_{secrets.token_hex(4)}"
        self.sql(f"CREATE DATABASE {quoted(name)} {options}")
        try:
            self.sql(script, name)
            yield name
        finally:
            self.drop(name)

    def drop(self, name: str) -> None:
        self.sql(f"DROP DATABASE IF EXISTS {quoted(name)}")


def quoted(name: str) -> str:
    """*name* as an SQL identifier."""
    return "`" + name.replace("`", "``") + "`"


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDBServer]:
    """One server for all tests of a session."""
    with running_mariadb() as server:
        yield server


@contextmanager
def running_mariadb(*settings: str, port: int = 0, within: Sequence[str] = ()) -> Iterator[MariaDBServer]:
    """Start a server in a new data directory, with further ``name=value`` settings; end it by its process id.

    *within*: what stands before its command, so that it runs in another network.
    """
    binary = find_binary()
    place = Path(tempfile.mkdtemp(prefix="backups-test-mariadb-", dir="/tmp"))
    user = owner_of(place)
    if user is not None:
        place.chmod(0o755)  # so that other users reach the socket
    try:
        _install(place, user)
        port = port or free_port()  # not before: somebody else could have taken it meanwhile
        with open(place / "log", "wb") as log:
            every = (*_SMALL, *settings, f"port={port}", "bind-address=127.0.0.1", f"socket={place / 'socket'}")
            argv = [
                binary,
                "--no-defaults",
                f"--datadir={place / 'data'}",
                f"--pid-file={place / 'pid'}",
                f"--tmpdir={place}",
            ]
            process = subprocess.Popen(
                [*within, *run_as(user), *argv, *(f"--{setting}" for setting in every)],
                cwd=place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            server = MariaDBServer(place / "socket", port, process)
            _wait_until_ready(server, place)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=300)
    finally:
        shutil.rmtree(place)


def find_binary() -> str:
    """The server's program: Debian keeps it off PATH."""
    found = shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        raise MissingPeer(f"the tests need a MariaDB server: {INSTALL}")
    return found


def _install(place: Path, user: pwd.struct_passwd | None) -> None:
    argv = ["mariadb-install-db", "--no-defaults", f"--datadir={place / 'data'}", "--skip-test-db", f"--tmpdir={place}"]
    how = ["--auth-root-authentication-method=normal", "--innodb-log-file-size=8M", "--skip-name-resolve"]
    done = subprocess.run([*run_as(user), *argv, *how], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _wait_until_ready(server: MariaDBServer, place: Path) -> None:
    password = server.password.replace("\\", "\\\\").replace("'", "\\'")
    script = f"""CREATE USER admin@'%' IDENTIFIED BY '{password}'; GRANT ALL ON *.* TO admin@'%' WITH GRANT OPTION;
        DROP USER IF EXISTS ''@localhost; ALTER USER root@localhost ACCOUNT LOCK;"""
    argv = ["mariadb", "--no-defaults", f"--socket={server.socket}", "--user=root", "--default-character-set=utf8mb4"]
    while True:
        done = subprocess.run(argv, input=script.encode(), capture_output=True)
        if done.returncode == 0:
            return
        assert b"2002" in done.stderr, done.stderr.decode()  # not there yet
        assert server.process.poll() is None, (place / "log").read_text()
