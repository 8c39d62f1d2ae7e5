"""Restore a PostgreSQL database: beside what is there, counted there, and only then swapped in."""

# ruff: noqa: S608  # names in SQL pass through identifier() or literal(), or were quoted by the server
from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from pydantic import JsonValue

from blocks.sources.base import ANOTHER_RUNS, Content, Facts, RestoreOptions, hinting
from blocks.sources.postgres_client import Access, Installation, identifier, literal, version_key
from blocks.sources.postgres_facts import Properties, measure, properties_of
from blocks.sources.postgres_part import TablePart, find_part, listing
from blocks.sources.postgres_stage import Staged, staged
from blocks.sources.postgres_swap import (
    Target,
    adopt,
    beside,
    calm,
    check_still_empty,
    create,
    drop,
    drop_leftovers,
    hasten,
    is_empty,
    swap,
)
from vault.errors import (
    BackupError,
    Corrupt,
    RestoreRefused,
    SourceError,
    SourceUnavailable,
    printable,
)
from vault.milestone import milestone

MAINTENANCE = ("postgres", "template1")

Load = Callable[[str], None]


def look_at(access: Access, name: str) -> Target:
    """The target as it stands."""
    maintenance = _maintenance(access, name)
    may_create, may_replace = access.execute(
        maintenance,
        "SELECT rolsuper OR rolcreatedb, coalesce((SELECT pg_has_role(datdba, 'USAGE')"
        f" FROM pg_database WHERE datname = {literal(name)}), true)"
        " FROM pg_roles WHERE rolname = current_user;",
    ).split("|")
    target = Target(access, name, maintenance, "absent", may_create == "t", may_replace == "t")
    if target.names(f"datname = {literal(name)}"):
        return replace(target, state="empty" if is_empty(target, name) else "full")
    return target


def check(target: Target, options: RestoreOptions) -> None:
    """Raise ``RestoreRefused`` where a restore would, for the target's sake."""
    if target.name in ("template0", "template1"):
        raise RestoreRefused(f"{target.name} is the server's own template: nothing goes over it")
    if target.state == "full" and options.tables:
        raise RestoreRefused(
            f"the database {target.name!r} is not empty, and a table is never put among others",
            f"Restore it to a new database, and take it from there: pg_dump --table=NAME NEW | psql {target.name}",
        )
    if target.state == "full" and not options.overwrite:
        raise RestoreRefused(
            f"the database {target.name!r} is not empty",
            "Restore to another name, or allow it to be replaced (--overwrite).",
        )
    if target.state != "empty" and not target.beside:
        raise RestoreRefused(
            f"this user may not create databases, or does not own {target.name!r}",
            "Give it CREATEDB and ownership, or restore into an empty database.",
        )


def restore(target: Target, content: Content, options: RestoreOptions) -> Facts:
    """Make the target hold *content*, or leave it as it was and raise."""
    check(target, options)
    options = replace(options, overwrite=options.overwrite and not options.tables)
    client = target.access.for_restore(dumped_with(content.artifact.tool))
    properties = _properties(target, content.artifact.facts)
    server = target.access.endpoint.server
    with staged(content, server, keep=bool(options.tables)) as dump, _alone(target) as target:
        part = find_part(server, client, dump, options.tables) if options.tables else None
        load, expected = _loader(target, client, dump, options, part), _expected(content.artifact.facts, part)
        told = hinting(partial(_older_server, target, content.artifact.tool))
        with told, _roles(target, content.artifact.facts, properties, options):
            facts = _restored(target, expected, properties, load, options)
    return facts if part is None else {**facts, "left_out": list(part.left_out)}


def _older_server(target: Target, tool: str) -> str:
    """Where the target's server is older than that of the backup: that it is."""
    dumped = re.search(r", PostgreSQL (\d[\d.]*)", tool)
    if dumped is None:
        return ""
    here = target.access.server_version(target.maintenance)
    if version_key(here) >= version_key(dumped[1]):
        return ""
    return f"The backup is of PostgreSQL {dumped[1]}, and this server is {here}: restore it to one that is as new."


def _expected(facts: Facts, part: TablePart | None) -> Facts:
    """What the record says of what is restored."""
    if part is None:
        return facts
    rows = facts.get("rows")
    known = rows if isinstance(rows, dict) else {}
    return {"rows": {name: n for name, n in known.items() if name.replace('"', "") in part.plain_names}}


def _restored(
    target: Target, expected: Facts, properties: Properties | None, load: Load, options: RestoreOptions
) -> Facts:
    if target.beside:
        return _restore_beside(target, expected, properties, load, options)
    if not options.overwrite:
        check_still_empty(target, target.name)
    load(target.name)
    return _measured(target, target.name, expected)


def dumped_with(tool: str) -> str:
    """The version of pg_dump in what a record says of its tool."""
    match = re.match(r"pg_dump (\d+(?:\.\d+)*)", tool)
    if match is None:
        raise RestoreRefused(f"the artifact was not made by pg_dump, but by {printable(tool)[:80]}")
    return match[1]


