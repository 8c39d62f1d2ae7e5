"""What a PostgreSQL database holds: its tables and rows, the roles it needs, and its own properties."""

# ruff: noqa: S608  # names in SQL pass through identifier() or literal(), or were quoted by the server
from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from blocks.sources.postgres_client import Access

EXACT_ROWS = 1_000_000
_LOCALE_PROVIDERS = {"i": "icu", "b": "builtin"}

# Objects of the system, of extensions and of other sessions are none of the user's.
_USER_CLASSES = """
    pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relpersistence <> 't'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND d.deptype = 'e')
"""
_USER_FUNCTIONS = """
    pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                      AND d.objid = p.oid AND d.deptype = 'e')
"""
_USER_TYPES = """
    pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND t.typtype IN ('d', 'e', 'r')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass
                      AND d.objid = t.oid AND d.deptype = 'e')
"""
_USER_SCHEMAS = """
    pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'public')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_namespace'::regclass
                      AND d.objid = n.oid AND d.deptype = 'e')
"""

# A table that was never analysed has no estimate: its size gives one.
_TABLES = f"""
    SELECT coalesce(json_agg(json_build_object(
        'oid', c.oid::bigint, 'name', format('%I.%I', n.nspname, c.relname),
        'estimate', CASE WHEN c.reltuples > 0 THEN c.reltuples::bigint
                         ELSE pg_relation_size(c.oid) / 64 END)), '[]')
    FROM {_USER_CLASSES} AND c.relkind = 'r'
      AND (c.relpersistence = 'p' OR NOT pg_is_in_recovery())
"""
# pg_shdepend does not name the superuser who made the cluster, so owners are looked up as well.
_ROLES = f"""
    SELECT coalesce(json_agg(DISTINCT role ORDER BY role), '[]') FROM (
        SELECT r.rolname::text FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid
            WHERE s.refclassid = 'pg_authid'::regclass
              AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        UNION SELECT pg_get_userbyid(c.relowner)::text FROM {_USER_CLASSES}
        UNION SELECT pg_get_userbyid(p.proowner)::text FROM {_USER_FUNCTIONS}
        UNION SELECT pg_get_userbyid(t.typowner)::text FROM {_USER_TYPES}
        UNION SELECT pg_get_userbyid(n.nspowner)::text FROM {_USER_SCHEMAS}
        UNION SELECT pg_get_userbyid(m.lomowner)::text FROM pg_largeobject_metadata m
    ) AS needed(role) WHERE role !~ '^pg_'
"""
_PROPERTIES = """
    SELECT json_build_object(
        'owner', pg_get_userbyid(d.datdba), 'encoding', pg_encoding_to_char(d.encoding),
        'collate', d.datcollate, 'ctype', d.datctype,
        'provider', coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),
        'locale', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
        'grants', CASE WHEN d.datacl IS NOT NULL THEN (
            SELECT coalesce(json_agg(json_build_array(
                CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END,
                a.privilege_type, a.is_grantable)), '[]') FROM aclexplode(d.datacl) a) END,
        'settings', (
            SELECT coalesce(json_agg(json_build_array(
                r.rolname, split_part(s, '=', 1), substr(s, strpos(s, '=') + 1))), '[]')
            FROM pg_db_role_setting x LEFT JOIN pg_roles r ON r.oid = x.setrole,
                 unnest(x.setconfig) s WHERE x.setdatabase = d.oid))
    FROM pg_database d WHERE d.datname = {name}
"""
CONTENT = f"""
    SELECT json_build_object(
        'tables', ({_TABLES}), 'roles', ({_ROLES}),
        'database', ({_PROPERTIES.format(name="current_database()")}),
        'extensions', (SELECT coalesce(json_object_agg(extname, extversion), '{{}}')
                       FROM pg_extension),
        'large_objects', EXISTS (SELECT FROM pg_largeobject_metadata),
        'bytes', pg_database_size(current_database()))
"""
OBJECTS = f"""
    SELECT (SELECT count(*) FROM {_USER_CLASSES}) + (SELECT count(*) FROM {_USER_FUNCTIONS})
         + (SELECT count(*) FROM {_USER_TYPES}) + (SELECT count(*) FROM {_USER_SCHEMAS})
         + (SELECT count(*) FROM pg_largeobject_metadata)
"""


@dataclass(frozen=True)
class Table:
    """A table that holds rows; ``name`` is qualified and quoted as SQL wants it."""

    oid: int
    name: str
    estimate: int


@dataclass(frozen=True)
class Properties:
    """What belongs to the database itself, and that a dump of its content does not bring back."""

    owner: str
    encoding: str
    collate: str
    ctype: str
    provider: str = "c"
    locale: str | None = None
    grants: tuple[tuple[str | None, str, bool], ...] | None = None
    settings: tuple[tuple[str | None, str, str], ...] = ()

    @classmethod
    def parse(cls, found: Mapping[str, Any]) -> Properties:
        """From what the server, or a record, says."""
        grants = found.get("grants")
        lists = {
            "grants": None if grants is None else tuple((a, b, c) for a, b, c in grants),
            "settings": tuple((a, b, c) for a, b, c in found.get("settings", ())),
        }
        return cls(**{**found, **lists})

    @property
    def roles(self) -> set[str]:
        """The roles that they name."""
        named = {self.owner, *(role for role, _, _ in (self.grants or ()) + self.settings if role)}
        return {role for role in named if not role.startswith("pg_")}

    @property
    def locale_provider(self) -> str | None:
        """``icu`` or ``builtin``; None for the C library's."""
        return _LOCALE_PROVIDERS.get(self.provider)


def properties_of(name_literal: str) -> str:
    """The query for the properties of the database whose name is the given SQL literal."""
    return _PROPERTIES.format(name=name_literal)


def tables_of(content: Mapping[str, Any]) -> list[Table]:
    """The tables in the answer to ``CONTENT``, smallest first."""
    tables = [Table(one["oid"], one["name"], one["estimate"]) for one in content["tables"]]
    return sorted(tables, key=lambda table: (table.estimate, table.name))


def countable(tables: Iterable[Table]) -> list[Table]:
    """Those small enough to be counted while they are dumped."""
    return [table for table in tables if table.estimate <= EXACT_ROWS]


def count(ask: Callable[[str], str], table: Table) -> int | None:
    """The rows of *table* itself, without its children; None where the server did not let us count."""
    answer = ask(f"SELECT count(*) FROM ONLY {table.name};")
    return int(answer) if answer.isdecimal() else None


def describe(content: Mapping[str, Any], rows: Mapping[str, int]) -> dict[str, JsonValue]:
    """The facts of a record: exact *rows* where they were counted, estimates elsewhere."""
    tables = tables_of(content)
    return {
        "tables": len(tables),
        "rows": {name: rows[name] for name in sorted(rows)},
        "estimated_rows": {t.name: t.estimate for t in tables if t.name not in rows},
        "roles": content["roles"],
        "extensions": content["extensions"],
        "database": content["database"],
        "database_bytes": content["bytes"],
    }


def measure(access: Access, database: str, wanted: Container[str]) -> dict[str, JsonValue]:
    """The facts of a database at rest. Tables of which the (unquoted) name is *wanted* are counted anyway."""
    with access.session(database) as session:
        content = json.loads(session.ask(f"{CONTENT};"))
        rows = {
            table.name: count(session.ask, table)
            for table in tables_of(content)
            if table.estimate <= EXACT_ROWS or table.name.replace('"', "") in wanted
        }
    return describe(content, {name: n for name, n in rows.items() if n is not None})
