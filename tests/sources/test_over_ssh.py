"""Every source over SSH: the same contract, on a server that is reached through a real sshd."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import pytest
from pydantic import SecretStr

from blocks.sources.base import RestoreOptions
from blocks.sources.directory import Directory
from blocks.sources.mysql import MySQLDatabase
from blocks.sources.postgres import PostgresDatabase
from blocks.sources.redis import RedisDatabase
from blocks.sources.redis_file import RedisFile
from blocks.sources.sqlite import SqliteDatabase
from blocks.ssh_server import SshServer
from tests.contract.source import drain, take
from tests.peers.mariadb import MariaDBServer
from tests.peers.postgres import PostgresServer
from tests.peers.redis import RedisServer
from tests.peers.ssh_host import left_on, over, ssh_host
from tests.peers.sshd import SshServer as Sshd
from tests.reduced import reduced
from tests.sources import test_directory, test_mysql, test_postgres, test_redis, test_sqlite
from tests.sources.test_directory import tree
from tests.sources.test_mysql import database as maria
from tests.sources.test_postgres import database
from tests.sources.test_redis import filled, redis_server
from tests.sources.test_sqlite import shop
from vault.errors import RestoreRefused, SourceError

__all__ = ["database", "filled", "maria", "redis_server", "shop", "tree"]


@pytest.fixture(scope="module")
def host() -> Iterator[Sshd]:
    with ssh_host() as server:
        yield server


@pytest.fixture(params=reduced(["worker", "source"], "worker"))
def server(host: Sshd, request: pytest.FixtureRequest) -> Iterator[SshServer]:
    """The way there, with and without compression on it; afterwards nothing private is left."""
    yield over(host, compress_at=request.param)
    assert left_on(host) == []


class TestDirectory(test_directory.TestDirectory):
    @pytest.fixture
    def source(self, tree: Path, server: SshServer) -> Directory:  # type: ignore[override]
        return Directory(path=tree, server=server)

    @pytest.fixture
    def empty(self, tmp_path: Path, server: SshServer) -> Directory:  # type: ignore[override]
        return Directory(path=tmp_path / "restored", server=server)

    @pytest.fixture
    def missing(self, tmp_path: Path, server: SshServer) -> tuple[Directory, str]:  # type: ignore[override]
        return Directory(path=tmp_path / "no-such-directory", server=server), "no-such-directory"


class TestSqlite(test_sqlite.TestContract):
    @pytest.fixture
    def source(self, shop: Path, server: SshServer) -> SqliteDatabase:  # type: ignore[override]
        return SqliteDatabase(path=shop, server=server)

    @pytest.fixture
    def empty(self, tmp_path: Path, server: SshServer) -> SqliteDatabase:  # type: ignore[override]
        return SqliteDatabase(path=tmp_path / "restored.db", server=server)

    @pytest.fixture
    def missing(self, tmp_path: Path, server: SshServer) -> tuple[SqliteDatabase, str]:  # type: ignore[override]
        return SqliteDatabase(path=tmp_path / "nosuch.db", server=server), "nosuch.db"


class TestPostgres(test_postgres.TestCustom):
    reduced = True

    @pytest.fixture
    def source(self, database: PostgresDatabase, postgres_server: object, server: SshServer) -> PostgresDatabase:  # type: ignore[override]
        self.server = postgres_server  # type: ignore[assignment]
        return database.model_copy(update={"format": self.format, "server": server})


@pytest.mark.slow
class TestPostgresPlain(TestPostgres):
    format = "plain"


class TestMariaDB(test_mysql.TestMariaDB):
    reduced = True

    @pytest.fixture
    def source(  # type: ignore[override]
        self,
        maria: MySQLDatabase,
        mariadb_server: MariaDBServer,
        server: SshServer,
    ) -> MySQLDatabase:
        self.server = mariadb_server
        return maria.model_copy(update={"server": server})


class TestRedis(test_redis.TestServer):
    reduced = True

    @pytest.fixture
    def source(self, filled: RedisServer, server: SshServer) -> RedisDatabase:  # type: ignore[override]
        self.server = filled
        return test_redis.door(filled).model_copy(update={"server": server})

    @pytest.fixture
    def empty(self, tmp_path: Path, server: SshServer) -> RedisFile:  # type: ignore[override]
        return RedisFile(path=tmp_path / "restored.rdb", server=server)


@pytest.mark.law(10)
@pytest.mark.fault("O12", "N08")
def test_no_command_line_and_no_environment_ever_holds_a_secret(
    database: PostgresDatabase,
    server: SshServer,
    postgres_server: PostgresServer,
) -> None:
    word, role = token_hex(16), f"reader_{token_hex(4)}"
    postgres_server.sql(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{word}'", "postgres")
    source = database.model_copy(update={"server": server, "username": role, "password": SecretStr(word)})
    try:
        with source.dump() as dump:
            assert dump.stream.read(1000)
            seen = shown_by_processes()
            drain(dump.stream)
    finally:
        postgres_server.sql(f"DROP ROLE {role}", "postgres")
    assert any(b"psql" in said and b"PGPASSFILE" in said for said in seen)  # the session that holds the snapshot
    assert not [said for said in seen if word.encode() in said]
    hidden = [b64decode(match) for said in seen for match in re.findall(rb"[A-Za-z0-9+/]{200,}={0,2}", said)]
    assert hidden
    assert not [said for said in hidden if word.encode() in said]


def shown_by_processes() -> list[bytes]:
    """What every process that there is shows of itself to who may look: its arguments and its environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found.append((entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes())
    return found


def test_a_path_on_another_host_is_none_of_this_one(server: SshServer, tmp_path: Path) -> None:
    assert Directory(path=tmp_path, server=server).paths == ()
    assert SqliteDatabase(path=tmp_path / "x", server=server).paths == ()
    assert Directory(path=tmp_path, server=server).location == f"{tmp_path} on {server.location}"


@pytest.mark.fault("S01")
def test_a_server_without_sqlite3_says_so(host: Sshd, shop: Path) -> None:
    with ssh_host(f"SetEnv PATH={host.served}") as bare:
        for tool in ("sh", "dd", "base64", "env", "mktemp", "readlink", "cat", "uname", "setsid"):
            (host.served / tool).unlink(missing_ok=True)
            (host.served / tool).symlink_to(f"/usr/bin/{tool}")
        with pytest.raises(SourceError, match=r"sqlite3 is not installed on ssh://[^\n]*\n.*apt-get install sqlite3"):
            SqliteDatabase(path=shop, server=over(bare)).check()


@pytest.mark.law(8)
def test_a_part_of_a_directory_and_a_table_are_taken_alone_there_too(
    tree: Path, database: PostgresDatabase, server: SshServer, tmp_path: Path
) -> None:
    target = Directory(path=tmp_path / "restored", server=server)
    content = take(Directory(path=tree, server=server), tmp_path)
    target.restore(content, RestoreOptions(paths=("dir/same",)))
    assert sorted(str(path.relative_to(target.path)) for path in target.path.rglob("*")) == ["dir", "dir/same"]
    with pytest.raises(RestoreRefused, match=r"dir/same in .* exists already"):
        target.restore(content, RestoreOptions(paths=("file", "dir/same")))
    (target.path / "dir/same").write_text("changed")
    target.restore(content, RestoreOptions(paths=("file", "dir/same"), overwrite=True))
    assert (target.path / "dir/same").read_bytes() == b""
    assert sorted(path.name for path in target.path.iterdir()) == ["dir", "file"]
    (tmp_path / "dump").mkdir()
    source = database.model_copy(update={"server": server})
    with source.scratch() as scratch:
        facts = scratch.restore(take(source, tmp_path / "dump"), RestoreOptions(tables=("orders",)))
        assert facts["rows"] == {"public.orders": 9000}
