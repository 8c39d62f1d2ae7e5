"""Restore a PostgreSQL database: beside what is there, counted there, and only then swapped in."""

# ruff: noqa: S608  # names in SQL pass through identifier() or literal(), or were quoted by the server
from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue

from blocks.sources.base import Content, Facts, RestoreOptions
from blocks.sources.postgres_client import Access, Installation, identifier, literal
from blocks.sources.postgres_facts import Properties, measure, properties_of
from blocks.sources.postgres_plain import check_script
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
    SpoolError,
    printable,
)
from vault.milestone import milestone

MAINTENANCE = ("postgres", "template1")
_BLOCK = 8 * 1024 * 1024

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
    client = target.access.for_restore(dumped_with(content.artifact.tool))
    properties = _properties(target, content.artifact.facts)
    with _staged(content) as file, _alone(target):
        load = _loader(target, client, file, options)
        with _roles(target, content.artifact.facts, properties, options):
            if target.beside:
                return _restore_beside(target, content, properties, load, options)
            if not options.overwrite:
                check_still_empty(target, target.name)
            load(target.name)
            return _measured(target, target.name, content)


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
def _staged(content: Content) -> Iterator[Path]:
    """The plain dump in a file, proven; it is gone again at exit. The target is untouched so far (F03)."""
    file = content.work / "restore.dump"
    try:
        with content.open() as source:
            try:
                with open(file, "wb") as copy:
                    shutil.copyfileobj(source, copy, _BLOCK)
            except OSError as error:
                raise SpoolError(
                    f"the dump cannot be written to {content.work}: {error.strerror}; the target was not touched",
                    "Free space there, or choose another work directory.",
                ) from error
        yield file
    finally:
        file.unlink(missing_ok=True)


@contextmanager
def _alone(target: Target) -> Iterator[None]:
    """Hold the server's lock on restores of this database; drop what a killed one has left."""
    number = int.from_bytes(hashlib.sha256(target.name.encode()).digest()[:8], signed=True)
    with target.access.session(target.maintenance) as session:
        if session.ask(f"SELECT pg_try_advisory_lock({number});") != "t":
            raise RestoreRefused(f"another restore of {target.name!r} is running")
        if target.beside:
            drop_leftovers(target)
        yield


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
            with suppress(BackupError):  # the first error is the one to tell
                target.sql(f"DROP ROLE {identifier(role)};")
        raise


def _loader(target: Target, client: Installation, file: Path, options: RestoreOptions) -> Load:
    """What loads the staged dump into a database: all of it, or an error."""
    access = target.access
    with open(file, "rb") as dump:
        custom = dump.read(5) == b"PGDMP"
    if not custom:
        check_script(file)

    def load(database: str) -> None:
        if custom:
            how = f"--jobs={max(1, options.jobs)}" if target.beside else "--single-transaction"
            command = access.command(client.tool("pg_restore"), "--exit-on-error", how, str(file), database=database)
        else:
            arguments = ("--single-transaction", "--output=/dev/null", f"--file={file}")
            command = access.psql(*arguments, database=database)
        access.endpoint.server.run(replace(command, idle_timeout=None))

    return load


def _restore_beside(
    target: Target, content: Content, properties: Properties | None, load: Load, options: RestoreOptions
) -> Facts:
    new = beside(target.name, "restore")
    try:
        target.sql(create(new, properties))
        hasten(target, new, options.jobs)
        load(new)
        facts = _measured(target, new, content)
        calm(target, new)
        notes: list[JsonValue] = [*adopt(target, new, properties)] if properties else []
        milestone("restore:before-swap")
        old = swap(target, new, overwrite=options.overwrite)
    except BaseException as error:
        with suppress(BackupError):  # the first error is the one to tell; the next restore cleans up
            drop(target, new)
        if type(error) is SourceError:
            untouched = f"{target.name!r} was not touched."
            raise SourceError(error.message, f"{error.remedy} {untouched}".strip()) from error
        raise
    milestone("restore:after-swap")
    if old is not None:
        try:
            drop(target, old)
        except BackupError as error:
            notes.append(f"what was replaced is still there as {old}: {error.message}")
    return {**facts, "notes": notes}


def _measured(target: Target, database: str, content: Content) -> Facts:
    """Facts of what was restored; raises ``Corrupt`` where they are not those of the record."""
    expected = content.artifact.facts
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
