"""Scripts of mysqldump and mariadb-dump, judged before the client runs them; every kind of object, there and back."""

# the SQL of tests is made of their own names
from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from blocks.sources import mysql_script
from blocks.sources.base import RestoreOptions
from blocks.sources.mysql import MySQLDatabase
from blocks.sources.mysql_script import pieces
from tests.contract.source import content_of, drain, take
from tests.peers.mariadb import MariaDBServer
from tests.reduced import reduced
from tests.sources.mysql import OVERWRITE, all_of, database, door, ours
from vault.errors import RestoreRefused, SourceError

__all__ = ["database"]

SANDBOX = b"/*M!999999\\- enable the sandbox mode */ \n"


def judged(tmp_path: Path, text: str | bytes, name: str = "shop") -> bytes:
    """What is sent of the script *text*, a dump of the database *name*."""
    script = tmp_path / "script.sql"
    script.write_bytes(text.encode() if isinstance(text, str) else text)
    return b"".join(piece.text for piece in pieces(script, name))


EVIL = [
    "\\! touch {canary}",
    "SELECT 1 \\! touch {canary}",
    "system touch {canary}",
    "system touch {canary};",
    "source /etc/passwd",
    "\\. /etc/passwd",
    "\\T {canary}",
    "tee {canary}",
    "pager touch {canary}",
    "\\P touch {canary}",
    "\\u mysql",
    "-- x\n\\! touch {canary}",
    "-- '\n\\! touch {canary}\n-- '",
    "/* x */ \\! touch {canary}",
    "DELIMITER //\nDROP DATABASE mysql//",
    "DELIMITER ;;\nSET @a = 1; DROP DATABASE mysql ;;\nDELIMITER ;",
    "DELIMITER ;;\nCREATE PROCEDURE p() SELECT 1; DROP DATABASE mysql ;;\nDELIMITER ;",
    "USE mysql;",
    "use mysql",
    "DROP DATABASE precious;",
    "/*!50000 DROP DATABASE precious */;",
    "/*M!100000 DROP DATABASE precious */;",
    "DROP /* x */ DATABASE precious;",
    "CREATE DATABASE evil;",
    "CREATE USER evil;",
    "GRANT ALL ON *.* TO evil;",
    "SET GLOBAL general_log_file = '{canary}';",
    "SET @@GLOBAL.general_log = 1;",
    "SET PASSWORD = 'x';",
    "SET @a = 1, GLOBAL general_log = 1;",
    "SET STATEMENT max_statement_time = 1 FOR DROP DATABASE precious;",
    "INSERT INTO mysql.user VALUES (1);",
    "INSERT INTO `mysql`.`user` VALUES (1);",
    "INSERT INTO `t` VALUES (1); DROP DATABASE precious;",
    "INSERT INTO `t` VALUES ('\\'); DROP DATABASE precious; -- ');\nDROP DATABASE precious;",
    "DROP TABLE IF EXISTS `mysql`.`user`;",
    "CREATE TABLE `mysql`.`evil` (n int);",
    "ALTER TABLE `t` RENAME `mysql`.`evil`;",
    "CREATE VIEW `mysql`.`evil` AS SELECT 1;",
    "CREATE PROCEDURE `mysql`.`evil`() SELECT 1;",
    "CREATE EVENT mysql.evil ON SCHEDULE EVERY 1 DAY DO SELECT 1;",
    "LOAD DATA INFILE '/etc/passwd' INTO TABLE t;",
    "SELECT 'x' INTO OUTFILE '{canary}';",
    "PREPARE s FROM @evil;",
    "INSTALL SONAME 'evil';",
    "FLUSH PRIVILEGES;",
    "SHUTDOWN;",
]
END_TO_END = (EVIL[0], "DROP DATABASE precious;", "SET GLOBAL general_log_file = '{canary}';", "use mysql")


