"""MySQL and MariaDB: the contract against a real MariaDB, and what is its own. Bad tools lie in ``bin_dir``."""

# the SQL of tests is made of their own names
from __future__ import annotations

import io
import shutil
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.blocks.core import Block
from pydantic import SecretStr, ValidationError

from blocks.sources import mysql_dump
from blocks.sources.base import Dump, RestoreOptions
from blocks.sources.mysql import MySQLDatabase
from blocks.sources.mysql_tools import MARIADB, MYSQL, Installation, for_dump, for_load, parse_server
from cli.api import free_port
from tests.contract.source import (
    BlockSuite,
    SourceContract,
    children,
    drain,
    secrets_of,
    take,
    wait_until_gone,
)
from tests.peers.certificate import self_signed
from tests.peers.mariadb import PASSWORD, MariaDBServer, running_mariadb
from tests.sources.mysql import OVERWRITE, all_of, database, door, ours, shop
from vault.errors import (
    ConfigError,
    IncompleteDump,
    SourceError,
    SourceUnavailable,
)

__all__ = ["database", "shop"]


class TestMariaDB(SourceContract):
    @pytest.fixture
    def source(self, database: MySQLDatabase, mariadb_server: MariaDBServer) -> MySQLDatabase:
        self.server = mariadb_server
        return database

    @pytest.fixture
    def empty(self, source: MySQLDatabase) -> MySQLDatabase:
        return source.model_copy(update={"database": f"{source.database}_restored"})

    @pytest.fixture
    def missing(self, source: MySQLDatabase) -> tuple[MySQLDatabase, str]:
        return source.model_copy(update={"database": "nosuch"}), "Unknown database 'nosuch'"

    def data(self, source: MySQLDatabase) -> dict[str, object]:
        found = all_of(self.server, source.database)
        if "__drill_" in source.database:  # where no event runs
            events = {k: v.replace(" DISABLE ", " ENABLE ") for k, v in found["definitions"].items()}
            return {**found, "definitions": events}
        return found

    def change(self, source: MySQLDatabase) -> None:
        self.server.sql("DELETE FROM orders WHERE id > 10; CREATE TABLE later (n int)", source.database)


