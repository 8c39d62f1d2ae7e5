"""Redis in a container without a network: its own tools run in it, and a backup goes to a file for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.sources import source_from
from blocks.sources.base import RestoreOptions, Source
from blocks.sources.redis import RedisDatabase
from blocks.sources.redis_file import RedisFile
from tests.contract.source import drain, take
from tests.peers.docker import DockerEngine, running_engine
from tests.peers.redis import PASSWORD, RedisServer, with_password
from tests.sources import test_redis
from vault.errors import RestoreRefused, SourceError

NAME, VOLUME = "shop-cache-1", "shop_cache"


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    """A daemon with a Redis in a container, which needs a password."""
    with running_engine() as engine:
        engine.redis(NAME, VOLUME, with_password(PASSWORD))
        yield engine


@pytest.fixture(autouse=True)
def daemon(engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)


@pytest.fixture
def filled(engine: DockerEngine) -> RedisServer:
    """The same server, by its socket, which lies in its volume."""
    server = RedisServer(engine.content_of(VOLUME), 6379, engine.process, PASSWORD)
    server.wait_until_ready()
    server.ask("FLUSHALL")
    server.ask("EVAL", test_redis.FILL, "0")
    return server


def door(server: RedisServer) -> RedisDatabase:
    return test_redis.door(server, container=NAME)


class TestRedisInContainer(test_redis.TestServer):
    reduced = True

    @pytest.fixture
    def source(self, filled: RedisServer, engine: DockerEngine, tmp_path: Path) -> RedisDatabase:
        self.server, self.engine, self.place = filled, engine, tmp_path
        return door(filled)

    @pytest.fixture
    def missing(self, source: RedisDatabase) -> tuple[RedisDatabase, str]:
        return source.model_copy(update={"container": "shop-cahce-1"}), "no container shop-cahce-1"

    def data(self, source: Source) -> object:
        if not (isinstance(source, RedisFile) and source.container):
            return super().data(source)
        copy = self.place / "copy.rdb"
        self.engine("cp", f"{source.container}:{source.path}", str(copy))
        return test_redis.content_at(RedisFile(path=copy))


@pytest.mark.law(10)
def test_its_password_is_in_no_command_line(engine: DockerEngine, filled: RedisServer) -> None:
    filled.ask("CONFIG", "SET", "rdbcompression", "no")
    filled.ask("EVAL", "for i = 1, 400 do redis.call('SET', 'large:' .. i, string.rep('x', 100000)) end", "0")
    with door(filled).dump() as dump:  # of more than what lies between: the tool waits for who reads it
        dump.stream.read(1)
        shown = engine("top", NAME, "-eo", "pid,args") + engine("inspect", NAME)
        drain(dump.stream)
    assert "redis-cli" in shown
    assert 'pa\\"ss' not in shown
    assert PASSWORD not in shown


@pytest.mark.fault("S12")
def test_a_container_without_the_tools_is_named(engine: DockerEngine, filled: RedisServer) -> None:
    engine.start("plain")
    with pytest.raises(SourceError, match="redis-cli is not installed in container plain"):
        door(filled).model_copy(update={"container": "plain"}).check()


@pytest.mark.law(8)
@pytest.mark.fault("A10")
def test_it_is_restored_to_its_volume_while_the_container_is_stopped_and_not_while_it_runs(
    engine: DockerEngine, filled: RedisServer, tmp_path: Path
) -> None:
    content, before = take(door(filled), tmp_path), filled.content()
    target = RedisFile(path=filled.place / "dump.rdb")
    with pytest.raises(RestoreRefused, match=r"running Redis(.|\n)*Stop the server"):
        target.restore(content, RestoreOptions())
    with pytest.raises(RestoreRefused, match=f"stop {NAME}"):
        door(filled).restore(content, RestoreOptions())
    filled.ask("FLUSHALL")
    engine("stop", NAME)
    target.restore(content, RestoreOptions())
    engine("start", NAME)
    filled.wait_until_ready()
    assert filled.content() == before
    target.path.unlink()


def test_a_url_names_the_container_and_so_does_the_location() -> None:
    source = source_from(f"redis://me@localhost:6379?container={NAME}")
    assert isinstance(source, RedisDatabase)
    assert source.container == NAME
    assert source.runs_in() == (NAME,)
    assert f"container={NAME}" in source.location