@pytest.mark.fault("A08", "A09")
@pytest.mark.parametrize("evil", EVIL)
def test_a_script_with_more_than_a_dump_needs_is_refused(tmp_path: Path, evil: str) -> None:
    dump = b"DROP TABLE IF EXISTS `t`;\nCREATE TABLE `t` (`n` int);\nINSERT INTO `t` VALUES (1);\n"
    assert judged(tmp_path, dump) == dump
    for script in (dump + evil.encode() + b"\n", evil.encode() + b"\n" + dump):
        with pytest.raises(RestoreRefused, match="not one of mysqldump"):
            judged(tmp_path, script)


@pytest.mark.law(8)
@pytest.mark.fault("A08", "A09")
@pytest.mark.parametrize("evil", reduced(EVIL, *END_TO_END))
def test_such_a_script_changes_nothing_anywhere(
    database: MySQLDatabase, mariadb_server: MariaDBServer, tmp_path: Path, evil: str
) -> None:
    canary = tmp_path / "canary"
    with database.dump() as dump:
        data = drain(dump.stream)
    bad = evil.replace("{canary}", str(canary)).encode()
    with mariadb_server.database("CREATE TABLE t (n int)", "precious"):
        before = all_of(mariadb_server, database.database)
        for script in (data + b"\n" + bad + b"\n", bad + b"\n" + data):
            with pytest.raises(RestoreRefused, match="not one of mysqldump"):
                database.restore(content_of(database, dump, script, tmp_path), OVERWRITE)
        assert not canary.exists()
        assert all_of(mariadb_server, database.database) == before
        assert ours(mariadb_server, database.database) == [database.database]
        assert "precious" in mariadb_server.databases()


@pytest.mark.fault("A08")
def test_the_client_obeys_no_commands_even_where_a_script_got_through(
    database: MySQLDatabase, mariadb_server: MariaDBServer, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    for evil in (f"\\! touch {canary}", f"system touch {canary}", f"tee {canary}", f"source {canary}"):
        with database._endpoint().open() as access, pytest.raises(SourceError, match="ERROR"):
            access.rows(f"{evil}\n;", database.database)
    assert not canary.exists()


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'no end",
        "CREATE TABLE `no end",
        "/* no end",
        "DROP TABLE IF EXISTS `t`",
        "INSERT INTO `t` VALUES (1),(2",
        "INSERT INTO `t` VALUES ('a\\');",
        "DELIMITER ;;\nCREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET @a = 1;\n",
    ],
)
@pytest.mark.fault("A08")
def test_a_script_that_is_cut_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RestoreRefused):
        judged(tmp_path, text)


def test_an_endless_statement_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql_script, "_LONGEST_STATEMENT", 1000)
    with pytest.raises(RestoreRefused, match="endless"):
        judged(tmp_path, "CREATE TABLE `t` (" + "`c` int," * 1000)


@pytest.mark.parametrize(
    "text",
    [
        "SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO,GLOBAL';",
        "/*!40101 SET character_set_client = @saved_cs_client */;",
        "/*!50606 SET @OLD_INNODB_STATS_AUTO_RECALC=@@INNODB_STATS_AUTO_RECALC */;",
        "/*M!100616 SET @OLD_NOTE_VERBOSITY=@@NOTE_VERBOSITY, NOTE_VERBOSITY=0 */;",
        "/*!80000 SET SESSION information_schema_stats_expiry=0 */;",
        "set autocommit=0;",
        "commit;",
        "INSERT INTO `t` VALUES (1,-2.5e-10,NULL,'it\\'s; \\\\',0xFF,_binary 'x\\0');",
        "INSERT INTO `t` (`a`, `b;`) VALUES (1,''),\n(2,'\\n');",
        "INSERT INTO `t` (`x`, row_start, row_end) VALUES (1,'2026-01-01','2038-01-01');",
        "/*!40000 ALTER TABLE `t` DISABLE KEYS */;",
        "DO SETVAL(`seq`, 170, 0);",
        "CREATE TABLE `t` (\n  `a;` varchar(9) DEFAULT ';' COMMENT 'it''s \\\\ \\'x\\'; -- '\n) ENGINE=InnoDB;",
        "/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=`a`@`%` SQL SECURITY DEFINER */\n"
        "/*!50001 VIEW `v` AS select 1 AS `a;` */;",
        "DELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`a b`@`%`*/ /*!50003 TRIGGER `t` AFTER INSERT ON `t`"
        " FOR EACH ROW BEGIN -- it's; a \\ comment;;\n # another ';;\n SELECT ';;', \"\\\";;\"; END */;;\n"
        "DELIMITER ;\n",
        "DELIMITER ;;\nCREATE DEFINER=`a`@`%` PROCEDURE `p`() IF 1 THEN SELECT 1; END IF ;;\nDELIMITER ;\n",
        "DELIMITER ;;\nCREATE DEFINER=`a`@`%` PROCEDURE `p`() x: BEGIN DROP DATABASE y; END x ;;\nDELIMITER ;\n",
        "/*!50003 SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES' */ ;\nDELIMITER ;;\nCREATE FUNCTION `f`() RETURNS"
        " text RETURN '\\' ;;\nDELIMITER ;\n/*!50003 SET sql_mode = @saved */ ;\n"
        "CREATE TABLE `t` (`a` text DEFAULT '\\'');",
    ],
)
def test_what_dumps_are_made_of_is_let_through_as_it_is(tmp_path: Path, text: str) -> None:
    assert judged(tmp_path, text).split() == text.encode().split()