class TestBlock(BlockSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return MySQLDatabase


def test_facts_name_tables_rows_code_and_the_database(shop: MySQLDatabase) -> None:
    with shop.dump() as dump:
        drain(dump.stream)
    facts = dump.facts
    assert facts["rows"] == {'a `table` "; -- (': 2, "empty": 0, "items": 2, "orders": 9000}
    assert facts["estimated_rows"] == {}
    counts = {kind: facts[kind] for kind in ("tables", "sequences", "views", "routines", "triggers", "events")}
    assert counts == {"tables": 4, "sequences": 0, "views": 1, "routines": 1, "triggers": 1, "events": 1}
    assert facts["definers"] == ["admin@%"]
    assert facts["database"]["name"] == "shop"
    assert dump.warnings == []
    assert dump.tool == shop.check()


def test_what_is_counted_is_what_is_dumped_whatever_is_written_meanwhile(
    database: MySQLDatabase, mariadb_server: MariaDBServer, tmp_path: Path
) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            mariadb_server.sql("INSERT INTO orders (item) VALUES ('x')", database.database)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        content = take(database, tmp_path)
    finally:
        stop.set()
        writer.join()
    with database.scratch() as scratch:
        facts = scratch.restore(content, RestoreOptions())
    assert facts["rows"] == content.artifact.facts["rows"]
    assert facts["rows"]["orders"] >= 9000


@pytest.mark.fault("S13", "S14")
def test_a_database_without_tables_is_dumped_with_a_warning(mariadb_server: MariaDBServer, tmp_path: Path) -> None:
    with mariadb_server.database() as name:
        source = door(mariadb_server, name)
        content = take(source, tmp_path)
        assert content.artifact.warnings == ("the database has no tables",)
        with source.scratch() as scratch:
            assert scratch.restore(content, RestoreOptions())["tables"] == 0


@pytest.mark.fault("S21")
def test_tables_without_transactions_are_named(mariadb_server: MariaDBServer, tmp_path: Path) -> None:
    script = "CREATE TABLE a (n int) ENGINE=MyISAM; CREATE TABLE b (n int) ENGINE=Aria; CREATE TABLE c (n int)"
    with mariadb_server.database(script) as name:
        (warning,) = take(door(mariadb_server, name), tmp_path).artifact.warnings
    assert warning.startswith("2 tables are not of the snapshot")
    assert "a (MyISAM)" in warning
    assert "b (Aria)" in warning


@pytest.mark.fault("S21")
def test_a_table_that_is_changed_during_the_dump_may_be_tried_again(
    database: MySQLDatabase, mariadb_server: MariaDBServer
) -> None:
    mariadb_server.sql("CREATE TABLE zz (n int); INSERT INTO zz VALUES (1)", database.database)

    def alter() -> None:
        with database.dump() as dump:
            dump.stream.read(1)  # the snapshot is older than what follows, and orders fills the pipe before zz
            mariadb_server.sql("ALTER TABLE zz ADD m int, ALGORITHM=COPY", database.database)
            drain(dump.stream)

    mariadb_server.sql("INSERT INTO orders (item) SELECT REPEAT('x', 1000) FROM seq_1_to_9000", database.database)
    with pytest.raises(SourceUnavailable, match="1412"):
        alter()


# Tools that are missing, old, or lie


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A directory with the real tools, to be replaced one by one."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in ("mariadb", "mariadb-dump"):
        (place / name).symlink_to(str(shutil.which(name)))
    return place


def fake(tools: Path, script: str, name: str = "mariadb-dump") -> None:
    """Put a script in the place of a tool; it says the right version, and ``$REAL`` is the real one."""
    path = tools / name
    real = shutil.which(name)
    path.unlink()
    version = f'[ "$1" = --version ] && exec {real} --version\n'
    path.write_text(f"#!/bin/bash\nREAL={real}\n{version}{textwrap.dedent(script)}\n")
    path.chmod(0o755)


def dump_with(source: MySQLDatabase, tools: Path, **fields: object) -> tuple[Dump, bytes]:
    with source.model_copy(update={"bin_dir": str(tools), **fields}).dump() as dump:
        data = drain(dump.stream)
    return dump, data


@pytest.mark.fault("S01")
@pytest.mark.parametrize("name", ["mariadb", "mariadb-dump"])
def test_a_missing_tool_is_named(shop: MySQLDatabase, tools: Path, name: str) -> None:
    (tools / name).unlink()
    source = shop.model_copy(update={"bin_dir": str(tools)})
    with pytest.raises(SourceError, match=rf"{name}.*installed(.|\n)*mariadb-client") as caught:
        source.check()
    assert not isinstance(caught.value, SourceUnavailable)


@pytest.mark.fault("S02", "S03")
@pytest.mark.parametrize("output", ["", "head -c 10000000 /dev/zero;"])
def test_a_dump_that_fails_is_an_error_with_what_it_said(shop: MySQLDatabase, tools: Path, output: str) -> None:
    fake(tools, f"{output} echo 'mariadb-dump: Got error: 1142: SELECT command denied' >&2; exit 2")
    with pytest.raises(SourceError, match=r"exit code 2: .*SELECT command denied") as caught:
        dump_with(shop, tools)
    assert not isinstance(caught.value, SourceUnavailable)


@pytest.mark.fault("S04")
def test_a_dump_of_no_bytes_is_no_dump(shop: MySQLDatabase, tools: Path) -> None:
    fake(tools, "exit 0")
    with pytest.raises(IncompleteDump, match="wrote nothing"):
        dump_with(shop, tools)


@pytest.mark.fault("S05", "S07")
def test_a_cut_dump_is_no_dump_though_the_tool_says_so(shop: MySQLDatabase, tools: Path) -> None:
    for cut in ("head -c -30", "head -c 1500000", "head -c 3000", "head -c 30", "tail -c +200", "tail -n 1"):
        fake(tools, f'"$REAL" "$@" | {cut}; exit 0')
        with pytest.raises(IncompleteDump):
            dump_with(shop, tools)


@pytest.mark.fault("S05")
def test_a_dump_that_leaves_a_table_or_a_view_out_is_no_dump(shop: MySQLDatabase, tools: Path) -> None:
    fake(tools, '"$REAL" "${@:1:$#-2}" --ignore-table=shop.orders -- shop')
    with pytest.raises(IncompleteDump, match=r"left out 1 of 5 tables and views: orders"):
        dump_with(shop, tools)
    fake(tools, '"$REAL" "${@:1:$#-2}" --ignore-table=shop.paid -- shop')
    with pytest.raises(IncompleteDump, match=r"left out 1 of 5 tables and views: paid"):
        dump_with(shop, tools)


@pytest.mark.fault("S06")
def test_warnings_of_a_dump_are_kept(shop: MySQLDatabase, tools: Path) -> None:
    fake(tools, 'echo "Warning: a thing to know" >&2; exec "$REAL" "$@"')
    dump, _ = dump_with(shop, tools)
    assert dump.warnings == ["Warning: a thing to know"]


@pytest.mark.fault("S08")
def test_a_killed_dump_may_be_tried_again(shop: MySQLDatabase, tools: Path) -> None:
    fake(tools, "echo x; kill -9 $$")
    with pytest.raises(SourceUnavailable, match="mariadb-dump was killed by SIGKILL"):
        dump_with(shop, tools)


@pytest.mark.fault("S09")
def test_a_dump_that_hangs_is_stopped_with_all_it_started(shop: MySQLDatabase, tools: Path, tmp_path: Path) -> None:
    fake(tools, f"sleep 1000 & echo $! > {tmp_path}/pid; echo x; wait")
    before = children()
    with pytest.raises(SourceUnavailable, match="no sign of life for 2 seconds"):
        dump_with(shop, tools, idle_timeout=2)
    assert children() == before
    wait_until_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.fault("S10")
def test_a_dump_that_floods_stderr_is_still_a_dump(shop: MySQLDatabase, tools: Path) -> None:
    fake(tools, 'yes "a line of no use" | head -c 20000000 >&2; exec "$REAL" "$@"')
    dump, data = dump_with(shop, tools)
    assert data.endswith(b"\n")
    assert len(dump.warnings) < 50


@pytest.mark.fault("S11")
def test_tools_that_are_too_old_are_refused_with_both_versions(shop: MySQLDatabase, tools: Path) -> None:
    (tools / "mariadb-dump").unlink()
    (tools / "mariadb-dump").write_text("#!/bin/sh\necho 'mariadb-dump  Ver 10.16 Distrib 10.1.48-MariaDB'\n")
    (tools / "mariadb-dump").chmod(0o755)
    source = shop.model_copy(update={"bin_dir": str(tools)})
    for act in (source.check, lambda: source.dump().__enter__()):
        with pytest.raises(SourceError, match=r"MariaDB \d+\.\d+\.\d+: .*10\.3\.0 or newer.*10\.1\.48"):
            act()


@pytest.mark.fault("S12", "T01")
def test_a_refused_connection_may_be_tried_again(shop: MySQLDatabase) -> None:
    for where in ({"port": free_port()}, {"host": "nosuch.invalid"}, {"socket": "/nosuch"}):
        with pytest.raises(SourceUnavailable, match=r"ERROR 200\d"):
            shop.model_copy(update=where).check()


@pytest.mark.fault("S12")
def test_a_wrong_password_will_not_do_and_is_not_shown(shop: MySQLDatabase) -> None:
    source = shop.model_copy(update={"password": SecretStr("wrong-canary-77")})
    with pytest.raises(SourceError, match="Access denied") as caught:
        source.check()
    assert not isinstance(caught.value, SourceUnavailable)
    assert "wrong-canary-77" not in repr(caught.value)


@pytest.mark.fault("S12")
@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_a_server_without_tls_is_refused_when_tls_is_asked_for(shop: MySQLDatabase, mode: str) -> None:
    with pytest.raises(SourceError, match=r"(?i)TLS.*required|SSL is required") as caught:
        shop.model_copy(update={"ssl_mode": mode}).check()
    assert not isinstance(caught.value, SourceUnavailable)


@pytest.fixture
def certificate() -> Iterator[Path]:
    """A certificate and its key where the server's user can read them."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        path = self_signed(Path(place))
        path.chmod(0o644)
        path.parent.chmod(0o755)
        yield path


@pytest.mark.fault("T17")
def test_a_server_is_believed_by_its_certificate(certificate: Path) -> None:
    cipher = "SHOW STATUS LIKE 'Ssl_cipher';"
    with running_mariadb(f"ssl-cert={certificate}", f"ssl-key={certificate}") as server, server.database() as name:
        shop = door(server, name, ssl_mode="verify-full")
        with pytest.raises(SourceError, match=r"(?i)certificate|self.signed") as caught:
            shop.check()
        assert not isinstance(caught.value, SourceUnavailable)
        for fields in ({"ssl_ca": str(certificate)}, {"ssl_mode": "require"}, {"ssl_mode": "prefer"}):
            trusting = shop.model_copy(update=fields)
            with trusting._endpoint().open() as access:
                assert access.rows(cipher)[0][1]
            with trusting.dump() as dump:
                drain(dump.stream)
        with shop.model_copy(update={"ssl_mode": "disable"})._endpoint().open() as access:
            assert not access.rows(cipher)[0][1]


@pytest.mark.fault("T20")
def test_a_server_that_gives_up_on_a_slow_reader_is_told_of(
    database: MySQLDatabase, mariadb_server: MariaDBServer
) -> None:
    mariadb_server.sql("INSERT INTO orders (item) SELECT REPEAT('x', 4000) FROM seq_1_to_9000", database.database)
    reading = """SELECT COUNT(*) > 0 FROM information_schema.processlist
        WHERE info LIKE 'SELECT%SQL_NO_CACHE%`orders`%' AND info NOT LIKE '%processlist%'"""

    def stall() -> None:
        with database.dump() as dump:
            dump.stream.read(1)
            for state in ("1", "0"):
                while mariadb_server.sql(reading) != state:
                    pass
            drain(dump.stream)

    mariadb_server.sql("SET GLOBAL net_write_timeout = 1")
    try:
        with pytest.raises(SourceUnavailable, match=r"2013(.|\n)*net_write_timeout"):
            stall()
    finally:
        mariadb_server.sql("SET GLOBAL net_write_timeout = DEFAULT")


# Passwords and names


@pytest.mark.fault("N08")
@pytest.mark.law(10)
def test_the_password_is_in_no_argument_and_no_environment(shop: MySQLDatabase, tools: Path, tmp_path: Path) -> None:
    for name in ("mariadb", "mariadb-dump"):
        fake(tools, f'(echo "$@"; env; ls -ld "${{1#*=}}") >> {tmp_path}/seen; exec "$REAL" "$@"', name)
    source = shop.model_copy(update={"bin_dir": str(tools)})
    content = take(source, tmp_path)
    with source.scratch() as scratch:
        scratch.restore(content, RestoreOptions())
    seen = (tmp_path / "seen").read_text()
    assert "--defaults-file=" in seen
    assert "MYSQL_PWD" not in seen
    assert secrets_of(source) == [PASSWORD]
    assert PASSWORD not in seen
    assert PASSWORD[:9] not in seen
    assert {line.split()[0] for line in seen.splitlines() if line.endswith("/secret")} == {"-rw-------"}


@pytest.mark.fault("N08")
@pytest.mark.parametrize(
    "password",
    [r"pa\"ss\'#;%:\\", " ", " x ", "\\", "*", "#x", "ü€", "a\nb\r\tc", "$HOME `x`", '"', "'", "=", "!include x"],
)
def test_any_password_is_handed_over_whole(mariadb_server: MariaDBServer, password: str) -> None:
    escaped = password.replace("\\", "\\\\").replace("'", "''")
    mariadb_server.sql(f"CREATE USER odd@'%' IDENTIFIED BY '{escaped}'")
    try:
        mariadb_server.sql("GRANT ALL ON mysql.* TO odd@'%'")
        source = door(mariadb_server, "mysql", username="odd", password=SecretStr(password))
        assert source.check().startswith("mariadb-dump")
    finally:
        mariadb_server.sql("DROP USER odd@'%'")


@pytest.mark.fault("N08")
@pytest.mark.parametrize("password", ["canary-1\0", "canary-1" * 1000])
def test_a_password_that_no_option_file_can_hold_is_refused_and_not_shown(password: str) -> None:
    with pytest.raises(ValidationError, match="at most 1000 bytes") as caught:
        MySQLDatabase(database="shop", password=SecretStr(password))
    assert "canary-1" not in repr(caught.value)


def test_the_operators_own_password_serves_where_none_is_saved(
    shop: MySQLDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = shop.model_copy(update={"password": SecretStr("")})
    with pytest.raises(SourceError, match="using password: NO"):
        source.check()
    escaped = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
    (tmp_path / ".my.cnf").write_text(f'[client]\npassword="{escaped}"\n')
    with monkeypatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        assert source.check()
    monkeypatch.setenv("MYSQL_PWD", PASSWORD)
    assert source.check()


@pytest.mark.fault("N01", "N02", "N04", "N06", "N11", "N12")
@pytest.mark.parametrize(
    "name",
    [
        "--output=pwned",
        "; touch pwned; $(touch pwned) `touch pwned`",
        'it\'s \\ "quoted" %s {x} {{y}} _ % *.[a-z]*',
        "Größe 数 " + "x" * 51,
        "a.b/c",
    ],
)
def test_an_odd_database_name_is_a_name(
    mariadb_server: MariaDBServer, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script = "CREATE TABLE t AS SELECT 1 AS n; CREATE FUNCTION f() RETURNS int RETURN 1;"
    with mariadb_server.database(script, name), mariadb_server.database("", name.swapcase()):
        source = door(mariadb_server, name)
        content = take(source, tmp_path)
        mariadb_server.sql("INSERT INTO t VALUES (2)", name)
        source.restore(content, OVERWRITE)
        assert mariadb_server.rows(name) == {"t": ["1"]}
        assert mariadb_server.rows(name.swapcase()) == {}
        assert MySQLDatabase.from_url(source.location).database == name
        with source.scratch() as scratch:
            scratch.restore(content, RestoreOptions())
        assert ours(mariadb_server, name) == [name]
    assert not (tmp_path / "pwned").exists()


@pytest.mark.fault("N04", "N05")
@pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "\x1b[31m", "x\u202ey", "a\u2028b", "x" * 65, "😀", "a "])
def test_a_name_that_tools_or_terminals_would_change_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        MySQLDatabase(database=name)


@pytest.mark.fault("N01", "N02")
@pytest.mark.parametrize("host", ["a,b", "evil --port=1", "x'", "a b", "../x", "-h", "a\nb", "x;y"])
def test_a_host_is_one_host(host: str) -> None:
    with pytest.raises(ValidationError):
        MySQLDatabase(database="x", host=host)


def test_a_url_says_where_the_database_is() -> None:
    shop = MySQLDatabase.from_url("mysql://jo%40x@db.example:3307/my%20shop?ssl-mode=verify-full&ssl-ca=/etc/ca.pem")
    assert (shop.username, shop.host, shop.port, shop.database) == ("jo@x", "db.example", 3307, "my shop")
    assert (shop.ssl_mode, shop.ssl_ca) == ("verify-full", "/etc/ca.pem")
    assert shop.location == "mysql://jo%40x@db.example:3307/my%20shop"
    local = MySQLDatabase.from_url("mariadb:///shop?socket=/run/mysqld/mysqld.sock")
    assert (local.username, local.host, local.socket) == ("", "localhost", "/run/mysqld/mysqld.sock")
    assert MySQLDatabase.from_url(local.location) == local
    assert MySQLDatabase.from_url("mysql://[::1]/shop").location == "mysql://[::1]:3306/shop"


@pytest.mark.fault("O12")
@pytest.mark.parametrize("url", ["mysql://jo:hunter2@db/shop", "mariadb://jo@db/shop?password=hunter2"])
def test_a_password_in_a_url_is_refused_with_the_better_way(url: str) -> None:
    with pytest.raises(ConfigError, match=r"my\.cnf") as caught:
        MySQLDatabase.from_url(url)
    assert "hunter2" not in repr(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://x/y",
        "mysql://h:notaport/x",
        "mysql://h:99999/x",
        "mysql://h/",
        "mysql://h/x?ssl-mode=maybe",
        "mysql://h/x?socket=relative",
        "mysql://h/x?defaults-file=evil",
        "mysql://h/a%0Ab",
        "mysql://h/%ff",
        "mysql://[::1/x",
        "mysql://h/x#f",
        "",
    ],
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        MySQLDatabase.from_url(url)


def test_the_socket_serves(shop: MySQLDatabase, mariadb_server: MariaDBServer) -> None:
    assert shop.model_copy(update={"socket": str(mariadb_server.socket), "host": "nosuch.invalid"}).check()


# What the tools write


def counted(script: bytes, step: int) -> dict[str, int]:
    """What the watch counts in *script* when it comes in pieces of *step* bytes."""
    watch = mysql_dump.Watch(io.BufferedReader(Dripping(script, step)))
    while watch.readinto(memoryview(bytearray(step))):
        pass
    return watch.rows


class Dripping(io.RawIOBase):
    def __init__(self, data: bytes, step: int) -> None:
        self._data, self._step = memoryview(data), step

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), self._step, len(self._data))
        buffer[:count], self._data = self._data[:count], self._data[count:]
        return count


# The first is how MySQL's tool writes rows, the second how MariaDB's does; both were taken from real dumps.
NAME = b"INSERT INTO `t (` VALUES"
ONE_LINE = NAME + b" (1,'it\\'s),(',NULL),(2,'\\\\',0x28),(3,'','(');\n" + NAME + b" (4,'\\n','');\n"
LINES = NAME + b"\n(1,'it\\'s),(',NULL),\n(2,'\\\\',0x28),\n(3,'','(');\n" + NAME + b"\n(4,'\\n','');\n"
NAMED = NAME.replace(b" V", b" (`a`, `b('`) V")
NAMED = NAMED + b" (1,'it\\'s),('),\n(2,'\\\\');\n" + NAMED + b" (3,''),\n(4,'');\n"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100, 100_000])
@pytest.mark.parametrize("rows", [ONE_LINE, LINES, NAMED])
def test_rows_are_counted_however_they_are_written_and_cut(
    rows: bytes, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = b"--\n-- Dumping data for table `t (`\n--\n\n/*!40000 ALTER TABLE `t (` DISABLE KEYS */;\n"
    after = b"/*!40000 ALTER TABLE `t (` ENABLE KEYS */;\n\n-- (1),(2)\nCREATE PROCEDURE p() BEGIN\n(SELECT 1); END\n"
    for hold in (64 * 1024, 60):
        monkeypatch.setattr(mysql_dump, "_HOLD", hold)
        assert counted(b"-- MariaDB dump\n" + before + rows + after, step) == {"t (": 4}


def test_each_tool_gets_the_options_that_it_knows() -> None:
    maria, mysql = parse_server("10.11.19-MariaDB-0+deb12u1-log"), parse_server("8.4.2")
    assert (str(maria), str(mysql)) == ("MariaDB 10.11.19", "MySQL 8.4.2")
    assert str(parse_server("5.5.5-10.3.39-MariaDB-1:10.3.39")) == "MariaDB 10.3.39"
    assert str(parse_server("8.0.36-28")) == "MySQL 8.0.36"  # Percona's
    own = {"--set-gtid-purged=OFF", "--column-statistics=0", "--dump-history"}
    for tool, server, options in (
        (Installation(MYSQL, (5, 7, 44), "mysql", "mysqldump"), mysql, {"--set-gtid-purged=OFF"}),
        (Installation(MYSQL, (8, 0, 36), "mysql", "mysqldump"), mysql, own - {"--dump-history"}),
        (Installation(MYSQL, (9, 1, 0), "mysql", "mysqldump"), maria, own - {"--dump-history"}),
        (Installation(MARIADB, (10, 11, 19), "mariadb", "mariadb-dump"), maria, {"--dump-history"}),
        (Installation(MARIADB, (10, 6, 20), "mariadb", "mariadb-dump"), maria, set()),
        (Installation(MARIADB, (11, 4, 2), "mariadb", "mariadb-dump"), mysql, set()),
    ):
        assert own & set(tool.dump_options(server)) == options


@pytest.mark.fault("S11")
def test_the_tool_that_fits_the_server_is_taken() -> None:
    old, new = (Installation(MARIADB, (10, minor, 1), "mariadb", "mariadb-dump") for minor in (6, 11))
    mysql = [Installation(MYSQL, (major, 0, 1), "mysql", "mysqldump") for major in (5, 8, 9)]
    every = tuple(sorted([old, new, *mysql], key=lambda tool: tool.version))
    for version, dumps, loads in (
        ("10.6.20-MariaDB", old, new),
        ("10.11.19-MariaDB", new, new),
        ("11.4.2-MariaDB", new, new),
        ("8.0.36", mysql[1], mysql[2]),
        ("8.4.2", mysql[2], mysql[2]),
        ("9.1.0", mysql[2], mysql[2]),
    ):
        assert for_dump(every, parse_server(version)) is dumps
        assert for_load(every, parse_server(version)) is loads
    with pytest.raises(SourceError, match=r"MySQL 9\.1\.0: .*8\.0\.0 or newer.*mysqldump 5\.0\.1"):
        for_dump((mysql[0],), parse_server("9.1.0"))
    assert for_dump((old,), parse_server("8.0.36")) is old


def test_a_tool_of_another_kind_or_age_is_told_in_the_record(shop: MySQLDatabase, tools: Path, tmp_path: Path) -> None:
    real = shutil.which("mariadb-dump")
    (tools / "mariadb-dump").unlink()
    (tools / "mariadb-dump").write_text(
        '#!/bin/bash\n[ "$1" = --version ] && { echo "mariadb-dump from 10.6.20-MariaDB"; exit; }\n'
        f'exec {real} "$@"\n'
    )
    (tools / "mariadb-dump").chmod(0o755)
    dump, _ = dump_with(shop, tools)
    assert [w for w in dump.warnings if "mariadb-dump 10.6.20 is older than the server, MariaDB" in w]
