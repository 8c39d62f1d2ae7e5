"""SQLite: the contract, and what is its own."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from prefect.blocks.core import Block
from pydantic import ValidationError

from blocks.servers import LocalServer
from blocks.sources.base import RestoreOptions
from blocks.sources.sqlite import SqliteDatabase
from tests.contract.source import BlockSuite, SourceContract, content_of, drain, take
from vault.errors import Corrupt, IncompleteDump, RestoreRefused, SourceError, SourceUnavailable, SpoolError

OVERWRITE = RestoreOptions(overwrite=True)


class TestBlock(BlockSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return SqliteDatabase


class TestContract(SourceContract):
    @pytest.fixture
    def source(self, shop: Path) -> SqliteDatabase:
        return SqliteDatabase(path=shop)

    @pytest.fixture
    def empty(self, tmp_path: Path) -> SqliteDatabase:
        return SqliteDatabase(path=tmp_path / "restored.db")

    @pytest.fixture
    def missing(self, tmp_path: Path) -> tuple[SqliteDatabase, str]:
        return SqliteDatabase(path=tmp_path / "nosuch.db"), "nosuch.db"

    def data(self, source: SqliteDatabase) -> list[str]:
        return rows(source.path)

    def change(self, source: SqliteDatabase) -> None:
        run(source.path, "INSERT INTO orders VALUES (NULL, 'later')")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A database of some 3 MB."""
    path = tmp_path / "shop.db"
    run(path, "CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT); CREATE INDEX by_item ON orders (item)")
    run(path, "CREATE TABLE carts (what TEXT); INSERT INTO carts VALUES ('{\"sku\": 7}')")
    run(path, "CREATE INDEX by_sku ON carts (json_extract(what, '$.sku'))")
    with closing(sqlite3.connect(path)) as db, db:
        db.executemany("INSERT INTO orders (item) VALUES (?)", ((f"item {n}" * 10,) for n in range(15_000)))
    return path


