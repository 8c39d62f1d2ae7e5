"""What the tests of MySQL and MariaDB share: a shop with some of everything, and all that a database holds."""

# ruff: noqa: S608  # the SQL of tests is made of their own names
from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from blocks.sources.base import RestoreOptions
from blocks.sources.mysql import MySQLDatabase
from tests.peers.mariadb import MariaDBServer

OVERWRITE = RestoreOptions(overwrite=True)
SHOP = """
    CREATE TABLE orders (id serial PRIMARY KEY, item text NOT NULL, state enum('new', 'paid') DEFAULT 'new');
    INSERT INTO orders (item) SELECT REPEAT(MD5(seq), 8) FROM seq_1_to_9000;
    CREATE TABLE items (n int, o bigint unsigned, CONSTRAINT its FOREIGN KEY (o) REFERENCES orders (id));
    INSERT INTO items VALUES (1, 1), (2, 1);
    CREATE TABLE `a ``table`` "; -- (` (`x'` text);
    INSERT INTO `a ``table`` "; -- (` VALUES ('tab\\t newline\\n back\\\\slash \\\\'' ),( ($$'), (NULL);
    CREATE TABLE empty (n int);
    CREATE VIEW paid AS SELECT * FROM orders WHERE state = 'paid';
    CREATE FUNCTION hello() RETURNS text DETERMINISTIC RETURN 'it''s; \\\\ {}';
    CREATE TRIGGER counted BEFORE INSERT ON orders FOR EACH ROW SET NEW.item = CONCAT(NEW.item, ';');
    CREATE EVENT cleaning ON SCHEDULE EVERY 1 DAY DO DELETE FROM empty;
"""


@pytest.fixture
def database(mariadb_server: MariaDBServer) -> Iterator[MySQLDatabase]:
    """A database with some of everything."""
    with mariadb_server.database(SHOP) as name:
        yield door(mariadb_server, name)
        for left in ours(mariadb_server, name):
            mariadb_server.drop(left)


@pytest.fixture(scope="module")
def shop(mariadb_server: MariaDBServer) -> Iterator[MySQLDatabase]:
    """The same, for tests that only read it."""
    with mariadb_server.database(SHOP, "shop") as name:
        yield door(mariadb_server, name)


def door(server: MariaDBServer, name: str, **fields: object) -> MySQLDatabase:
    given = {"password": SecretStr(server.password), "username": server.admin, **fields}
    return MySQLDatabase(host=server.host, port=server.port, database=name, **given)  # type: ignore[arg-type]


def ours(server: MariaDBServer, name: str) -> list[str]:
    """The database and what was made beside it."""
    return [found for found in server.databases() if found.startswith(name[:40])]


def definitions(server: MariaDBServer, name: str) -> dict[str, str]:
    """What SHOW CREATE says of every object, without what names the database itself or the moment it was made."""
    kinds = {
        "TABLE": "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
        " AND table_type NOT IN ('VIEW', 'SEQUENCE')",
        "SEQUENCE": "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
        " AND table_type = 'SEQUENCE'",
        "VIEW": "SELECT table_name FROM information_schema.views WHERE table_schema = DATABASE()",
        "TRIGGER": "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE()",
        "EVENT": "SELECT event_name FROM information_schema.events WHERE event_schema = DATABASE()",
        **{
            kind: "SELECT routine_name FROM information_schema.routines"
            f" WHERE routine_schema = DATABASE() AND routine_type = '{kind}'"
            for kind in ("FUNCTION", "PROCEDURE", "PACKAGE", "PACKAGE BODY")
        },
    }
    found = {}
    for kind, query in kinds.items():
        for one in server.sql(query, name).splitlines():
            shown = server.sql(f"SHOW CREATE {kind} `{one.replace('`', '``')}`", name).replace(f"`{name}`", "`HERE`")
            shown = shown.replace("`HERE`.", "") if kind == "TRIGGER" else shown
            found[f"{kind} {one}"] = shown.rpartition("\t")[0] if kind == "TRIGGER" else shown
    return found


def all_of(server: MariaDBServer, name: str) -> dict[str, object]:
    """Rows, and what else a dump has to bring back."""
    return {**server.rows(name), "definitions": definitions(server, name)}