def _maintenance(access: Access, name: str) -> str:
    """A database from which others are administered; the target itself when no other lets us in."""
    for database in MAINTENANCE:
        if database != name:
            try:
                access.execute(database, "SELECT 1;")
            except SourceUnavailable:
                raise
            except SourceError:
                continue
            return database
    access.execute(name, "SELECT 1;")
    return name


def _properties(target: Target, facts: Facts) -> Properties | None:
    """Those of the database that is there, else those of the one that was dumped."""
    if target.state != "absent":
        query = f"{properties_of(literal(target.name))};"
        return Properties.parse(target.access.query(target.maintenance, query))
    recorded = facts.get("database")
    return Properties.parse(recorded) if isinstance(recorded, dict) else None


@contextmanager
def _alone(target: Target) -> Iterator[Target]:
    """The target with the server's lock on restores of it; what a killed one has left is dropped."""
    number = int.from_bytes(hashlib.sha256(target.name.encode()).digest()[:8], signed=True)
    with target.access.session(target.maintenance) as session:
        if session.ask(f"SELECT pg_try_advisory_lock({number});") != "t":
            raise RestoreRefused(f"another restore of {target.name!r} is running", ANOTHER_RUNS)
        if target.beside:
            drop_leftovers(target)
        yield replace(target, lock=session)


@contextmanager
def _roles(target: Target, facts: Facts, properties: Properties | None, options: RestoreOptions) -> Iterator[None]:
    """See that the roles exist that the content names, and take back what was made if it fails."""
    recorded = facts.get("roles")
    needed = {str(role) for role in recorded} if isinstance(recorded, list) else set()
    needed |= properties.roles if properties else set()
    there = target.access.query(target.maintenance, "SELECT coalesce(json_agg(rolname), '[]') FROM pg_roles;")
    missing = sorted(needed - set(there))
    if missing and not options.create_roles:
        raise RestoreRefused(
            f"roles that own or may use what is restored do not exist here: {', '.join(missing)}",
            "Create them, or have them made without login (--create-roles).",
        )
    made: list[str] = []
    try:
        for role in missing:
            target.sql(f"CREATE ROLE {identifier(role)} NOLOGIN;")
            made.append(role)
        yield
    except BaseException:
        for role in made:
            target.undo(partial(Target.sql, text=f"DROP ROLE {identifier(role)};"))
        raise


def _loader(
    target: Target, client: Installation, dump: Staged, options: RestoreOptions, part: TablePart | None
) -> Load:
    """What loads the staged dump into a database: all of it, or *part* of it, or an error."""
    access = target.access

    def load(database: str) -> None:
        with listing(access.endpoint.server, part) as selecting:
            if dump.is_custom:
                how = f"--jobs={max(1, options.jobs)}" if target.beside else "--single-transaction"
                arguments = ("--exit-on-error", how, *selecting, dump.path)
                command = access.command(client.tool("pg_restore"), *arguments, database=database)
            else:
                arguments = ("--single-transaction", "--output=/dev/null", f"--file={dump.path}")
                command = access.psql(*arguments, database=database)
            access.endpoint.server.run(replace(command, idle_timeout=None))

    return load


def _restore_beside(
    target: Target, expected: Facts, properties: Properties | None, load: Load, options: RestoreOptions
) -> Facts:
    new = beside(target.name, "restore")
    try:
        target.sql(create(new, properties))
        hasten(target, new, options.jobs)
        load(new)
        facts = _measured(target, new, expected)
        calm(target, new)
        notes: list[JsonValue] = [*adopt(target, new, properties)] if properties else []
        milestone("restore:before-swap")
        old = swap(target, new, overwrite=options.overwrite)
    except BaseException as error:
        target.undo(lambda again: drop(again, new))  # what stays for all that, the next restore drops
        if type(error) is SourceError:
            untouched = f"{target.name!r} was not touched."
            raise SourceError(error.message, f"{error.remedy} {untouched}".strip()) from error
        raise
    milestone("restore:after-swap")
    if old is not None:
        try:
            drop(target, old, was_live=True)
        except BackupError as error:
            notes.append(f"what was replaced is still there as {old}: {error.message}")
    return {**facts, "notes": notes}


def _measured(target: Target, database: str, expected: Facts) -> Facts:
    """Facts of what was restored; raises ``Corrupt`` where they are not the *expected* ones of the record."""
    facts = measure(target.access, database, _counts(expected))
    wrong = [
        f"{name} has {found.get(name, 'no')} rows instead of {rows}"
        for found in (_counts(facts),)
        for name, rows in _counts(expected).items()
        if found.get(name) != rows
    ]
    if "tables" in expected and facts["tables"] != expected["tables"]:
        wrong.insert(0, f"{facts['tables']} tables instead of {expected['tables']}")
    if wrong:
        raise Corrupt(
            f"what was restored is not what its record says: {'; '.join(wrong[:10])}",
            f"{target.name!r} was not touched." if database != target.name else "",
        )
    return facts


def _counts(facts: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The exact counts, by a name that no version of PostgreSQL quotes differently."""
    rows = facts.get("rows")
    return {name.replace('"', ""): n for name, n in rows.items()} if isinstance(rows, dict) else {}
