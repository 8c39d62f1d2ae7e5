"""MySQL and MariaDB: accounts, and restores that replace, fail, are cut or killed, on a real MariaDB."""

# the SQL of tests is made of their own names
from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

import pytest
from pydantic import SecretStr

from blocks.sources import mysql_restore, mysql_swap
from blocks.sources.base import Content, Dump, RestoreOptions
from blocks.sources.mysql import MySQLDatabase
from blocks.sources.mysql_facts import Rights
from tests.contract.source import (
    content_of,
    drain,
    take,
)
from tests.peers.mariadb import PASSWORD, MariaDBServer
from tests.sources.mysql import OVERWRITE, all_of, database, door, ours, shop
from vault.errors import (
    Corrupt,
    RestoreRefused,
    SourceError,
    SourceUnavailable,
    SpoolError,
)

__all__ = ["database", "shop"]


# Accounts


@pytest.fixture
def clerk(mariadb_server: MariaDBServer) -> Iterator[str]:
    """An account without any rights but to log in."""
    mariadb_server.sql("CREATE USER clerk@'%' IDENTIFIED BY 'pw'")
    yield "clerk"
    mariadb_server.sql("DROP USER clerk@'%'")


def as_clerk(server: MariaDBServer, name: str) -> MySQLDatabase:
    return door(server, name, username="clerk", password=SecretStr("pw"))


def test_an_account_that_would_not_be_shown_triggers_may_not_dump(
    database: MySQLDatabase, mariadb_server: MariaDBServer, clerk: str
) -> None:
    name = database.database
    mariadb_server.sql(f"GRANT SELECT, SHOW VIEW, EVENT, LOCK TABLES ON `{name}`.* TO clerk@'%'")
    source = as_clerk(mariadb_server, name)
    for act in (source.check, lambda: source.dump().__enter__()):
        with pytest.raises(SourceError, match=r"may not see the triggers(.|\n)*GRANT SELECT"):
            act()
    mariadb_server.sql(f"GRANT TRIGGER ON `{name}`.* TO clerk@'%'")
    with source.dump() as dump:
        assert b"TRIGGER counted" in drain(dump.stream)
    assert dump.facts["triggers"] == 1
    assert [w for w in dump.warnings if "may not see routines" in w]
    mariadb_server.sql("GRANT SELECT ON mysql.* TO clerk@'%'")
    with source.dump() as dump:
        assert b"FUNCTION `hello`" in drain(dump.stream)
    assert dump.warnings == []


@pytest.mark.parametrize(
    ("grant", "covers"),
    [
        ("GRANT ALL PRIVILEGES ON *.* TO `x`@`%`", True),
        ("GRANT SELECT, TRIGGER ON *.* TO `x`@`%` WITH GRANT OPTION", True),
        ("GRANT TRIGGER ON `shop\\_1`.* TO `x`@`%`", True),
        ("GRANT TRIGGER ON `sho%`.* TO `x`@`%`", True),
        ("GRANT TRIGGER ON `shop_`.* TO `x`@`%`", False),
        ("GRANT TRIGGER ON `shop`.* TO `x`@`%`", False),
        ("GRANT TRIGGER ON `shop_1`.`orders` TO `x`@`%`", False),
        ("GRANT SELECT ON *.* TO `x`@`%`", False),
        ("GRANT USAGE ON *.* TO `TRIGGER`@`%` IDENTIFIED BY PASSWORD '*0'", False),
        ("GRANT `role` TO `x`@`%`", False),
    ],
)
def test_what_a_grant_covers(grant: str, covers: bool) -> None:
    assert Rights((grant,)).has("TRIGGER", "shop_1") is covers


def test_who_may_make_only_databases_beside_the_own_one_can_restore(
    database: MySQLDatabase, mariadb_server: MariaDBServer, clerk: str, tmp_path: Path
) -> None:
    mariadb_server.sql(
        "DROP VIEW paid; DROP FUNCTION hello; DROP TRIGGER counted; DROP EVENT cleaning", database.database
    )
    content = take(database, tmp_path)
    with mariadb_server.database() as name:
        target = as_clerk(mariadb_server, name)
        mariadb_server.sql(f"GRANT ALL ON `{name}`.* TO clerk@'%'")
        with pytest.raises(RestoreRefused, match="may not make databases beside") as caught:
            target.check_target(RestoreOptions())
        (pattern,) = re.findall(r"`([^`]*%)`", caught.value.remedy)
        mariadb_server.sql(f"GRANT ALL ON `{pattern}`.* TO clerk@'%'")
        target.restore(content, RestoreOptions())
        assert mariadb_server.rows(name) == mariadb_server.rows(database.database)
        assert ours(mariadb_server, name) == [name]