def run(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(script)


def rows(path: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return list(db.iterdump())


def dumped(path: Path) -> bytes:
    with SqliteDatabase(path=path).dump() as dump:
        return drain(dump.stream)


@pytest.mark.fault("S15")
def test_a_database_under_write_load_in_wal_mode_is_copied_as_of_one_moment(shop: Path, tmp_path: Path) -> None:
    run(shop, "PRAGMA journal_mode = WAL; CREATE TABLE a (n); CREATE TABLE b (n)")
    stop, written = threading.Event(), threading.Semaphore(0)

    def write() -> None:
        with closing(sqlite3.connect(shop, isolation_level=None, timeout=30)) as db:
            while not stop.is_set():
                db.execute("BEGIN IMMEDIATE")
                db.execute("INSERT INTO a VALUES (1)")
                db.execute("INSERT INTO b VALUES (1)")
                db.execute("COMMIT")
                written.release()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            written.acquire()
            copy = tmp_path / "copy.db"
            copy.write_bytes(dumped(shop))
            with closing(sqlite3.connect(copy)) as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                in_a, in_b = (db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in "ab")  # noqa: S608
                assert in_a == in_b > 0
            copy.unlink()
    finally:
        stop.set()
        writer.join()


@pytest.mark.fault("S15")
def test_what_is_only_in_the_write_ahead_log_is_in_the_dump(shop: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(shop)) as app:
        app.execute("PRAGMA journal_mode = WAL")
        app.execute("PRAGMA wal_autocheckpoint = 0")
        app.execute("INSERT INTO orders VALUES (NULL, 'only in the log')")
        app.commit()
        assert shop.with_name("shop.db-wal").stat().st_size > 0
        target = SqliteDatabase(path=tmp_path / "restored.db")
        target.restore(take(SqliteDatabase(path=shop), tmp_path), RestoreOptions())
    assert any("only in the log" in line for line in rows(target.path))


@pytest.mark.fault("S05")
def test_a_damaged_database_is_no_dump(shop: Path) -> None:
    with open(shop, "r+b") as file:
        file.seek(4096 * 20)
        file.write(b"\xa5" * 4096 * 3)
    with pytest.raises(IncompleteDump, match="damaged"):
        dumped(shop)


@pytest.mark.parametrize("content", [b"", b"no database at all", b"SQLite format 3\0 and then nothing of it"])
def test_a_file_that_is_no_database_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes.txt").write_bytes(content)
    with pytest.raises(SourceError, match=r"notes\.txt"):
        SqliteDatabase(path=tmp_path / "notes.txt").check()


@pytest.mark.fault("S18")
def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "shop.db")
    with pytest.raises(SourceError, match="not a file"):
        dumped(tmp_path / "shop.db")


def test_reading_a_missing_database_does_not_make_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        dumped(tmp_path / "nosuch.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("S13", "S14")
def test_a_database_without_tables_is_dumped_with_a_warning(tmp_path: Path) -> None:
    run(tmp_path / "new.db", "CREATE TABLE t (n); DROP TABLE t")
    with SqliteDatabase(path=tmp_path / "new.db").dump() as dump:
        drain(dump.stream)
    assert dump.warnings == ["the database has no tables"]


@pytest.mark.fault("S06")
def test_rows_that_refer_to_nothing_are_a_warning(tmp_path: Path) -> None:
    run(
        tmp_path / "shop.db",
        "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p); INSERT INTO c VALUES (7)",
    )
    with SqliteDatabase(path=tmp_path / "shop.db").dump() as dump:
        drain(dump.stream)
    assert len(dump.warnings) == 1
    assert "foreign_key_check" in dump.warnings[0]


def test_a_collation_that_only_the_app_has_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as db:
        db.create_collation("app", lambda a, b: (a > b) - (a < b))
        db.executescript("CREATE TABLE t (x TEXT COLLATE app); CREATE INDEX i ON t (x); INSERT INTO t VALUES ('a')")
    with SqliteDatabase(path=path).dump() as dump:
        drain(dump.stream)
    assert "no such collation" in dump.warnings[0]
    assert dump.facts["rows"] == {"t": 1}


@pytest.mark.fault("S12")
def test_a_locked_database_may_be_tried_again(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blocks.sources.sqlite_file.BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(shop, isolation_level=None)) as app:
        app.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SourceUnavailable, match="locked"):
            dumped(shop)


@pytest.mark.fault("F01", "F06")
def test_too_little_room_for_the_copy_is_said_with_numbers(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("blocks.sources.sqlite_file.shutil.disk_usage", lambda _: usage)
    with pytest.raises(SpoolError, match="1000 are free"):
        dumped(shop)


@pytest.mark.fault("F06")
def test_the_copy_lies_where_the_server_says(shop: Path, tmp_path: Path) -> None:
    place = tmp_path / "large disk"
    with SqliteDatabase(path=shop, server=LocalServer(temp_directory=str(place))).dump() as dump:
        copies = list(place.rglob("copy.sqlite"))
        assert [path.parent.stat().st_mode & 0o777 for path in copies] == [0o700]
        drain(dump.stream)
    assert list(place.iterdir()) == []


@pytest.mark.fault("N01", "N02", "N04", "N11", "N12")
@pytest.mark.parametrize(
    "name", ["a?mode=rwc", "--version", "; touch pwned", "50%20{x}{{y}}.db", "naïve\n'\".db", "[a]*.db", ":memory:"]
)
def test_an_odd_file_name_is_a_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "plain.db", "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
    os.rename("plain.db", name)
    source = SqliteDatabase(path=tmp_path / name)
    target = SqliteDatabase(path=tmp_path / "to" / name)
    target.path.parent.mkdir()
    target.restore(take(source, tmp_path), RestoreOptions())
    assert target.path.read_bytes() == dumped(source.path)
    assert sorted(os.listdir(tmp_path)) == sorted([name, "to", "work"])
    assert "\n" not in source.location


@pytest.mark.fault("N03", "N04", "N05")
@pytest.mark.parametrize("path", ["relative.db", "/srv/../etc/x", "/srv/a\0b", "", "/"])
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        SqliteDatabase(path=Path(path))


@pytest.mark.fault("A10", "D14")
@pytest.mark.parametrize("options", [RestoreOptions(), OVERWRITE])
def test_links_directories_and_fifos_are_never_restored_over(
    shop: Path, tmp_path: Path, options: RestoreOptions
) -> None:
    content = take(SqliteDatabase(path=shop), tmp_path)
    before = shop.read_bytes()
    (tmp_path / "link").symlink_to(shop)
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "sided-wal").symlink_to(shop)
    for name in ("link", "dangling", "directory", "fifo", "sided"):
        target = SqliteDatabase(path=tmp_path / name)
        with pytest.raises(RestoreRefused):
            target.check_target(options)
        with pytest.raises(RestoreRefused):
            target.restore(content, options)
    assert shop.read_bytes() == before
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.fault("A10")
@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_database_that_an_app_has_open_is_not_replaced(shop: Path, tmp_path: Path, mode: str) -> None:
    content = take(SqliteDatabase(path=shop), tmp_path)
    with closing(sqlite3.connect(shop)) as app:
        app.execute(f"PRAGMA journal_mode = {mode}")
        app.execute("SELECT count(*) FROM orders").fetchone()
        with pytest.raises(RestoreRefused, match="in use"):
            SqliteDatabase(path=shop).check_target(OVERWRITE)
        with pytest.raises(RestoreRefused, match="in use"):
            SqliteDatabase(path=shop).restore(content, OVERWRITE)


@pytest.mark.law(8)
def test_the_log_of_the_replaced_database_does_not_get_into_the_new(shop: Path, tmp_path: Path) -> None:
    run(shop, "PRAGMA journal_mode = WAL")
    content = take(SqliteDatabase(path=shop), tmp_path)
    wanted = rows(shop)
    leave_a_log(shop, "INSERT INTO orders SELECT NULL, 'x' FROM orders")
    assert shop.with_name("shop.db-wal").stat().st_size > 0
    SqliteDatabase(path=shop).restore(content, OVERWRITE)
    assert [path.name for path in tmp_path.glob("shop.db-*")] == []
    assert rows(shop) == wanted
    with closing(sqlite3.connect(shop)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def leave_a_log(path: Path, sql: str) -> None:
    """Have a process change the database in WAL mode and die before it could tidy up."""
    code = "import sqlite3, sys, os; d = sqlite3.connect(sys.argv[1]); d.execute(sys.argv[2]); d.commit(); os._exit(0)"
    subprocess.run([sys.executable, "-c", code, path, sql], check=True)


def test_a_damaged_database_can_be_replaced(shop: Path, tmp_path: Path) -> None:
    content = take(SqliteDatabase(path=shop), tmp_path)
    wanted = rows(shop)
    shop.write_bytes(b"this was a database once" * 500)
    os.chmod(shop, 0o640)
    SqliteDatabase(path=shop).restore(content, OVERWRITE)
    assert rows(shop) == wanted
    assert shop.stat().st_mode & 0o777 == 0o640


def test_a_restored_file_is_private(shop: Path, tmp_path: Path) -> None:
    target = SqliteDatabase(path=tmp_path / "restored.db")
    target.restore(take(SqliteDatabase(path=shop), tmp_path), RestoreOptions())
    assert target.path.stat().st_mode & 0o777 == 0o600
    assert target.path.stat().st_nlink == 1


@pytest.mark.fault("A13")
def test_what_a_hostile_schema_would_run_is_not_run(shop: Path, tmp_path: Path) -> None:
    run(
        shop,
        "CREATE VIEW bad AS SELECT load_extension('/tmp/evil'), writefile('/tmp/pwned', 'x');"
        "CREATE TRIGGER t AFTER INSERT ON orders BEGIN SELECT load_extension('/tmp/evil'); END;",
    )
    target = SqliteDatabase(path=tmp_path / "restored.db")
    target.restore(take(SqliteDatabase(path=shop), tmp_path), RestoreOptions())
    assert rows(target.path) == rows(shop)


@pytest.mark.fault("A06", "A13")
@pytest.mark.parametrize("how", ["flipped", "cut", "another"])
def test_a_file_that_is_not_that_of_its_record_is_not_restored(shop: Path, tmp_path: Path, how: str) -> None:
    source = SqliteDatabase(path=shop)
    with source.dump() as dump:
        data = drain(dump.stream)
    other = tmp_path / "other.db"
    run(other, "CREATE TABLE orders (id); INSERT INTO orders VALUES (1)")
    bad = {
        "flipped": data[: 4096 * 20] + b"\xa5" * 4096 + data[4096 * 21 :],
        "cut": data[: len(data) // 2],
        "another": other.read_bytes(),
    }[how]
    before = rows(shop)
    with pytest.raises(Corrupt):
        source.restore(content_of(source, dump, bad, tmp_path), OVERWRITE)
    with pytest.raises(Corrupt):
        SqliteDatabase(path=tmp_path / "new.db").restore(content_of(source, dump, bad, tmp_path), RestoreOptions())
    assert rows(shop) == before
    assert sorted(os.listdir(tmp_path)) == ["other.db", "shop.db", "work"]


@pytest.mark.fault("F03", "F07")
def test_a_full_disk_leaves_the_target_untouched(shop: Path, tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    dump.write_bytes(dumped(shop))
    before = rows(shop)
    done = subprocess.run([sys.executable, "-c", RESTORE_WITH_SMALL_FILES, shop, dump], capture_output=True, text=True)
    assert "RestoreRefused" in done.stdout, done.stderr
    assert rows(shop) == before
    assert sorted(os.listdir(tmp_path)) == ["dump", "shop.db", "work"]


COMMON = """
import resource, signal, sys
from pathlib import Path
from blocks.sources.base import Dump, RestoreOptions
from blocks.sources.sqlite import SqliteDatabase
from tests.contract.source import content_of
path, dump = map(Path, sys.argv[1:3])
source = SqliteDatabase(path=path)
data = dump.read_bytes()
content = content_of(source, Dump(None, "sqlite", "SQLite 3", "cat"), data, path.parent)
"""
RESTORE_WITH_SMALL_FILES = (
    COMMON
    + """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    source.restore(content, RestoreOptions(overwrite=True))
except Exception as error:
    print(type(error).__name__)
"""
)
RESTORE = COMMON + "source.restore(content, RestoreOptions(overwrite=True))"


@pytest.mark.fault("K12")
@pytest.mark.parametrize(("point", "is_new"), [("restore:before-swap", False), ("restore:after-swap", True)])
def test_a_restore_that_is_killed_leaves_the_old_or_the_new(
    shop: Path, tmp_path: Path, point: str, is_new: bool
) -> None:
    dump = tmp_path / "dump"
    dump.write_bytes(dumped(shop))
    dumped_rows = rows(shop)
    run(shop, "DELETE FROM orders WHERE id > 10")
    live_rows = rows(shop)
    kill_at(point, [sys.executable, "-c", RESTORE, str(shop), str(dump)])
    assert rows(shop) == (dumped_rows if is_new else live_rows)
    again = subprocess.run([sys.executable, "-c", RESTORE, shop, dump], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert rows(shop) == dumped_rows
    assert sorted(os.listdir(tmp_path)) == ["dump", "shop.db", "work"]


def kill_at(point: str, argv: list[str]) -> None:
    """Run *argv* until it stops itself at *point*, and kill it there."""
    process = subprocess.Popen(argv, env={**os.environ, "BACKUPS_STOP_AT": point})
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), status
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_only_the_restore_that_lives_keeps_its_new_file(shop: Path, tmp_path: Path) -> None:
    content = take(SqliteDatabase(path=shop), tmp_path)
    target = SqliteDatabase(path=tmp_path / "to" / "restored.db")
    target.path.parent.mkdir()
    target.restore(content, RestoreOptions())
    assert os.listdir(target.path.parent) == ["restored.db"]
    shutil.rmtree(target.path.parent)
