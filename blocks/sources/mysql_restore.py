"""Restore a database of MySQL or MariaDB: beside what is there, counted there, and only then swapped in."""

# ruff: noqa: S608  # names in SQL pass through identifier() or literal()
from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from blocks.sources.base import Content, Facts, RestoreOptions, hinting
from blocks.sources.mysql_client import Access, identifier, literal
from blocks.sources.mysql_facts import Inventory, accounts, count_rows, describe, rights, take_inventory
from blocks.sources.mysql_lock import locked
from blocks.sources.mysql_script import pieces
from blocks.sources.mysql_swap import (
    SYSTEM,
    beside,
    create,
    drop,
    drop_leftovers,
    is_drill,
    swap,
)
from blocks.sources.mysql_target import Target, databases
from blocks.sources.mysql_tools import Server, parse_server
from vault.errors import Corrupt, RestoreRefused, SourceError, printable
from vault.milestone import milestone

_FEED = 1024 * 1024
_TOOLS = ("mysqldump", "mariadb-dump")
_CHARSET = re.compile(r"[a-z0-9_]+")


def look_at(access: Access, name: str) -> Target:
    """The target as it stands."""
    server = access.look()
    if access.value("SELECT @@lower_case_table_names;") != "0":  # then this server has no other names
        name = name.lower()
    inventory = take_inventory(access, name) if name in databases(access) else None
    return Target(access, server, access.for_load(server), name, inventory, is_drill(name))


def check(target: Target, options: RestoreOptions) -> None:
    """Raise ``RestoreRefused`` where a restore would, for the target's sake."""
    if target.name.lower() in SYSTEM:
        raise RestoreRefused(f"{target.name} is the server's own database: nothing goes over it")
    if target.state == "full" and not options.overwrite:
        raise RestoreRefused(
            f"the database {target.name!r} is not empty",
            "Restore to another name, or allow it to be replaced (--overwrite).",
        )
    own = rights(target.access, target.server)
    places = [target.name, *(beside(target.name, what) for what in ("restore", "old"))]
    if not all(own.has(right, place) for right in ("CREATE", "DROP") for place in places):
        pattern = places[1][: places[1].rindex("__restore_")].replace("_", "\\_") + "\\_\\_%"
        raise RestoreRefused(
            f"this account may not make databases beside {target.name!r}: it needs them to replace it at once",
            f"GRANT ALL ON {identifier(target.name)}.* TO it, and GRANT ALL ON {identifier(pattern)}.* TO it.",
        )
    referring = _referring(target)
    if referring:
        raise RestoreRefused(
            f"tables of other databases refer to {target.name!r}, and would keep what is replaced: "
            + ", ".join(referring[:10]),
            "Drop those foreign keys first, or restore to another name.",
        )


def restore(target: Target, content: Content, options: RestoreOptions) -> Facts:
    """Make the target hold *content*, or leave it as it was and raise."""
    check(target, options)
    if not content.artifact.tool.startswith(_TOOLS):
        tool = printable(content.artifact.tool)[:80]
        raise RestoreRefused(f"the artifact was not made by mysqldump or mariadb-dump, but by {tool}")
    with (
        content.file() as file,  # the target is untouched so far (F03)
        _alone(target) as target,
        hinting(partial(_older_server, target, content.artifact.tool)),
    ):
        check(target, options)
        with _definers(target, content.artifact.facts, options) as notes:
            facts, kept = _restore_beside(target, content, file, options)
            return {**facts, "notes": [*notes, *kept]}


def _older_server(target: Target, tool: str) -> str:
    """Where the target's server is older, or of another kind, than that of the backup: that it is."""
    dumped = re.search(r", (MariaDB|MySQL) (\d+\.\d+\.\d+)", tool)
    if dumped is None:
        return ""
    there, here = Server(dumped[1], parse_server(dumped[2]).version), target.server
    if there.flavour == here.flavour and there.version[:2] <= here.version[:2]:
        return ""
    return f"The backup is of {there}, and this server is {here}: restore it to one of its kind that is as new."


@contextmanager
def _alone(target: Target) -> Iterator[Target]:
    """The target as it stands now, with the server's lock on restores of it; what a killed one has left is taken
    back."""
    with locked(target.access, target.name) as session:
        drop_leftovers(target)
        yield replace(target.again(), lock=session)


@contextmanager
def _definers(target: Target, facts: Facts, options: RestoreOptions) -> Iterator[list[JsonValue]]:
    """See that the accounts exist with whose rights the code runs, and take back what was made if it fails."""
    recorded = facts.get("definers")
    needed = {str(name) for name in recorded} if isinstance(recorded, list) else set()
    gone = facts.get("missing_definers")
    needed -= {str(name) for name in gone} if isinstance(gone, list) else set()
    known = accounts(target.access) if needed else set()
    missing = sorted(needed - known) if known is not None else []
    if missing and not options.create_roles:
        raise RestoreRefused(
            "accounts with whose rights views and programs run do not exist here: "
            + ", ".join(map(printable, missing)),
            "Create them, or have them made locked and without rights (--create-roles).",
        )
    made: list[str] = []
    try:
        for name in missing:
            user, _, host = name.rpartition("@")
            account = f"{identifier(user)}@{identifier(host)}"
            target.run(f"CREATE USER {account} ACCOUNT LOCK;")
            made.append(account)
        yield [] if known is not None else ["whether the definers of views and programs exist could not be seen"]
    except BaseException:
        for account in made:
            target.undo(partial(Target.run, script=f"DROP USER {account};"))
        raise


