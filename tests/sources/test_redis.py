"""Redis: the contract against a real server, and what is its own."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.core import Block
from pydantic import SecretStr, ValidationError

from blocks.sources import target_for
from blocks.sources.base import RestoreOptions, Source
from blocks.sources.redis import RedisDatabase
from blocks.sources.redis_file import RedisFile
from cli.api import free_port
from tests.contract.source import BlockSuite, SourceContract, children, content_of, drain, take, wait_until_gone
from tests.peers.certificate import self_signed
from tests.peers.child import in_child
from tests.peers.redis import PASSWORD, RedisServer, running_redis
from vault.errors import (
    ConfigError,
    Corrupt,
    IncompleteDump,
    RestoreRefused,
    SourceError,
    SourceUnavailable,
)

OVERWRITE = RestoreOptions(overwrite=True)
FILL = """
    for i = 1, 30000 do redis.call('SET', 'key:' .. i, string.rep(redis.sha1hex(i), 3)) end
    redis.call('SET', 'odd \\n\\t\\0 key', 'v\\0\\r\\n'); redis.call('SET', 'soon', 'x', 'EX', 100000)
    redis.call('RPUSH', 'list', 'a', 'b'); redis.call('HSET', 'hash', 'f', 'v'); redis.call('SADD', 'set', 1, 'x')
    redis.call('ZADD', 'sorted', 1.5, 'm'); redis.call('XADD', 'stream', '1-1', 'f', 'v')
    redis.call('PFADD', 'hll', 'a'); redis.call('SETBIT', 'bits', 7, 1)
    redis.call('SELECT', 5); redis.call('SET', 'in another database', '5')
