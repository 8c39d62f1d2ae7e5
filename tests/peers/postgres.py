"""A real PostgreSQL server of the tests' own: a fresh cluster, a free port, scram passwords, an unprivileged user."""

from __future__ import annotations

import json
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
from tests.peers.unprivileged import owner_of, run_as

INSTALL = "apt-get install -y postgresql"
_SMALL = ("full_page_writes=off", "wal_level=minimal", "max_wal_senders=0", "autovacuum=off", "jit=off")
PASSWORD = r"pa\"ss\'#;%:wörd $(touch x)"


class MissingPeer(Exception):
    """What the tests need is not installed: an error, never a skip."""


@dataclass(frozen=True)
class PostgresServer:
    """A running server. ``admin`` is its superuser; everybody needs a password. ``host``: how the tests reach it."""

    bin: Path
    place: Path
    port: int
    process: subprocess.Popen[bytes] = field(repr=False)
    host: str = "127.0.0.1"
    admin: str = "admin"
    password: str = PASSWORD

    def sql(self, text: str, database: str = "postgres") -> str:
        """Run *text*, statement by statement; gives back what it selects, one unaligned row a line."""
        argv = [str(self.bin / "psql"), "-XqAtw", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        where = ["-h", self.host, "-p", str(self.port), "-U", self.admin, "-d", _literal(database)]
        done = subprocess.run(
            [*argv, *where],
            input=text.encode(),
            capture_output=True,
            env={"PATH": os.environ["PATH"], "PGPASSWORD": self.password, "PGCLIENTENCODING": "UTF8"},
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().rstrip("\n")

    def wait_until_ready(self) -> None:
        """Until it takes connections."""
        asking = [self.bin / "pg_isready", "-q", "-t", "1", "-h", self.host, "-p", str(self.port)]
        while subprocess.run(asking).returncode != 0:
            assert self.process.poll() is None, (self.place / "log").read_text()

    def databases(self) -> list[str]:
        """The names of all databases but the three that every cluster has."""
        every = self.sql("SELECT coalesce(json_agg(datname ORDER BY datname), '[]') FROM pg_database")
        return [name for name in json.loads(every) if name not in ("postgres", "template0", "template1")]

    def rows(self, database: str) -> dict[str, list[str]]:
        """Every row of every table of the user, as text: equal dictionaries mean equal data."""
        names = "format('%I.%I', schemaname, tablename)"
        query = (
            f"SELECT coalesce(json_agg({names} ORDER BY {names}), '[]') FROM pg_tables"  # noqa: S608
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        tables = json.loads(self.sql(query, database))
        each = [f"SELECT coalesce(json_agg(t::text ORDER BY t::text), '[]') FROM {table} t;" for table in tables]  # noqa: S608
        answers = self.sql("\n".join(each), database).splitlines() if tables else []
        return {table: json.loads(answer) for table, answer in zip(tables, answers, strict=True)}

    @contextmanager
    def database(self, script: str = "", name: str | None = None) -> Iterator[str]:
        """A new database, filled by *script*, gone afterwards with all that was made beside it."""
        name = name or f"shop_{secrets.token_hex(4)}"
        self.sql(f"CREATE DATABASE {quoted(name)}")
        try:
            self.sql(script, name)
            yield name
        finally:
            self.drop(name)

    def drop(self, name: str) -> None:
        self.sql(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")


def quoted(name: str) -> str:
    """*name* as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests of a session."""
    with running_server() as server:
        yield server


@contextmanager
def running_server(
    *settings: str, binaries: Path | None = None, port: int = 0, within: Sequence[str] = ()
) -> Iterator[PostgresServer]:
    """Start a server in a new cluster, with further ``name=value`` settings; end it by its process id.

    *binaries*: those of another version. *within*: what stands before its command, so that it runs in another network.
    """
    bin_dir = binaries or find_binaries()
    place = Path(tempfile.mkdtemp(prefix="backups-test-postgres-", dir="/tmp"))
    user = owner_of(place)
    try:
        _init_cluster(bin_dir, place, user)
        port = port or free_port()  # not before: somebody else could have taken it meanwhile
        process = _start(bin_dir, place, user, port, settings, within)
        host = str(place) if within else "127.0.0.1"
        try:
            server = PostgresServer(bin_dir, place, port, process, host)
            server.wait_until_ready()
            yield server
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=300)
    finally:
        shutil.rmtree(place)


def find_binaries() -> Path:
    """The newest installed server's directory of binaries."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        raise MissingPeer(f"the tests need a PostgreSQL server: {INSTALL}")
    return found[-1].parent if found else Path(str(on_path)).parent


def _literal(database: str) -> str:
    escaped = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"


def _init_cluster(bin_dir: Path, place: Path, user: pwd.struct_passwd | None) -> None:
    passwords = place / "password"
    passwords.write_text(PASSWORD + "\n")
    if user is not None:
        os.chown(passwords, user.pw_uid, user.pw_gid)
    argv = [str(bin_dir / "initdb"), "-D", str(place / "data"), "-U", "admin", "-A", "scram-sha-256", "--no-sync"]
    locale = ["-E", "UTF8", "--locale=C.UTF-8", f"--pwfile={passwords}"]
    done = subprocess.run([*run_as(user), *argv, *locale], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _start(
    bin_dir: Path,
    place: Path,
    user: pwd.struct_passwd | None,
    port: int,
    settings: tuple[str, ...],
    within: Sequence[str],
) -> subprocess.Popen[bytes]:
    every = ("listen_addresses=127.0.0.1", f"unix_socket_directories={place}", "fsync=off", *_SMALL, *settings)
    options = [part for setting in every for part in ("-c", setting)]
    argv = [bin_dir / "postgres", "-D", place / "data", "-p", str(port), *options]
    with open(place / "log", "wb") as log:
        command = [*within, *run_as(user), *argv]
        return subprocess.Popen(command, cwd=place, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