@dataclass(frozen=True)
class _Loaded:
    """What was restored beside the target: its facts, its objects, and its code as it goes into the target."""

    facts: Facts
    inventory: Inventory
    code: bytes


def _restore_beside(
    target: Target, content: Content, file: Path, options: RestoreOptions
) -> tuple[Facts, list[JsonValue]]:
    new = beside(target.name, "restore")
    try:
        loaded = _load(target, new, content, file)
        milestone("restore:before-swap")
        if not options.overwrite:
            _check_still_empty(target)
        keep = options.keep and target.state == "full"
        old = swap(target.again(), loaded.inventory, loaded.code, keep=keep)
    except BaseException as error:
        target.undo(lambda again: drop(again, new))  # what stays for all that, the next restore drops
        if type(error) is SourceError and not error.remedy:
            raise SourceError(error.message, f"{target.name!r} was not touched.") from error
        raise
    milestone("restore:after-swap")
    for name in (new,) if keep else (old, new):
        drop(target, name)
    return loaded.facts, [f"what was replaced is kept in {old}: drop it when it is not needed"] if keep else []


def _load(target: Target, new: str, content: Content, file: Path) -> _Loaded:
    expected = content.artifact.facts
    charset, collation = _charset(target, expected)
    target.run(create(new, charset, collation))
    recorded = expected.get("database")
    source = str(recorded.get("name", "")) if isinstance(recorded, dict) else ""
    code = _feed(target, new, file, source)
    inventory = take_inventory(target.access, new)
    facts = describe(replace(inventory, name=target.name), count_rows(target.access, inventory, _rows(expected)))
    _compare(target, facts, expected)
    return _Loaded(facts, inventory, code)


def _feed(target: Target, database: str, file: Path, source: str) -> bytes:
    """Run the script *file* in *database*, every event disabled; returns its code as the target shall have it."""
    command = replace(target.access.client(database, target.tool), idle_timeout=None)
    code, waiting, size = [], [], 0
    with target.access.endpoint.server.feed(command) as tool:
        for piece in pieces(file, source):
            if piece.kind == "code":
                code.append(piece.asleep if target.asleep else piece.text)
            waiting.append(piece.asleep)
            size += len(piece.asleep)
            if size >= _FEED:
                tool.stdin.write(b"".join(waiting))
                waiting, size = [], 0
        tool.stdin.write(b"".join(waiting))
    return b"".join(code)


def _charset(target: Target, facts: Facts) -> tuple[str, str]:
    """Those of the database that is there, else those of the one that was dumped."""
    if target.inventory is not None:
        return target.inventory.charset, target.inventory.collation
    recorded = facts.get("database")
    known = [str(recorded.get(name, "")) for name in ("charset", "collation")] if isinstance(recorded, dict) else []
    if known and all(_CHARSET.fullmatch(name) for name in known):
        return known[0], known[1]
    charset, collation = target.access.rows("SELECT @@character_set_server, @@collation_server;")[0]
    return charset, collation


def _compare(target: Target, facts: Facts, expected: Facts) -> None:
    """Raise ``Corrupt`` where the facts of what was restored are not those of the record."""
    found = _rows(facts)
    wrong = [
        f"{facts[kind]} {kind} instead of {expected[kind]}"
        for kind in ("tables", "sequences", "views", "routines", "triggers", "events")
        if kind in expected and facts[kind] != expected[kind]
    ]
    wrong += [
        f"{printable(name)} has {found.get(name, 'no')} rows instead of {rows}"
        for name, rows in _rows(expected).items()
        if found.get(name) != rows
    ]
    if wrong:
        raise Corrupt(
            f"what was restored is not what its record says: {'; '.join(wrong[:10])}",
            f"{target.name!r} was not touched.",
        )


def _rows(facts: Facts) -> dict[str, JsonValue]:
    rows = facts.get("rows")
    return dict(rows) if isinstance(rows, dict) else {}


def _check_still_empty(target: Target) -> None:
    if target.again().state == "full":
        raise RestoreRefused(
            f"the database {target.name!r} is not empty any more: it was filled during the restore",
            "Restore to another name, or allow it to be replaced (--overwrite).",
        )


def _referring(target: Target) -> list[str]:
    """The tables of other databases whose foreign keys point into the target."""
    if target.state != "full":
        return []
    name = literal(target.name)
    found = target.access.rows(
        "SELECT DISTINCT constraint_schema, table_name FROM information_schema.referential_constraints"
        f" WHERE unique_constraint_schema = {name} AND constraint_schema <> {name};"
    )
    return [printable(f"{schema}.{table}") for schema, table in found]