"""


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """One server for all tests that leave its content as it is, or fill it anew."""
    with running_redis(password=PASSWORD) as server:
        yield server


@pytest.fixture
def filled(redis_server: RedisServer) -> RedisServer:
    redis_server.ask("FLUSHALL")
    redis_server.ask("EVAL", FILL, "0")
    return redis_server


def door(server: RedisServer, **fields: Any) -> RedisDatabase:
    return RedisDatabase(**{"host": server.host, "port": server.port, "password": SecretStr(server.password), **fields})


def content_at(source: Source) -> object:
    """What a server holds that started with the file."""
    assert isinstance(source, RedisFile)
    with running_redis(dump=source.path) as server:
        return server.content()


class TestBlock(BlockSuite):
    @pytest.fixture(params=[RedisDatabase, RedisFile])
    def block(self, request: pytest.FixtureRequest) -> type[Block]:
        return request.param


class TestServer(SourceContract):
    @pytest.fixture
    def source(self, filled: RedisServer) -> RedisDatabase:
        self.server = filled
        return door(filled)

    @pytest.fixture
    def empty(self, tmp_path: Path) -> RedisFile:
        return RedisFile(path=tmp_path / "restored.rdb")

    @pytest.fixture
    def missing(self, source: RedisDatabase) -> tuple[RedisDatabase, str]:
        return source.model_copy(update={"host": "nosuch.invalid"}), "nosuch.invalid"

    def data(self, source: Source) -> object:
        return self.server.content() if isinstance(source, RedisDatabase) else content_at(source)

    def change(self, source: Source) -> None:
        self.server.ask("SET", "later", "x")

    def test_overwrite_brings_back_what_was_dumped(self, source: Source, tmp_path: Path) -> None:
        """Not to a server: it would write its own content over the file when it ends."""
        content = take(source, tmp_path)
        self.change(source)
        before = self.data(source)
        with pytest.raises(RestoreRefused, match=r"running server(.|\n)*--to /path/dump.rdb"):
            source.restore(content, OVERWRITE)
        assert self.data(source) == before

    def test_a_fetch_that_fails_leaves_the_target_untouched(
        self, source: Source, empty: Source, tmp_path: Path
    ) -> None:
        TestFile().test_a_fetch_that_fails_leaves_the_target_untouched(self.file(source, tmp_path), empty, tmp_path)

    def file(self, source: Source, tmp_path: Path) -> RedisFile:
        (tmp_path / "first").mkdir()
        file = RedisFile(path=tmp_path / "first/dump.rdb")
        file.restore(take(source, tmp_path / "first"), RestoreOptions())
        return file


class TestFile(SourceContract):
    @pytest.fixture
    def source(self, filled: RedisServer, tmp_path: Path) -> RedisFile:
        self.server = filled
        return TestServer().file(door(filled), tmp_path)

    @pytest.fixture
    def empty(self, tmp_path: Path) -> RedisFile:
        return RedisFile(path=tmp_path / "restored.rdb")

    @pytest.fixture
    def missing(self, tmp_path: Path) -> tuple[RedisFile, str]:
        return RedisFile(path=tmp_path / "nosuch.rdb"), "nosuch.rdb"

    def data(self, source: Source) -> object:
        return content_at(source)

    def change(self, source: Source) -> None:
        assert isinstance(source, RedisFile)
        self.server.ask("SET", "later", "x")
        with door(self.server).dump() as dump:
            source.path.write_bytes(drain(dump.stream))


def test_facts_count_keys_as_they_are_in_the_dump(filled: RedisServer, tmp_path: Path) -> None:
    content = take(door(filled), tmp_path)
    facts = content.artifact.facts
    assert (facts["keys"], facts["expiring_keys"], facts["databases"]) == (30_010, 1, {"db0": 30_009, "db5": 1})
    assert RedisFile(path=tmp_path / "x.rdb").restore(content, RestoreOptions()) == {"keys": 30_010, "expiring_keys": 1}


@pytest.mark.parametrize("how", ["socket", "user", "socket and user"])
def test_a_socket_and_a_user_with_just_the_rights_it_takes_will_do(filled: RedisServer, how: str) -> None:
    fields: dict[str, Any] = {"socket": filled.socket} if "socket" in how else {}
    if "user" in how:
        rights = ("+info", "+ping", "+psync", "+sync", "+replconf")
        filled.ask("ACL", "SETUSER", "backup", "on", f">{PASSWORD}2", *rights)
        fields |= {"username": "backup", "password": SecretStr(f"{PASSWORD}2")}
    source = door(filled, **fields)
    assert source.check().startswith("redis-cli ")
    with source.dump() as dump:
        drain(dump.stream)
    assert dump.facts["keys"] == 30_010
    assert RedisDatabase.from_url(source.location).location == source.location


@pytest.mark.fault("S12", "T17")
def test_tls_is_spoken_and_the_certificate_checked(tmp_path: Path) -> None:
    pem = self_signed(tmp_path)
    files = ("--tls-cert-file", str(pem), "--tls-key-file", str(pem), "--tls-ca-cert-file", str(pem))
    port = free_port()
    with running_redis("--tls-port", str(port), "--tls-auth-clients", "no", *files) as server:
        source = door(server, port=port, tls=True, ca_file=str(pem))
        with source.dump() as dump:
            drain(dump.stream)
        assert dump.facts["keys"] == 0
        with pytest.raises(SourceError, match="certificate verify failed"):
            source.model_copy(update={"ca_file": ""}).check()


# Passwords and names


@pytest.mark.fault("S12")
@pytest.mark.law(10)
def test_a_wrong_password_or_a_missing_right_will_not_do_and_is_not_shown(filled: RedisServer) -> None:
    filled.ask("ACL", "SETUSER", "weak", "on", ">x", "+info")
    wrong = door(filled, password=SecretStr("wrong-canary-77"))
    none = door(filled, password=SecretStr(""))
    weak = door(filled, username="weak", password=SecretStr("x"))
    for source, said in ((wrong, "WRONGPASS"), (none, "NOAUTH"), (weak, "NOPERM")):
        with pytest.raises(SourceError, match=said) as caught, source.dump() as dump:
            drain(dump.stream)
        assert not isinstance(caught.value, SourceUnavailable)
        assert "wrong-canary-77" not in repr(caught.value)
    assert weak.check()


@pytest.mark.fault("N08")
@pytest.mark.law(10)
@pytest.mark.parametrize("password", [PASSWORD, " ", "-a", "$(touch x)", "ü€", "x" * 300])
def test_any_password_is_handed_over_whole_in_no_argument_and_no_environment(
    filled: RedisServer, tools: Callable[[str], None], tmp_path: Path, password: str
) -> None:
    filled.ask("ACL", "SETUSER", "odd", "on", "resetpass", f">{password}", "allcommands")
    tools(f'(echo "$@"; env) >> {tmp_path}/seen; exec "$REAL" "$@"')
    with door(filled, username="odd", password=SecretStr(password)).dump() as dump:
        drain(dump.stream)
    seen = (tmp_path / "seen").read_text()
    assert "--askpass" in seen
    assert "REDISCLI_AUTH" not in seen
    assert len(password) < 3 or password not in seen


def test_the_operators_own_password_serves_where_none_is_saved(
    filled: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDISCLI_AUTH", PASSWORD)
    assert door(filled, password=SecretStr("")).check()


@pytest.mark.fault("N01", "N02", "N04", "N08")
@pytest.mark.parametrize(
    "fields",
    [
        *({"host": "-h"}, {"host": "a b"}, {"host": "x;y"}, {"host": ""}, {"username": "a b"}, {"username": "a\nb"}),
        *({"socket": "relative"}, {"socket": "/a\nb"}, {"port": 0}, {"password": "a\nb"}, {"password": "a\0b"}),
    ],
)
def test_fields_that_cannot_be_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RedisDatabase.model_validate(fields)


def test_a_url_says_where_the_server_is() -> None:
    shop = RedisDatabase.from_url("rediss://jo%40x@db.example:6380?ca_file=/etc/ca.pem")
    assert (shop.username, shop.host, shop.port, shop.tls, shop.ca_file) == (
        *("jo@x", "db.example", 6380, True),
        "/etc/ca.pem",
    )
    assert shop.location == "rediss://jo%40x@db.example:6380?ca_file=/etc/ca.pem"
    assert RedisDatabase.from_url("redis:///run/redis.sock").socket == "/run/redis.sock"
    assert RedisDatabase.from_url("redis://[::1]").location == "redis://[::1]:6379"


@pytest.mark.fault("O12")
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:hunter2@db", "REDISCLI_AUTH"),
        ("redis://jo:hunter2@db", "REDISCLI_AUTH"),
        ("redis://db/3", "all databases"),
        ("redis://db:x", "not the URL"),
        ("redis://db?x=hunter2", "not the URL"),
        ("redis://db:99999", "not the URL"),
        ("redis://a%20b", "host"),
    ],
)
def test_a_url_that_will_not_do_is_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        RedisDatabase.from_url(url)
    assert "hunter2" not in repr(caught.value)


# Tools that are missing, old, or lie


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a script in the place of a tool; ``$REAL`` is the real one."""

    def fake(script: str, name: str = "redis-cli") -> None:
        real, path = shutil.which(name), tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\nREAL={real}\n{textwrap.dedent(script)}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")

    return fake


