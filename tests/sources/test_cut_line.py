"""The line to a server is cut in the middle: of a dump, which is then none, or of a restore, which then did nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from blocks.sources import mysql_restore, mysql_swap, postgres_restore, redis_file, sqlite_shell, tar
from blocks.sources.base import RestoreOptions, Source
from blocks.sources.directory import Directory
from blocks.sources.mysql import MySQLDatabase
from blocks.sources.redis_file import RedisFile
from blocks.sources.sqlite import SqliteDatabase
from blocks.ssh_server import SshServer
from tests.contract.source import drain, is_there, take
from tests.peers.mariadb import MariaDBServer
from tests.peers.postgres import PostgresServer
from tests.peers.proxy import Proxy, proxy
from tests.peers.ssh_host import left_on, over, ssh_host
from tests.peers.sshd import SshServer as Sshd
from tests.reduced import reduced
from tests.sources import mysql, test_directory, test_postgres, test_redis, test_sqlite
from tests.sources.mysql import database as maria
from tests.sources.test_directory import tree
from tests.sources.test_postgres import database
from tests.sources.test_redis import filled, redis_server
from tests.sources.test_sqlite import shop
from tests.ssh.test_server import until
from vault.errors import SourceUnavailable

__all__ = ["database", "filled", "maria", "redis_server", "shop", "tree"]

OVERWRITE = RestoreOptions(overwrite=True)
KINDS = ["postgres", "mysql", "redis", "directory", "sqlite"]


@pytest.fixture(scope="module")
def host() -> Iterator[Sshd]:
    with ssh_host() as server:
        yield server


@pytest.fixture
def line(host: Sshd) -> Iterator[Proxy]:
    """A line to the server; when it was cut, all that ran over it has to end by itself."""
    with proxy(host.port) as made:
        yield made
        until(lambda: not left_on(host) and not tools_on(host))


def tools_on(host: Sshd) -> list[str]:
    """What runs there, by the home that only its account has."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"HOME={host.served}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


@dataclass(frozen=True)
class Case:
    """A source, and two targets of its kind, on this machine."""

    source: Source
    target: Source
    """It holds something."""
    absent: Source
    """One that is not there."""
    change: Callable[[], object]
    """Change what the target holds."""
    look: Callable[[], object]
    """All that the target holds."""
    beside: Callable[[], object]
    """What else there is of ours."""
    sessions: Callable[[], object]
    """What of ours is still connected to the database's server."""

    def far(self, server: SshServer) -> Case:
        """The same through *server*."""
        places = (one.model_copy(update={"server": server}) for one in (self.source, self.target, self.absent))
        return Case(*places, self.change, self.look, self.beside, self.sessions)


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """That of the kind of the test's parameter; afterwards nothing of ours is connected to its server."""
    given = request.getfixturevalue
    kind = request.getfixturevalue("kind")
    if kind == "postgres":
        made = of_postgres(given("database"), given("postgres_server"))
    elif kind == "mysql":
        made = of_mysql(given("maria"), given("mariadb_server"))
    elif kind == "redis":
        made = of_redis(given("filled"), tmp_path / "dumps")
    elif kind == "directory":
        root = given("tree")
        made = of_files(Directory(path=root), lambda: (root / "later").touch(), lambda: test_directory.seen(root))
    else:
        path = given("shop")
        delete = "DELETE FROM orders WHERE id > 10"
        made = of_files(
            SqliteDatabase(path=path), lambda: test_sqlite.run(path, delete), lambda: test_sqlite.rows(path)
        )
    yield made
    until(lambda: not made.sessions())


def of_postgres(source: Any, server: PostgresServer) -> Case:
    name = source.database
    mine = "SELECT query FROM pg_stat_activity WHERE application_name = 'prefect-backups'"
    return Case(
        source,
        source,
        source.model_copy(update={"database": f"{name}_restored"}),
        lambda: server.sql("DELETE FROM orders WHERE id > 10", name),
        lambda: test_postgres.all_of(server, name),
        lambda: set(test_postgres.ours(server, name)) - {name},
        lambda: server.sql(mine),
    )


def of_mysql(source: Any, server: MariaDBServer) -> Case:
    name = source.database
    mine = "SELECT info FROM information_schema.processlist WHERE user = 'admin' AND id <> CONNECTION_ID()"
    return Case(
        source,
        source,
        source.model_copy(update={"database": f"{name}_restored"}),
        lambda: server.sql("DELETE FROM items; DROP VIEW paid", name),
        lambda: mysql.all_of(server, name),
        lambda: set(mysql.ours(server, name)) - {name},
        lambda: server.sql(mine),
    )


