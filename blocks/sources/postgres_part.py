"""Some tables of an archive of pg_dump: which entries belong to them, and which they cannot be without.

With a table come its rows, partitions, indexes, constraints, defaults, the sequences that it owns or draws from (at
their last value), triggers, rules, policies, statistics, comments and grants; and what all these need: schemas, types,
functions, extensions, and the definition (without rows) of a table that it inherits from or is a partition of. What
needs another table stays out and is named, such as a foreign key to a table that was not chosen. Nothing else comes:
no view, no publication, no large object.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from blocks.host import Host
from blocks.sources.postgres_client import Installation, identifier
from blocks.sources.postgres_contents import Entry, contents_of
from blocks.sources.postgres_stage import Staged
from vault.errors import RestoreRefused, printable
from vault.process import Command

_RELATIONS = frozenset({"TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW"})
_OF_A_TABLE = frozenset(
    (
        *("TABLE DATA", "TABLE ATTACH", "INDEX", "STATISTICS", "SEQUENCE"),
        *("CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "DEFAULT"),
        *("TRIGGER", "RULE", "POLICY", "ROW SECURITY"),
    )
)
_OF_ANYTHING = frozenset(
    (
        *("COMMENT", "ACL", "SECURITY LABEL", "SEQUENCE SET", "SEQUENCE OWNED BY"),
        *("INDEX ATTACH", "STATISTICS DATA"),
    )
)


@dataclass(frozen=True)
class TablePart:
    """What is restored: *entries*, numbered, in the order of the dump, *tables* by name; what is *left_out*."""

    entries: tuple[int, ...]
    tables: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def plain_names(self) -> set[str]:
        """The names of its tables, without any quotes."""
        return {table.replace('"', "") for table in self.tables}


def find_part(server: Host, client: Installation, dump: Staged, tables: Iterable[str]) -> TablePart:
    """What makes *tables* whole. That we read the table of contents as pg_restore does is not taken for granted."""
    contents = contents_of(dump.here)
    command = Command((client.tool("pg_restore"), "--list", dump.path), idle_timeout=None)
    listed = server.run(command).stdout.decode(errors="replace").splitlines()
    theirs = {int(line.partition(";")[0]) for line in listed if line[:1].isdigit()}
    if not theirs or not theirs <= {entry.id for entry in contents}:
        raise RestoreRefused(
            "pg_restore finds other entries in this dump than we do: no table can be taken alone",
            "Restore all of it into a database of another name, and take the table from there.",
        )
    return part_of(contents, tables)


@contextmanager
def listing(server: Host, part: TablePart | None) -> Iterator[tuple[str, ...]]:
    """The option that has pg_restore on *server* take *part* alone; none for all."""
    if part is None:
        yield ()
        return
    with server.secret_file("".join(f"{number};\n" for number in part.entries)) as path:
        yield (f"--use-list={path}",)


def part_of(contents: tuple[Entry, ...], names: Iterable[str]) -> TablePart:
    """The part that makes the tables of these *names* whole; ``RestoreRefused`` where one is not there."""
    archive = _Archive(contents)
    chosen = archive.with_partitions({_named(contents, name) for name in names})
    included, left_out = archive.with_companions(chosen)
    tables = sorted(f"{entry.schema}.{entry.name}" for entry in contents if entry.id in chosen)
    return TablePart(tuple(entry.id for entry in contents if entry.id in included), tuple(tables), tuple(left_out))


def _named(contents: tuple[Entry, ...], name: str) -> int:
    """The number of the table that a person calls *name*: exactly so, with or without schema, quoted or not (N11)."""
    tables = [entry for entry in contents if entry.kind == "TABLE"]
    found = [table for table in tables if name in _spellings(table)]
    if len(found) == 1:
        return found[0].id
    if found:
        every = ", ".join(sorted(f"{table.schema}.{table.name}" for table in found))
        raise RestoreRefused(f"there are several tables {printable(name)!r} in the dump: {printable(every)}")
    others = [entry.shown for entry in contents if entry.kind in _RELATIONS and name in _spellings(entry)]
    remedy = f"There is {printable(others[0])}, which is no table." if others else _near(tables, name)
    raise RestoreRefused(f"the dump holds no table {printable(name)!r}; nothing was restored", remedy)


def _spellings(entry: Entry) -> set[str]:
    schemas, names = {entry.schema, identifier(entry.schema)}, {entry.name, identifier(entry.name)}
    return names | {f"{schema}.{name}" for schema in schemas for name in names}


def _near(tables: list[Entry], name: str) -> str:
    by_name = {text.lower(): f"{table.schema}.{table.name}" for table in tables for text in _spellings(table)}
    close = difflib.get_close_matches(name.lower(), by_name, n=9)
    near = list(dict.fromkeys(by_name[text] for text in close))[:3]
    if near:
        return f"Near it is: {printable(', '.join(near))}."
    every = sorted(set(by_name.values()))
    return f"It holds {len(every)} tables: {printable(', '.join(every[:20]))}{' …' if len(every) > 20 else ''}"


class _Archive:
    def __init__(self, contents: tuple[Entry, ...]) -> None:
        self._entries = {entry.id: entry for entry in contents}

    def with_partitions(self, chosen: set[int]) -> set[int]:
        """*chosen*, and what is attached to it, at any depth."""
        attached = [entry for entry in self._entries.values() if entry.kind == "TABLE ATTACH"]
        while True:
            more: set[int] = set()
            for entry in attached:
                child: set[int] = set()
                parents: set[int] = set()
                for table in self._relations(entry.needs):
                    own = self._entries[table]
                    (child if (own.schema, own.name) == (entry.schema, entry.name) else parents).add(table)
                if parents & chosen:
                    more |= child
            if more <= chosen:
                return chosen
            chosen = chosen | more

    def with_companions(self, chosen: set[int]) -> tuple[set[int], list[str]]:
        """*chosen* with what it needs and what belongs to it; and what would belong to it but needs other tables."""
        included = self._needed(chosen)
        while True:
            size, left_out = len(included), []
            for entry in self._entries.values():
                if entry.id in included or not self._may_come(entry, included):
                    continue
                needed = self._needed({entry.id})
                others = self._relations(needed - included)
                if others:
                    left_out += self._why(entry, chosen, others)
                elif entry.kind != "TABLE DATA" or not chosen.isdisjoint(entry.needs):
                    included |= needed
            if len(included) == size:
                return included, left_out

    def _may_come(self, entry: Entry, included: set[int]) -> bool:
        by = included.intersection(entry.needs)
        return bool(by if entry.kind in _OF_ANYTHING else entry.kind in _OF_A_TABLE and self._relations(by))

    def _why(self, entry: Entry, chosen: set[int], others: Iterable[int]) -> list[str]:
        """Why *entry* is left out, where it is of a chosen table itself and not of one that refers to it."""
        tables = [self._entries[number] for number in chosen.intersection(entry.needs)]
        own = [t for t in tables if t.schema == entry.schema and f"{entry.name} ".startswith(f"{t.name} ")]
        names = ", ".join(sorted(self._entries[number].shown for number in others))
        return [printable(f"{entry.shown}: it needs {names}")] if own else []

    def _needed(self, wanted: set[int]) -> set[int]:
        """*wanted*, and what that cannot be without."""
        found: set[int] = set()
        left = list(wanted)
        while left:
            number = left.pop()
            if number in self._entries and number not in found:  # what no archive holds, every server has
                found.add(number)
                left.extend(self._entries[number].needs)
        return found

    def _relations(self, numbers: Iterable[int]) -> set[int]:
        return {n for n in numbers if n in self._entries and self._entries[n].kind in _RELATIONS}