def test_definers_that_are_missing_are_named_before_anything_is_touched(
    mariadb_server: MariaDBServer, tmp_path: Path
) -> None:
    script = """CREATE TABLE t AS SELECT 1 AS n; CREATE USER `odd owner`@`%.example`;
        CREATE DEFINER=`odd owner`@`%.example` VIEW v AS SELECT * FROM t"""
    accounts = "SELECT CONCAT(user, '@', host) FROM mysql.user WHERE user = 'odd owner'"
    with mariadb_server.database(script) as name:
        source = door(mariadb_server, name)
        content = take(source, tmp_path)
        assert content.artifact.facts["definers"] == ["odd owner@%.example"]
        mariadb_server.sql("DROP USER `odd owner`@`%.example`")
        # One that was missing when it was dumped is no reason to refuse; the record has told it.
        again = take(source, tmp_path)
        assert [w for w in again.artifact.warnings if "do not exist: odd owner@%.example" in w]
        source.restore(again, OVERWRITE)
        mariadb_server.drop(name)
        with pytest.raises(RestoreRefused, match=r"do not exist here: odd owner@%\.example"):
            source.restore(content, RestoreOptions())
        assert ours(mariadb_server, name) == []
        broken = content_of(source, Dump(None, "sql", "mariadb-dump 10", ""), b"CREATE NONSENSE;", tmp_path)
        object.__setattr__(broken.artifact, "facts", content.artifact.facts)
        with pytest.raises(RestoreRefused):
            source.restore(broken, RestoreOptions(create_roles=True))
        assert mariadb_server.sql(accounts) == ""
        source.restore(content, RestoreOptions(create_roles=True))
        assert mariadb_server.sql(accounts) == "odd owner@%.example"
        mariadb_server.sql("DROP USER `odd owner`@`%.example`")


# Restore


@pytest.mark.law(8)
def test_an_empty_database_is_used_and_keeps_what_is_its_own(
    database: MySQLDatabase, mariadb_server: MariaDBServer, tmp_path: Path
) -> None:
    content = take(database, tmp_path)
    with mariadb_server.database(options="CHARACTER SET latin2 COLLATE latin2_bin") as name:
        facts = door(mariadb_server, name).restore(content, RestoreOptions())
        assert facts["notes"] == []
        assert facts["database"] == {"name": name, "charset": "latin2", "collation": "latin2_bin"}
        assert "latin2_bin" in mariadb_server.sql(f"SHOW CREATE DATABASE {name}")
        assert mariadb_server.rows(name) == mariadb_server.rows(database.database)


def test_a_new_database_gets_the_character_set_of_the_dumped(
    database: MySQLDatabase, mariadb_server: MariaDBServer, tmp_path: Path
) -> None:
    name = database.database
    mariadb_server.sql(f"ALTER DATABASE {name} CHARACTER SET latin2 COLLATE latin2_bin")
    content = take(database, tmp_path)
    before = all_of(mariadb_server, name)
    mariadb_server.drop(name)
    database.restore(content, RestoreOptions())
    assert "latin2_bin" in mariadb_server.sql(f"SHOW CREATE DATABASE {name}")
    assert all_of(mariadb_server, name) == before


FILL = "CREATE TABLE precious AS SELECT 1 AS n"
FILLED = {"precious": ["1"]}


def filling(content: Content, server: MariaDBServer, name: str) -> Content:
    """*content* during whose staging somebody fills the database *name*."""

    def opened() -> AbstractContextManager[BinaryIO]:
        server.sql(FILL, name)
        return content.open()

    return replace(content, open=opened)


@pytest.mark.law(8)
@pytest.mark.fault("A10")
def test_an_empty_database_that_is_filled_during_the_restore_is_left(
    database: MySQLDatabase, mariadb_server: MariaDBServer, tmp_path: Path
) -> None:
    content = take(database, tmp_path)
    with mariadb_server.database() as name:
        target = door(mariadb_server, name)
        with pytest.raises(RestoreRefused, match=f"'{name}' is not empty(.|\n)*--overwrite"):
            target.restore(filling(content, mariadb_server, name), RestoreOptions())
        assert mariadb_server.rows(name) == FILLED
        assert ours(mariadb_server, name) == [name]