RDB = '[[ " $* " == *" --rdb "* ]] || exec "$REAL" "$@"\n'


@pytest.mark.fault("S01")
def test_a_missing_tool_is_named(filled: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(SourceError, match=r"redis-cli is not installed(.|\n)*redis-tools"):
        door(filled).check()
    (tmp_path / "bin/redis-cli").symlink_to("/usr/bin/redis-cli")
    with pytest.raises(SourceError, match=r"redis-check-rdb is not installed(.|\n)*redis-tools"):
        door(filled).dump().__enter__()


@pytest.mark.law(6)
@pytest.mark.fault("S02", "S03", "S04", "S05", "S07")
@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("exit 0", SourceError),
        ("read -r password; exit 0", IncompleteDump),
        ("echo REDIS0010; exit 1", SourceError),
        *(
            (f'"$REAL" "$@" | head -c {cut}; exit 0', IncompleteDump)
            for cut in (3, 9, 5000, 1_000_000, -1, -39, -41, -49)
        ),
        ('"$REAL" "$@" | sed "s/key:1/key:7/"; exit 0', IncompleteDump),
        ("head -c 3000000 /dev/zero; exit 0", IncompleteDump),
    ],
)
def test_a_dump_that_is_cut_or_changed_is_no_dump_though_the_tool_says_so(
    filled: RedisServer, tools: Callable[[str], None], script: str, error: type[Exception]
) -> None:
    tools(RDB + script)
    before = children()
    with pytest.raises(error), door(filled).dump() as dump:
        drain(dump.stream)
    assert children() == before


@pytest.mark.fault("S08")
def test_a_killed_tool_may_be_tried_again(filled: RedisServer, tools: Callable[..., None]) -> None:
    tools(RDB + "echo REDIS; kill -9 $$")
    with pytest.raises(SourceUnavailable, match="redis-cli was killed by SIGKILL"), door(filled).dump() as dump:
        drain(dump.stream)


@pytest.mark.fault("S09")
def test_a_dump_that_hangs_is_stopped_with_all_it_started(
    filled: RedisServer, tools: Callable[[str], None], tmp_path: Path
) -> None:
    tools(RDB + f"sleep 1000 & echo $! > {tmp_path}/pid; echo REDIS; wait")
    before = children()
    with (
        pytest.raises(SourceUnavailable, match="redis-cli showed no sign of life for 2 seconds"),
        door(filled, idle_timeout=2).dump() as dump,
    ):
        drain(dump.stream)
    assert children() == before
    wait_until_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.fault("S12", "T01")
def test_a_refused_connection_may_be_tried_again(filled: RedisServer) -> None:
    for source in (door(filled, port=free_port()), door(filled, socket="/nosuch/socket")):
        with pytest.raises(SourceUnavailable, match="Could not connect"):
            source.check()


