"""PostgreSQL in a container without a network: its own tools run in it, by ``docker exec``."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.sources import source_from, target_for
from blocks.sources.base import RestoreOptions
from blocks.sources.postgres import PostgresDatabase
from tests.contract.source import SourceContract, drain, take
from tests.peers.docker import DockerEngine, running_engine
from vault.errors import SourceError

NAME = "crm-postgres-1"
_FILL = """
CREATE TABLE customers (id int PRIMARY KEY, name text, note bytea);
INSERT INTO customers SELECT n, 'name ' || n, decode(repeat(md5(n::text), 20), 'hex') FROM generate_series(1, 8000) n;
CREATE VIEW names AS SELECT name FROM customers;
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    """A daemon with a PostgreSQL in a container, whose users need passwords where they come over TCP."""
    with running_engine() as engine:
        engine.postgres(NAME, "crm")
        engine.sql(NAME, "CREATE ROLE admin SUPERUSER LOGIN PASSWORD 'pa\"ss\\:%$(x)'")
        rule = "host all all all scram-sha-256\\nlocal all all trust\\n"
        engine("exec", NAME, "sh", "-c", f"printf '{rule}' >/data/pg_hba.conf")
        engine.sql(NAME, "SELECT pg_reload_conf()")
        yield engine


@pytest.fixture(autouse=True)
def daemon(engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)


class TestPostgresInContainer(SourceContract):
    reduced = True

    @pytest.fixture
    def source(self, engine: DockerEngine) -> Iterator[PostgresDatabase]:
        self.engine = engine
        engine.sql(NAME, "CREATE DATABASE crm")
        engine.sql(NAME, _FILL, "crm")
        yield PostgresDatabase.model_validate(
            {
                "database": "crm",
                "username": "admin",
                "password": 'pa"ss\\:%$(x)',
                "host": "127.0.0.1",
                "container": NAME,
            }
        )
        assert "terminated by signal" not in engine.log(NAME), "the server took one of our processes for its own"
        for name in ("crm", "crm_restored"):
            engine.sql(NAME, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @pytest.fixture
    def empty(self, source: PostgresDatabase) -> PostgresDatabase:
        return source.model_copy(update={"database": "crm_restored"})

    @pytest.fixture
    def missing(self, source: PostgresDatabase) -> tuple[PostgresDatabase, str]:
        return source.model_copy(update={"container": "crm-postgers-1"}), "no container crm-postgers-1"

    def data(self, source: PostgresDatabase) -> object:
        tables = self.engine.sql(
            NAME, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace", source.database
        )
        return sorted(tables.split()), self.engine.sql(NAME, "SELECT * FROM customers ORDER BY id", source.database)

    def change(self, source: PostgresDatabase) -> None:
        self.engine.sql(NAME, "DELETE FROM customers WHERE id > 10; CREATE TABLE later (n int)", source.database)

    @pytest.mark.fault("S13")
    def test_a_database_that_is_not_there_is_told_from_a_container_that_is_not(self, source: PostgresDatabase) -> None:
        with pytest.raises(SourceError, match='database "other" does not exist'):
            source.model_copy(update={"database": "other"}).check()

    @pytest.mark.law(10)
    def test_its_password_is_in_no_command_line_and_no_file_that_stays(self, source: PostgresDatabase) -> None:
        def seen() -> str:
            return self.engine("top", NAME, "-eo", "pid,args") + self.engine("inspect", NAME)

        with source.dump() as dump:
            dump.stream.read(1)
            shown = seen()
            drain(dump.stream)
        assert 'pa"ss' not in shown
        assert "pg_dump" in shown
        while "prefect-backups" in self.engine("exec", NAME, "sh", "-c", "ls /tmp /var/tmp; :"):
            pass

    @pytest.mark.fault("K02")
    def test_a_worker_that_is_killed_takes_pg_dump_with_it(self, source: PostgresDatabase) -> None:
        self.engine.sql(
            NAME, "INSERT INTO customers SELECT n, repeat('x', 900) FROM generate_series(8001, 40000) n", "crm"
        )
        receive, send = os.pipe()
        pid = os.fork()
        if pid == 0:
            with source.dump() as dump:
                dump.stream.read(1)
                os.write(send, b"x")
                signal.pause()
        os.read(receive, 1)
        assert "pg_dump" in self.engine("top", NAME, "-eo", "pid,args")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while any(tool in self.engine("top", NAME, "-eo", "pid,args") for tool in ("pg_dump", "psql")):
            pass


def test_a_plain_dump_goes_through_a_container_too(engine: DockerEngine, tmp_path: Path) -> None:
    engine.sql(NAME, "CREATE DATABASE plain")
    engine.sql(NAME, _FILL, "plain")
    url = f"postgresql://postgres@/plain?host=/run/postgresql&container={NAME}"
    source = PostgresDatabase.from_url(url).model_copy(update={"format": "plain"})
    target = PostgresDatabase.from_url(url.replace("/plain?", "/plain_restored?"))
    target.restore(take(source, tmp_path), RestoreOptions())
    rows = "SELECT md5(string_agg(c::text, '' ORDER BY id)) FROM customers c"
    assert engine.sql(NAME, rows, "plain_restored") == engine.sql(NAME, rows, "plain")


def test_a_url_names_the_container_and_so_does_the_location() -> None:
    url = f"postgresql://me@localhost:5432/crm?container={NAME}"
    source = source_from(url)
    assert isinstance(source, PostgresDatabase)
    assert (source.container, source.location) == (NAME, url)
    assert target_for("postgres", url).location == url
    socket = f"postgresql://me@:5432/crm?host=/run/postgresql&container={NAME}"
    assert PostgresDatabase.from_url(socket).location == socket


@pytest.mark.fault("N09")
@pytest.mark.parametrize("name", ["/etc", "a:b", "-it", "$(x)"])
def test_a_container_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a container"):
        PostgresDatabase(database="crm", container=name)