@pytest.mark.fault("A10")
@pytest.mark.parametrize("name", ["mysql", "MySQL", "information_schema", "sys"])
def test_the_servers_own_databases_are_never_restored_over(
    shop: MySQLDatabase, mariadb_server: MariaDBServer, tmp_path: Path, name: str
) -> None:
    with pytest.raises(RestoreRefused, match="own database"):
        door(mariadb_server, name).restore(take(shop, tmp_path), OVERWRITE)


@pytest.mark.fault("A10")
def test_tables_that_others_refer_to_are_not_replaced(
    database: MySQLDatabase, mariadb_server: MariaDBServer, tmp_path: Path
) -> None:
    content = take(database, tmp_path)
    name = database.database
    refers = f"CREATE TABLE r (o bigint unsigned, FOREIGN KEY (o) REFERENCES `{name}`.orders (id))"
    with mariadb_server.database(refers) as other:
        with pytest.raises(RestoreRefused, match=rf"refer to '{name}'.*{other}\.r"):
            database.check_target(OVERWRITE)
        mariadb_server.sql("DROP TABLE r", other)
    database.restore(content, OVERWRITE)


@pytest.mark.fault("A06")
@pytest.mark.parametrize(("fact", "value"), [("rows", {"empty": 1}), ("views", 2), ("triggers", 0), ("tables", 9)])
def test_a_dump_with_other_content_than_its_record_is_not_restored(
    database: MySQLDatabase, mariadb_server: MariaDBServer, tmp_path: Path, fact: str, value: object
) -> None:
    content = take(database, tmp_path)
    object.__setattr__(content.artifact, "facts", {**content.artifact.facts, fact: value})
    before = all_of(mariadb_server, database.database)
    with pytest.raises(Corrupt, match="is not what its record says"):
        database.restore(content, OVERWRITE)
    assert all_of(mariadb_server, database.database) == before
    assert ours(mariadb_server, database.database) == [database.database]


