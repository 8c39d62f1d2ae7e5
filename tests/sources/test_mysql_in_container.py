"""MariaDB in a container without a network: its own tools run in it, by ``docker exec``."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from blocks.sources import source_from
from blocks.sources.mysql import MySQLDatabase
from tests.contract.source import SourceContract, drain
from tests.peers.docker import MARIADB_SOCKET, DockerEngine, running_engine
from tests.sources.mysql import SHOP

NAME = "blog-db-1"
PASSWORD = "pa\"ss'\\#%$(x)"


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    """A daemon with a MariaDB in a container, whose users need passwords."""
    with running_engine() as engine:
        engine.mariadb(NAME, "blog")
        quoted = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
        engine.mysql(NAME, f"CREATE USER admin@'%' IDENTIFIED BY '{quoted}'; GRANT ALL ON *.* TO admin@'%'")
        engine.mysql(NAME, "GRANT SUPER, SET USER ON *.* TO admin@'%'")
        yield engine


@pytest.fixture(autouse=True)
def daemon(engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)


class TestMariaDBInContainer(SourceContract):
    reduced = True

    @pytest.fixture
    def source(self, engine: DockerEngine) -> Iterator[MySQLDatabase]:
        self.engine = engine
        engine.mysql(NAME, "CREATE DATABASE blog CHARACTER SET utf8mb4")
        engine.mysql(NAME, SHOP, "blog")
        yield MySQLDatabase(
            database="blog",
            username="admin",
            password=SecretStr(PASSWORD),
            socket=MARIADB_SOCKET,
            container=NAME,
        )
        for name in ("blog", "blog_restored"):
            engine.mysql(NAME, f"DROP DATABASE IF EXISTS {name}")

    @pytest.fixture
    def empty(self, source: MySQLDatabase) -> MySQLDatabase:
        return source.model_copy(update={"database": "blog_restored"})

    @pytest.fixture
    def missing(self, source: MySQLDatabase) -> tuple[MySQLDatabase, str]:
        return source.model_copy(update={"container": "blog-bd-1"}), "no container blog-bd-1"

    def data(self, source: MySQLDatabase) -> object:
        tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1"
        orders = "SELECT * FROM orders ORDER BY id"
        return [self.engine.mysql(NAME, query, source.database) for query in (tables, orders)]

    def change(self, source: MySQLDatabase) -> None:
        self.engine.mysql(NAME, "DELETE FROM orders WHERE id > 10; CREATE TABLE later (n int)", source.database)

    def enlarge(self) -> None:
        """A dump of it is more than what lies between: the tool waits for who reads it."""
        self.engine.mysql(NAME, "INSERT INTO orders (item) SELECT REPEAT('x', 900) FROM seq_1_to_40000", "blog")

    @pytest.mark.law(10)
    def test_its_password_is_in_no_command_line(self, source: MySQLDatabase) -> None:
        self.enlarge()
        with source.dump() as dump:
            dump.stream.read(1)
            shown = self.engine("top", NAME, "-eo", "pid,args") + self.engine("inspect", NAME)
            drain(dump.stream)
        assert "mariadb-dump" in shown
        assert 'pa"ss' not in shown

    @pytest.mark.fault("K02")
    def test_a_worker_that_is_killed_takes_the_dump_with_it(self, source: MySQLDatabase) -> None:
        self.enlarge()
        receive, send = os.pipe()
        pid = os.fork()
        if pid == 0:
            with source.dump() as dump:
                dump.stream.read(1)
                os.write(send, b"x")
                signal.pause()
        os.read(receive, 1)
        assert "mariadb-dump" in self.engine("top", NAME, "-eo", "pid,args")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while "mariadb-dump" in self.engine("top", NAME, "-eo", "pid,args"):
            pass


def test_a_url_names_the_container_and_so_does_the_location() -> None:
    source = source_from(f"mysql://me@localhost:3306/blog?container={NAME}")
    assert isinstance(source, MySQLDatabase)
    assert source.container == NAME
    assert f"container={NAME}" in source.location
