"""What a database of MySQL or MariaDB holds: its objects, who they need, and what the account may see of them."""

# ruff: noqa: S608  # names in SQL pass through identifier()
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from blocks.sources.mysql_client import Access, identifier
from blocks.sources.mysql_tools import MARIADB, Server
from vault.errors import SourceError, SourceUnavailable

VERSIONED = "SYSTEM VERSIONED"
_CODE = ("views", "routines", "triggers", "events")

# Every name is compared byte by byte: on most systems `Shop` and `shop` are two databases (N06).
_HERE = "{column} = DATABASE() AND CAST({column} AS BINARY) = CAST(DATABASE() AS BINARY)"


def _in(column: str) -> str:
    return _HERE.format(column=column)


_CONTENT = f"""
    SELECT 'database', schema_name, default_character_set_name, default_collation_name
        FROM information_schema.schemata WHERE {_in("schema_name")};
    SELECT 'table', t.table_name, t.table_type, IFNULL(t.engine, ''), IFNULL(t.table_rows, 0),
        IFNULL(t.data_length + t.index_length, 0), IFNULL(e.transactions, '')
        FROM information_schema.tables t LEFT JOIN information_schema.engines e ON e.engine = t.engine
        WHERE {_in("t.table_schema")};
    SELECT 'views', table_name, definer, 'VIEW' FROM information_schema.views WHERE {_in("table_schema")};
    SELECT 'routines', routine_name, definer, routine_type
        FROM information_schema.routines WHERE {_in("routine_schema")};
    SELECT 'triggers', trigger_name, definer, 'TRIGGER'
        FROM information_schema.triggers WHERE {_in("trigger_schema")};
    SELECT 'events', event_name, definer, 'EVENT' FROM information_schema.events WHERE {_in("event_schema")};
"""


@dataclass(frozen=True)
class Table:
    """A table that holds rows; ``estimate`` is the server's."""

    name: str
    type: str
    engine: str
    estimate: int
    size: int
    transactional: bool

    @property
    def quoted(self) -> str:
        """Its name as an SQL identifier."""
        return identifier(self.name)


@dataclass(frozen=True)
class Code:
    """A view, a routine, a trigger or an event; ``type`` is the word that drops it."""

    type: str
    name: str
    definer: str


@dataclass(frozen=True)
class Inventory:
    """The objects of one database; ``code`` by its kind."""

    name: str
    charset: str
    collation: str
    tables: tuple[Table, ...]
    sequences: tuple[str, ...]
    code: Mapping[str, tuple[Code, ...]]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing of a user in it."""
        return not (self.stored or any(self.code.values()))

    @property
    def stored(self) -> tuple[str, ...]:
        """What holds data: tables and sequences."""
        return (*(table.name for table in self.tables), *self.sequences)

    @property
    def counts(self) -> dict[str, JsonValue]:
        """How many objects of each kind there are."""
        found = {"tables": self.tables, "sequences": self.sequences, **self.code}
        return {kind: len(objects) for kind, objects in found.items()}

    @property
    def definers(self) -> list[str]:
        """The accounts with whose rights its code runs."""
        return sorted({one.definer for every in self.code.values() for one in every})


def take_inventory(access: Access, database: str) -> Inventory:
    """What is in *database*, as the account sees it."""
    found: dict[str, list[list[str]]] = {}
    for kind, *row in access.rows(_CONTENT, database):
        found.setdefault(kind, []).append(row)
    ((name, charset, collation),) = found["database"]
    tables = sorted(
        (_table(row) for row in found.get("table", []) if row[1] not in ("VIEW", "SEQUENCE")),
        key=lambda table: (table.size, table.name),
    )
    sequences = sorted(row[0] for row in found.get("table", []) if row[1] == "SEQUENCE")
    code = {
        kind: tuple(Code(type, name, definer) for name, definer, type in sorted(found.get(kind, []))) for kind in _CODE
    }
    return Inventory(name, charset, collation, tuple(tables), tuple(sequences), code)


def _table(row: list[str]) -> Table:
    name, type, engine, estimate, size, transactions = row
    return Table(name, type, engine, int(estimate), int(size), transactions == "YES")


def describe(inventory: Inventory, rows: Mapping[str, int]) -> dict[str, JsonValue]:
    """The facts of a record: exact *rows* where the dump showed them, estimates elsewhere."""
    exact = {table.name: rows[table.name] for table in inventory.tables if table.name in rows}
    engines = sorted({table.engine for table in inventory.tables if table.engine})
    return {
        **inventory.counts,
        "rows": dict(sorted(exact.items())),
        "estimated_rows": {t.name: t.estimate for t in inventory.tables if t.name not in exact},
        "engines": [*engines],
        "definers": [*inventory.definers],
        "database": {"name": inventory.name, "charset": inventory.charset, "collation": inventory.collation},
        "database_bytes": sum(table.size for table in inventory.tables),
    }


def count_rows(access: Access, inventory: Inventory, wanted: Iterable[str]) -> dict[str, int]:
    """The rows of those tables whose names are *wanted*; of a versioned table also the past ones."""
    names = set(wanted)
    tables = [table for table in inventory.tables if table.name in names]
    if not tables:
        return {}
    queries = (
        f"SELECT COUNT(*) FROM {t.quoted}{' FOR SYSTEM_TIME ALL' if t.type == VERSIONED else ''};" for t in tables
    )
    counted = access.rows("\n".join(queries), inventory.name)
    return {table.name: int(row[0]) for table, row in zip(tables, counted, strict=True)}


def accounts(access: Access) -> set[str] | None:
    """Every account and role as definers are named; None where ours may not know."""
    try:
        found = access.rows("SELECT CONCAT(user, '@', host), user FROM mysql.user;")
    except SourceUnavailable:
        raise
    except SourceError:
        return None
    return {account for account, _ in found} | {account.removesuffix("@") for account, _ in found}


@dataclass(frozen=True)
class Rights:
    """What an account was granted, in the server's words."""

    grants: tuple[str, ...]

    def has(self, privilege: str, database: str) -> bool:
        """Whether *privilege* (or all) was granted on *database* or everywhere."""
        return any(self._covers(grant, privilege, database) for grant in self.grants)

    @staticmethod
    def _covers(grant: str, privilege: str, database: str) -> bool:
        match = re.match(r"GRANT (.*?) ON (?:(\*)|`((?:[^`]|``)*)`)\.\* TO ", grant)
        if match is None:
            return False
        granted = {part.strip().upper() for part in match[1].split(",")}
        if not granted & {privilege, "ALL PRIVILEGES", "ALL"}:
            return False
        return match[2] is not None or _like(match[3].replace("``", "`"), database)


def rights(access: Access, server: Server) -> Rights:
    """Those of our account, and of the roles that it has by default."""
    role = "NONE"
    if server.flavour != MARIADB and server.version >= (8, 0, 0):  # MariaDB shows those of the role without asking
        role = access.value("SELECT CURRENT_ROLE();")
    using = f" FOR CURRENT_USER() USING {role}" if role not in ("NONE", "NULL", "") else ""
    return Rights(tuple(row[0] for row in access.rows(f"SHOW GRANTS{using};")))


def _like(pattern: str, name: str) -> bool:
    """Whether *name* is one that the pattern of a grant means: ``%`` and ``_`` stand for others unless escaped."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    regex = "".join({"%": ".*", "_": "."}.get(part, re.escape(part[-1])) for part in parts)
    return re.fullmatch(regex, name, re.DOTALL) is not None