def test_what_is_written_meanwhile_does_no_harm(filled: RedisServer, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            filled.ask("INCR", "counter")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        content = take(door(filled), tmp_path)
    finally:
        stop.set()
        writer.join()
    assert RedisFile(path=tmp_path / "x.rdb").restore(content, RestoreOptions())["keys"] in (30_010, 30_011)


# Restore


@pytest.mark.law(4)
def test_the_line_in_the_record_restores_without_us(filled: RedisServer, tmp_path: Path) -> None:
    with door(filled).dump() as dump:
        data = drain(dump.stream)
    line = dump.restore_with.replace("TARGET", '"$1"')
    subprocess.run(["sh", "-c", line, "sh", tmp_path / "by hand.rdb"], input=data, check=True, capture_output=True)
    with running_redis(dump=tmp_path / "by hand.rdb") as server:
        assert server.content() == filled.content()


def test_the_file_is_what_a_person_names_or_in_the_directory_that_he_names(tmp_path: Path) -> None:
    assert target_for("redis", f"{tmp_path}/x.rdb") == RedisFile(path=tmp_path / "x.rdb")
    assert target_for("redis", str(tmp_path)) == RedisFile(path=tmp_path / "dump.rdb")
    assert target_for("redis", str(tmp_path), "cache") == RedisFile(path=tmp_path / "cache.rdb")
    with pytest.raises(RestoreRefused, match="running server"):
        target_for("redis", "redis://localhost").check_target(RestoreOptions())


@pytest.mark.law(8)
@pytest.mark.fault("A10")
def test_the_directory_of_a_running_server_is_refused(tmp_path: Path) -> None:
    with running_redis() as server:
        content = take(door(server), tmp_path)
        target = RedisFile(path=server.place / "dump.rdb")
        for options in (RestoreOptions(), OVERWRITE):
            with pytest.raises(RestoreRefused, match=r"running Redis(.|\n)*Stop the server"):
                target.restore(content, options)
        assert not target.path.exists()


@pytest.mark.law(8)
@pytest.mark.fault("A10")
def test_links_directories_and_missing_parents_are_no_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("x")
    (tmp_path / "directory").mkdir()
    refusals = {
        "link": "plain file",
        "directory": "plain file",
        "no/x.rdb": "does not exist",
        "link/x": "does not exist",
    }
    for name, why in refusals.items():
        with pytest.raises(RestoreRefused, match=why):
            RedisFile(path=tmp_path / name).check_target(OVERWRITE)


def test_the_new_file_belongs_to_whom_the_old_or_the_directory_did(filled: RedisServer, tmp_path: Path) -> None:
    content = take(door(filled), tmp_path)
    (tmp_path / "redis").mkdir()
    if os.geteuid() == 0:
        os.chown(tmp_path / "redis", 12345, 54321)
    target = RedisFile(path=tmp_path / "redis/dump.rdb")
    target.restore(content, RestoreOptions())
    status, above = target.path.stat(), (tmp_path / "redis").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (above.st_uid, above.st_gid, 0o600)
    target.path.chmod(0o640)
    target.restore(content, OVERWRITE)
    assert stat.S_IMODE(target.path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path / "redis") == ["dump.rdb"]


@pytest.mark.fault("A06", "C02")
def test_a_dump_that_is_not_what_its_record_says_is_not_put_in_place(filled: RedisServer, tmp_path: Path) -> None:
    source = door(filled)
    with source.dump() as dump:
        data = drain(dump.stream)
    target = RedisFile(path=tmp_path / "x.rdb")
    with pytest.raises(SourceError, match="no sound dump of Redis"):
        target.restore(content_of(source, dump, data[:-9], tmp_path), RestoreOptions())
    content = content_of(source, dump, data, tmp_path)
    object.__setattr__(content.artifact, "facts", {**content.artifact.facts, "keys": 3})
    with pytest.raises(Corrupt, match="holds 30010 keys; its record says 3"):
        target.restore(content, RestoreOptions())
    assert not target.path.exists()


@pytest.mark.law(8)
@pytest.mark.fault("K12", "A14")
@pytest.mark.parametrize("point", ["restore:before-swap", "restore:after-swap"])
def test_a_restore_that_is_killed_leaves_the_old_or_the_new(
    filled: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    source = door(filled)
    with source.dump() as dump:
        data = drain(dump.stream)
    content = content_of(source, dump, data, tmp_path)
    (tmp_path / "redis").mkdir()
    target = RedisFile(path=tmp_path / "redis/dump.rdb")
    target.path.write_bytes(b"old")

    def die(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), 9)

    with monkeypatch.context() as patch:
        patch.setattr("blocks.sources.redis_file.milestone", die)
        assert in_child(lambda: target.restore(content, OVERWRITE))[1] == -9
    assert target.path.read_bytes() == (b"old" if point == "restore:before-swap" else data)
    target.restore(content, OVERWRITE)
    assert target.path.read_bytes() == data
    assert os.listdir(tmp_path / "redis") == ["dump.rdb"]