@pytest.mark.fault("F03", "A14")
def test_a_restore_that_fails_half_way_leaves_the_live_database(
    database: MySQLDatabase, mariadb_server: MariaDBServer, tmp_path: Path
) -> None:
    with database.dump() as dump:
        data = drain(dump.stream)
    before = all_of(mariadb_server, database.database)
    for bad in (
        data.replace(b"bigint(20)", b"bigint(2000)", 1),
        data[: len(data) // 2],
        data.replace(b"VIEW `paid` AS", b"VIEW `paid` AS x", 2),
    ):
        assert bad != data
        with pytest.raises((SourceError, RestoreRefused)):
            database.restore(content_of(database, dump, bad, tmp_path), OVERWRITE)
        assert all_of(mariadb_server, database.database) == before
        assert ours(mariadb_server, database.database) == [database.database]


@pytest.mark.fault("F03")
def test_a_full_disk_leaves_the_live_database(
    database: MySQLDatabase, mariadb_server: MariaDBServer, tmp_path: Path
) -> None:
    content = take(database, tmp_path)
    before = all_of(mariadb_server, database.database)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", content.work], check=True)
    try:
        with pytest.raises(SpoolError, match="No space left"):
            database.restore(content, OVERWRITE)
        assert os.listdir(content.work) == []
    finally:
        subprocess.run(["umount", content.work], check=True)
    assert all_of(mariadb_server, database.database) == before


@pytest.mark.fault("K12")
def test_a_swap_that_fails_after_the_rename_is_taken_back(
    database: MySQLDatabase, mariadb_server: MariaDBServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = take(database, tmp_path)
    name = database.database
    mariadb_server.sql("DELETE FROM items; CREATE VIEW other AS SELECT 1; DROP EVENT cleaning", name)
    before = all_of(mariadb_server, name)
    monkeypatch.setattr(mysql_swap, "_sequence_defaults", lambda target, new: ["CREATE NONSENSE;\n"])
    with pytest.raises(SourceError, match=r"NONSENSE(.|\n)*was not touched"):
        database.restore(content, OVERWRITE)
    assert all_of(mariadb_server, name) == before
    assert ours(mariadb_server, name) == [name]
    mariadb_server.drop(name)
    with pytest.raises(SourceError, match="NONSENSE"):
        database.restore(content, RestoreOptions())
    assert ours(mariadb_server, name) == []


@pytest.mark.fault("S22")
@pytest.mark.parametrize(
    ("tool", "hint"),
    [
        ("mysqldump 8.0.36, MySQL 8.0.36", "The backup is of MySQL 8.0.36, and this server is MariaDB "),
        ("mariadb-dump 99.1.0, MariaDB 99.1.0", "The backup is of MariaDB 99.1.0, and this server is MariaDB "),
        ("mariadb-dump 10.3.1, MariaDB 10.3.1", ""),
    ],
)
def test_what_a_server_does_not_know_since_it_is_older_or_of_another_kind_is_told_as_that(
    shop: MySQLDatabase, mariadb_server: MariaDBServer, tmp_path: Path, tool: str, hint: str
) -> None:
    """Only one version can be had for tests: the record says of another, and names a collation that is MySQL's."""
    content = take(shop, tmp_path)
    named = {**content.artifact.facts["database"], "collation": "utf8mb4_0900_ai_ci"}
    facts = {**content.artifact.facts, "database": named}
    artifact = content.artifact.model_copy(update={"tool": tool, "facts": facts})
    target = shop.model_copy(update={"database": f"shop_{token_hex(4)}"})
    with pytest.raises(SourceError, match="Unknown collation") as caught:
        target.restore(replace(content, artifact=artifact), RestoreOptions())
    assert ("The backup is of" in caught.value.remedy) == bool(hint)
    assert hint in caught.value.remedy
    assert ours(mariadb_server, target.database) == []


@pytest.mark.fault("K12")
@pytest.mark.parametrize("cut", ["RENAME", "CREATE DEFINER", "DELETE FROM"])
def test_a_swap_that_is_cut_anywhere_is_taken_back_by_the_next_restore(
    database: MySQLDatabase, mariadb_server: MariaDBServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    content = take(database, tmp_path)
    name = database.database
    dumped = all_of(mariadb_server, name)
    mariadb_server.sql("DELETE FROM items; CREATE VIEW other AS SELECT 1", name)
    before = all_of(mariadb_server, name)
    real = mysql_swap._steps

    def half(*args: object) -> list[bytes]:
        script = b"".join(real(*args))
        at = re.search(rb"\n[^\n]*" + cut.encode() + rb"[^\n]{9}", script, re.IGNORECASE)
        return [script[: at.end()]]  # and the client runs what it has

    with monkeypatch.context() as patch:
        patch.setattr(mysql_swap, "_steps", half)
        patch.setattr(mysql_swap, "_undo_after", lambda *args: None)
        patch.setattr(mysql_restore, "drop", lambda *args: None)
        with pytest.raises((SourceError, Corrupt)):
            database.restore(content, OVERWRITE)
    assert len(ours(mariadb_server, name)) == 3
    with pytest.raises(
        RestoreRefused, match="not made by"
    ):  # any restore will do, even one that has nothing to restore
        database.restore(content_of(database, Dump(None, "sqlite", "SQLite 3", ""), b"x", tmp_path), OVERWRITE)
    assert len(ours(mariadb_server, name)) == 3
    broken = content_of(database, Dump(None, "sql", "mariadb-dump 10", ""), b"CREATE NONSENSE;", tmp_path)
    with pytest.raises(RestoreRefused, match="NONSENSE"):
        database.restore(broken, OVERWRITE)
    assert all_of(mariadb_server, name) == before
    assert ours(mariadb_server, name) == [name]
    database.restore(content, OVERWRITE)
    assert all_of(mariadb_server, name) == dumped


RESTORE = """
import sys, pickle
from pathlib import Path
from secrets import token_hex
from pydantic import SecretStr
from blocks.sources.base import Dump, RestoreOptions
from blocks.sources.mysql import MySQLDatabase
from tests.contract.source import content_of
work, port, name, password = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
source = MySQLDatabase(host="127.0.0.1", port=port, username="admin", database=name, password=SecretStr(password))
data = (work / "dump").read_bytes()
content = content_of(source, Dump(None, "sql", "mariadb-dump 10", "x"), data, work)
source.restore(content, RestoreOptions(overwrite=True))
"""


def wait_until_unlocked(server: MariaDBServer) -> None:
    while server.sql("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'admin'") != "1":
        pass


@pytest.mark.fault("K12")
@pytest.mark.parametrize(("point", "is_new"), [("restore:before-swap", False), ("restore:after-swap", True)])
def test_a_restore_that_is_killed_leaves_the_old_or_the_new(
    database: MySQLDatabase, mariadb_server: MariaDBServer, tmp_path: Path, point: str, is_new: bool
) -> None:
    name = database.database
    with database.dump() as dump:
        (tmp_path / "dump").write_bytes(drain(dump.stream))
    dumped = all_of(mariadb_server, name)
    mariadb_server.sql("DELETE FROM items", name)
    live = all_of(mariadb_server, name)
    argv = [sys.executable, "-c", RESTORE, str(tmp_path), str(mariadb_server.port), name, PASSWORD]
    process = subprocess.Popen(argv, env={**os.environ, "BACKUPS_STOP_AT": point})
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), status
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert all_of(mariadb_server, name) == (dumped if is_new else live)
    assert len(ours(mariadb_server, name)) > 1
    wait_until_unlocked(mariadb_server)
    assert subprocess.run(argv).returncode == 0
    assert all_of(mariadb_server, name) == dumped
    assert ours(mariadb_server, name) == [name]


def test_two_restores_of_one_database_do_not_run_at_once(
    database: MySQLDatabase, mariadb_server: MariaDBServer, tmp_path: Path
) -> None:
    name = database.database
    with database.dump() as dump:
        (tmp_path / "dump").write_bytes(drain(dump.stream))
    argv = [sys.executable, "-c", RESTORE, str(tmp_path), str(mariadb_server.port), name, PASSWORD]
    process = subprocess.Popen(argv, env={**os.environ, "BACKUPS_STOP_AT": "restore:before-swap"})
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), status
    (tmp_path / "second").mkdir()
    with pytest.raises(RestoreRefused, match=r"another restore(.|\n)*ClientAliveInterval"):
        database.restore(take(database, tmp_path / "second"), OVERWRITE)
    process.send_signal(signal.SIGCONT)
    assert process.wait() == 0
    assert ours(mariadb_server, name) == [name]


def test_a_table_in_use_stops_the_swap_and_nothing_else(
    database: MySQLDatabase, mariadb_server: MariaDBServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = take(database, tmp_path)
    name = database.database
    before = all_of(mariadb_server, name)
    monkeypatch.setattr(mysql_swap, "_PATIENCE", 1)
    argv = ["mariadb", "--no-defaults", "-BNn", f"-S{mariadb_server.socket}", "-uadmin", name]
    env = {"PATH": os.environ["PATH"], "MYSQL_PWD": PASSWORD}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, bufsize=0) as client:
        client.stdin.write(b"START TRANSACTION; SELECT COUNT(*) FROM orders;\n")
        assert client.stdout.readline() == b"9000\n"
        with pytest.raises(SourceUnavailable, match="1205"):
            database.restore(content, OVERWRITE)
        client.stdin.close()
    assert all_of(mariadb_server, name) == before
    assert ours(mariadb_server, name) == [name]
    database.restore(content, OVERWRITE)


def test_no_event_runs_where_a_dump_is_only_tried(mariadb_server: MariaDBServer, tmp_path: Path) -> None:
    script = """CREATE TABLE t (n int);
        CREATE EVENT `ON COMPLETION PRESERVE ENABLE` ON SCHEDULE EVERY 1 DAY COMMENT 'ENABLE' DO SET @a = 'ENABLE';
        CREATE EVENT off ON SCHEDULE EVERY 1 DAY DISABLE DO SET @a = 1"""
    state = "SELECT event_name, status FROM information_schema.events WHERE event_schema = DATABASE() ORDER BY 1"
    with mariadb_server.database(script) as name:
        source = door(mariadb_server, name)
        content = take(source, tmp_path)
        with source.scratch() as scratch:
            scratch.restore(content, RestoreOptions())
            assert mariadb_server.sql(state, scratch.database).count("DISABLED") == 2
        source.restore(content, OVERWRITE)
        assert mariadb_server.sql(state, name) == "off\tDISABLED\nON COMPLETION PRESERVE ENABLE\tENABLED"


@pytest.mark.law(4)
def test_the_line_in_the_record_restores_without_us(shop: MySQLDatabase, mariadb_server: MariaDBServer) -> None:
    with shop.dump() as dump:
        data = drain(dump.stream)
    with mariadb_server.database() as name:
        line = dump.restore_with.replace("TARGET", name) + f" --socket={mariadb_server.socket} --user=admin"
        env = {"PATH": os.environ["PATH"], "MYSQL_PWD": PASSWORD}
        subprocess.run(["bash", "-c", line], input=data, env=env, check=True, stdout=subprocess.DEVNULL)
        assert all_of(mariadb_server, name) == all_of(mariadb_server, shop.database)