def of_redis(server: Any, place: Path) -> Case:
    place.mkdir()
    target = RedisFile(path=place / "dump.rdb")
    target.path.write_bytes(b"old")
    return Case(
        test_redis.door(server),
        target,
        RedisFile(path=place / "restored.rdb"),
        lambda: target.path.write_bytes(b"changed"),
        target.path.read_bytes,
        lambda: [path.name for path in place.iterdir() if path != target.path],
        lambda: server.ask("CLIENT", "LIST", "TYPE", "replica"),
    )


def of_files(source: Any, change: Callable[[], object], look: Callable[[], object]) -> Case:
    def hidden() -> list[str]:
        return [path.name for path in source.path.parent.iterdir() if path.name.startswith(".")]

    absent = source.model_copy(update={"path": source.path.with_name("restored")})
    return Case(source, source, absent, change, look, hidden, lambda: "")


@pytest.mark.fault("K02", "T01")
@pytest.mark.law(2)
@pytest.mark.parametrize("kind", KINDS)
def test_a_line_that_is_cut_in_the_middle_of_a_dump_fails_it_for_the_moment(
    case: Case, kind: str, host: Sshd, line: Proxy
) -> None:
    source = case.far(over(host, port=line.port)).source

    line.wire.drip_down = 1_000_000  # not all of it is here already when the line is cut

    def dump_and_cut() -> None:
        with source.dump() as dump:
            assert dump.stream.read(1000)
            line.cut()
            line.wire.drip_down = None
            drain(dump.stream)

    with pytest.raises(SourceUnavailable):
        dump_and_cut()
    with source.dump() as dump:  # the next try connects anew
        drain(dump.stream)


# -- restore: where it is cut


@pytest.mark.fault("K12", "A14")
@pytest.mark.law(2, 8)
@pytest.mark.parametrize("kind", reduced(KINDS, "mysql", "redis", "directory"))
def test_a_line_that_is_cut_while_a_dump_is_sent_leaves_no_target_where_there_was_none(
    case: Case, kind: str, host: Sshd, line: Proxy, tmp_path: Path
) -> None:
    content = take(case.source, tmp_path)
    target = case.far(over(host, port=line.port)).absent
    line.wire.cut_up, line.wire.once = content.artifact.plain_size // 2, True
    with pytest.raises(SourceUnavailable):
        target.restore(content, RestoreOptions())
    assert line.wire.cut_up is None, "it was not cut"
    until(lambda: not case.beside())
    target.restore(content, RestoreOptions())  # the next try connects anew
    assert is_there(target)


@pytest.mark.fault("K12", "A14")
@pytest.mark.law(2, 8)
@pytest.mark.parametrize("kind", reduced(KINDS, "postgres", "directory", "sqlite"))
def test_a_line_that_is_cut_just_before_the_swap_leaves_the_target_as_it_was(
    case: Case, kind: str, host: Sshd, line: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = take(case.source, tmp_path)
    target = case.far(over(host, port=line.port)).target
    case.change()
    before = case.look()
    cuts: list[str] = []

    def cut(point: str) -> None:
        if point == "restore:before-swap" and not cuts:
            line.cut()
            cuts.append(point)

    for module in (mysql_restore, postgres_restore, redis_file, sqlite_shell, tar):
        monkeypatch.setattr(module, "milestone", cut)
    with pytest.raises(SourceUnavailable):
        target.restore(content, OVERWRITE)
    assert cuts
    until(lambda: not case.beside())
    assert case.look() == before
    target.restore(content, OVERWRITE)
    assert case.look() != before


@pytest.mark.fault("K12", "A14")
def test_a_line_that_is_cut_while_tables_of_mysql_change_places_leaves_them_where_they_were(
    maria: MySQLDatabase,
    mariadb_server: MariaDBServer,
    host: Sshd,
    line: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = of_mysql(maria, mariadb_server)
    content = take(maria, tmp_path)
    case.change()
    before = case.look()
    steps = mysql_swap._steps

    def halting(*given: Any) -> Iterator[bytes]:
        for step in steps(*given):
            yield step
            if b"RENAME TABLE" in step:
                yield b"DO GET_LOCK('held by the test', 60);\n"

    monkeypatch.setattr(mysql_swap, "_steps", halting)
    with maria._endpoint().open() as access, access.session() as holder:
        holder.ask("SELECT GET_LOCK('held by the test', 0);")

        def cut() -> None:
            until(lambda: "held by the test" in str(case.sessions()))
            assert case.beside()
            line.cut()

        cutting = threading.Thread(target=cut)
        cutting.start()
        with pytest.raises(SourceUnavailable):
            case.far(over(host, port=line.port)).target.restore(content, OVERWRITE)
        cutting.join()
    assert not case.beside()
    assert case.look() == before