@pytest.mark.fault("A08")
def test_a_script_is_fitted_to_where_it_goes(tmp_path: Path) -> None:
    for text, sent in (
        (SANDBOX + b"-- a comment\nCOMMIT;", b"COMMIT;"),
        (b"ALTER DATABASE `shop` CHARACTER SET a COLLATE b ;", b"ALTER DATABASE CHARACTER SET a COLLATE b ;"),
        (b"LOCK TABLES `t` WRITE;\nUNLOCK TABLES;\nCOMMIT;", b"COMMIT;"),
        (
            b"CREATE TABLE `t` (`a` int DEFAULT nextval(`shop`.`s`), `b` int DEFAULT nextval(`other`.`s`));",
            b"CREATE TABLE `t` (`a` int DEFAULT nextval(`s`), `b` int DEFAULT nextval(`other`.`s`));",
        ),
        (
            b"CREATE VIEW `v` AS select `shop`.`t`.`n`, `shop`.`n`, `other`.`t`.`n`, '`shop`.`t`.`n`' from `shop`;",
            b"CREATE VIEW `v` AS select `t`.`n`, `shop`.`n`, `other`.`t`.`n`, '`shop`.`t`.`n`' from `shop`;",
        ),
        (
            b"CREATE DEFINER=`a`@`b` trigger shop . x before insert on `shop`.t for each row set @a = shop.f();",
            b"CREATE DEFINER=`a`@`b` trigger x before insert on t for each row set @a = shop.f();",
        ),
    ):
        assert judged(tmp_path, text).strip() == sent


# What Percona's mysqldump writes for another engine; see its documentation of MyRocks.
ROCKSDB = """
/*!50717 SELECT COUNT(*) INTO @rocksdb_has_p_s_session_variables FROM INFORMATION_SCHEMA.TABLES WHERE
 TABLE_SCHEMA = 'performance_schema' AND TABLE_NAME = 'session_variables' */;
/*!50717 SET @rocksdb_get_is_supported = IF (@rocksdb_has_p_s_session_variables, 'SELECT 1', 'SELECT 0') */;
/*!50717 PREPARE s FROM @rocksdb_get_is_supported */;
/*!50717 EXECUTE s */;
/*!50717 DEALLOCATE PREPARE s */;
"""


def test_hints_for_other_engines_are_left_out(tmp_path: Path) -> None:
    assert judged(tmp_path, ROCKSDB) == b""


def test_the_memory_stays_flat_on_a_long_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql_script, "_KEPT", 10_000)
    text = b"INSERT INTO `t` VALUES (1,'x');\n" * 5000
    assert judged(tmp_path, text) == text


@pytest.mark.fault("A08")
def test_a_dump_restores_with_the_sandbox_line_and_without(
    database: MySQLDatabase, mariadb_server: MariaDBServer, tmp_path: Path
) -> None:
    with database.dump() as dump:
        data = drain(dump.stream)
    assert data.startswith(SANDBOX)  # this tool writes it, and MySQL's client would choke on it
    before = all_of(mariadb_server, database.database)
    for script in (data, data.removeprefix(SANDBOX), data.replace(b"/*M!999999", b"/*!999999", 1)):
        database.restore(content_of(database, dump, script, tmp_path), OVERWRITE)
        assert all_of(mariadb_server, database.database) == before


# Everything that MariaDB has


OBJECTS = (Path(__file__).parent / "mariadb_objects.sql").read_text()


@pytest.mark.parametrize("charset", ["utf8mb4", "latin1"])
def test_every_kind_of_object_comes_back_as_it_was(mariadb_server: MariaDBServer, tmp_path: Path, charset: str) -> None:
    name = f"all kinds {charset}"
    with mariadb_server.database(OBJECTS.replace("THIS_DATABASE", f"`{name}`"), name, f"CHARACTER SET {charset}"):
        # Then the code was made under another collation than the database has: dumps switch it to and fro.
        mariadb_server.sql(f"ALTER DATABASE `{name}` CHARACTER SET utf8mb3")
        source = door(mariadb_server, name)
        content = take(source, tmp_path)
        before = all_of(mariadb_server, name)
        assert content.artifact.facts["estimated_rows"] == {}
        assert content.artifact.facts["rows"]["versioned"] == 3
        other = source.model_copy(update={"database": f"{name} again"})
        for target, options in ((other, RestoreOptions()), (other, OVERWRITE), (source, OVERWRITE)):
            target.restore(content, options)
            assert all_of(mariadb_server, target.database) == before
            assert ours(mariadb_server, name) == sorted({name, other.database} & set(mariadb_server.databases()))
            assert "utf8mb3" in mariadb_server.sql(f"SHOW CREATE DATABASE `{target.database}`")
        works(mariadb_server, other.database)
        assert all_of(mariadb_server, name) == before  # nothing of the one refers to the other
        mariadb_server.drop(name)
        works(mariadb_server, other.database)
        mariadb_server.drop(other.database)


def works(server: MariaDBServer, name: str) -> None:
    """What was restored does what it is for, within its own database."""
    server.sql("INSERT INTO numbered (v) VALUES (9); CALL loops(3, @b); SELECT total(id) FROM parent", name)
    assert server.sql("SET sql_mode = ORACLE; SELECT tools.one()", name) == "1"
    server.sql("INSERT INTO parent VALUES (99, 'x'); INSERT INTO child VALUES (99, 99)", name)
    assert server.sql("SELECT name FROM parent WHERE id = 99", name) == "x;"
    assert server.sql("SELECT n FROM with_function WHERE n = 100", name) == "100"
    server.sql("DELETE FROM parent WHERE id = 99", name)
    assert server.sql("SELECT id FROM a_on_view WHERE id = 99 UNION SELECT id FROM child WHERE id = 99", name) == ""


def test_what_was_restored_dumps_to_the_same_script(mariadb_server: MariaDBServer, tmp_path: Path) -> None:
    with mariadb_server.database(OBJECTS.replace("THIS_DATABASE", "`one`"), "one"):
        source = door(mariadb_server, "one")
        first = take(source, tmp_path)
        source.restore(first, OVERWRITE)
        # The name of the database in front of that of a trigger is left out: see mysql_script.
        (tmp_path / "a").write_bytes(plain(first).replace(b"TRIGGER `one`.", b"TRIGGER ").replace(b"ON `one`.", b"ON "))
        (tmp_path / "b").write_bytes(plain(take(source, tmp_path)))
    done = subprocess.run(["diff", tmp_path / "a", tmp_path / "b"], capture_output=True, text=True, errors="replace")
    assert [line for line in done.stdout.splitlines() if line[:1] in "<>" and "Dump completed" not in line] == []


def plain(content: object) -> bytes:
    with content.open() as stream:  # type: ignore[attr-defined]
        return drain(stream)
