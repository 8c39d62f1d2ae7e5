"""Databases beside a database: made under names of our own, and swapped in.

No server can rename a database, and none moves a table that has triggers, or a view. So the swap is a script:
what was there loses its triggers and views; one RENAME TABLE, which the server does in whole or not at all, moves
all old tables into a database beside it and all new ones in; and the new code is made. What has to be known to
take all of it back lies in the database of the old tables before the first step, so that the next
restore can do so when this one was killed.
"""

# ruff: noqa: S608  # names in SQL pass through identifier() or literal()
from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace

from blocks.sources.mysql_client import identifier, literal
from blocks.sources.mysql_facts import Inventory, take_inventory
from blocks.sources.mysql_lock import settle, swapping
from blocks.sources.mysql_script import code_of
from blocks.sources.mysql_target import Target, databases
from vault.errors import BackupError, SourceError

NAME_CHARACTERS = 64
SYSTEM = ("mysql", "information_schema", "performance_schema", "sys")
_PREFIX_CHARACTERS = 40  # of the 64 of a name: leaves room for what `beside` adds
_JOURNAL = "__backups_swap"
_PATIENCE = 30  # seconds that a rename waits for those who use the tables


@dataclass(frozen=True)
class Plan:
    """A swap: what was decided before its first step."""

    live: str
    new: str
    old: str
    made: bool
    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    charset: str
    collation: str
    undo: tuple[tuple[str, str], ...]
    """The code of what was there: what each part of it is about, and the part."""


def beside(name: str, what: str) -> str:
    """A new name for a database of ours that belongs to *name*; see :func:`drop_leftovers`."""
    return f"{_family(name, what)}{secrets.token_hex(3)}"


def is_drill(name: str) -> bool:
    """Whether it is the name of a throw-away target."""
    return re.fullmatch(r".*__drill_[0-9a-f]{12}", name, re.DOTALL) is not None


def create(name: str, charset: str, collation: str) -> str:
    """The statement that makes a database."""
    return f"CREATE DATABASE {identifier(name)} CHARACTER SET {charset} COLLATE {collation};"


def drop(target: Target, name: str) -> None:
    """Drop a database that is ours."""
    target.run(f"SET SESSION lock_wait_timeout = {_PATIENCE}; DROP DATABASE IF EXISTS {identifier(name)};")


def drop_leftovers(target: Target) -> None:
    """Take back what a restore of ours began and did not end: we hold its lock, so it is dead."""
    every = databases(target.access)
    for what in ("old", "kept", "restore"):
        family = re.escape(_family(target.name, what)) + "[0-9a-f]{6}"
        for name in (name for name in every if re.fullmatch(family, name)):
            plan = _journal(target, name) if what != "restore" else None
            if plan is not None:
                take_back(target, plan)
            if plan is not None or what != "kept":
                drop(target, name)


def swap(target: Target, new: Inventory, code: bytes, *, keep: bool = False) -> str:
    """Give the target what is in *new*, and *code*; returns the name of the database that holds what was there.

    With *keep* that is no leftover: it stays until somebody drops it.
    """
    target.check_alone()
    plan = _plan(target, new, beside(target.name, "kept" if keep else "old"))
    entry = literal(json.dumps(asdict(plan)))
    journal = f"{identifier(plan.old)}.{identifier(_JOURNAL)}"
    try:
        target.run(
            f"{create(plan.old, plan.charset, plan.collation)} CREATE TABLE {journal} (plan LONGTEXT)"
            f" CHARACTER SET utf8mb4; INSERT INTO {journal} VALUES ({entry});"
        )
        target.run(b"".join(_steps(target, plan, new, code)))
    except BaseException as error:
        _undo_after(error, target, plan)
        raise
    if keep:
        target.run(f"DROP TABLE {journal};")
    return plan.old


def take_back(target: Target, plan: Plan) -> None:
    """Make the target what it was before the swap of *plan*, wherever that was interrupted."""
    access, there = target.access, databases(target.access)
    if plan.live not in there:
        return
    inside = {
        name: set(take_inventory(access, name).stored) if name in there else set() for name in (plan.old, plan.new)
    }
    moved = set(plan.ours) <= inside[plan.old] if plan.ours else not set(plan.theirs) <= inside[plan.new]
    now = take_inventory(access, plan.live)
    script, there_still = [_patience()], {f"{one.type} {one.name}" for every in now.code.values() for one in every}
    if moved:
        script += _drops(now, plan.live, ("triggers", "views", "routines", "events"))
        there_still = set()
    if moved and (plan.ours or plan.theirs):
        script.append(_rename([(plan.live, plan.new, plan.theirs), (plan.old, plan.live, plan.ours)]))
    if plan.made:
        script.append(f"DROP DATABASE {identifier(plan.live)};\n")
    elif {about for about, _ in plan.undo if about} - there_still:
        script.append(f"USE {identifier(plan.live)};\n")
        script += [text for about, text in plan.undo if about not in there_still]
        script.append(_own_charset(plan))
    script.append(f"DELETE FROM {identifier(plan.old)}.{identifier(_JOURNAL)};\n")
    target.run("".join(script))


def _plan(target: Target, new: Inventory, old: str) -> Plan:
    live, name = target.inventory, target.name
    return Plan(
        name,
        new.name,
        old,
        live is None,
        live.stored if live else (),
        new.stored,
        live.charset if live else new.charset,
        live.collation if live else new.collation,
        _code_of_live(target, live) if live and any(live.code.values()) else (),
    )


def _code_of_live(target: Target, live: Inventory) -> tuple[tuple[str, str], ...]:
    """What makes the target's views, routines, triggers and events anew."""
    tool = target.access.for_dump(target.server)
    options = [option for option in tool.dump_options(target.server) if option != "--dump-history"]
    # A view that is broken already must not stop what replaces it.
    command = target.access.command(tool.dump, tool.flavour, *options, "--no-data", "--force", "--", target.name)
    script = target.access.endpoint.server.run(replace(command, ok=frozenset({0, 2}))).stdout
    code = tuple((piece.about, piece.text.decode()) for piece in code_of(script, target.name))
    missing = {f"{one.type} {one.name}" for every in live.code.values() for one in every} - {about for about, _ in code}
    lost = sorted(name for name in missing if not name.startswith("VIEW "))
    if lost or b"-- Dump completed" not in script[-200:]:
        raise SourceError(f"the code of {target.name!r} cannot be read, to take the swap back if it fails: {lost[:10]}")
    return code


def _steps(target: Target, plan: Plan, new: Inventory, code: bytes) -> Iterator[bytes]:
    live = target.inventory
    yield (swapping(plan.live) + _patience()).encode()
    if live is None:
        yield create(plan.live, plan.charset, plan.collation).encode() + b"\n"
    else:
        yield _try_locks(plan).encode()
        yield "".join(_drops(live, plan.live, ("triggers", "views"))).encode()
    yield "".join(_drops(new, plan.new, ("triggers",))).encode()
    if plan.ours or plan.theirs:
        yield _rename([(plan.live, plan.old, plan.ours), (plan.new, plan.live, plan.theirs)]).encode()
    if live is not None:
        yield "".join(_drops(live, plan.live, ("routines", "events"))).encode()
    yield f"USE {identifier(plan.live)};\n".encode()
    yield code
    yield "".join(_sequence_defaults(target, plan.new)).encode()
    yield _own_charset(plan).encode()
    yield f"DELETE FROM {identifier(plan.old)}.{identifier(_JOURNAL)};\n".encode()


def _patience() -> str:
    return f"SET SESSION lock_wait_timeout = {_PATIENCE};\n"


def _try_locks(plan: Plan) -> str:
    """Fail before anything is changed where somebody uses a table for longer than we wait."""
    every = ", ".join(f"{identifier(plan.live)}.{identifier(name)} WRITE" for name in plan.ours)
    return f"LOCK TABLES {every};\nUNLOCK TABLES;\n" if every else ""


def _drops(inventory: Inventory, database: str, kinds: Iterable[str]) -> Iterator[str]:
    for kind in kinds:
        for one in inventory.code[kind]:
            statement = f"DROP {one.type} IF EXISTS {identifier(database)}.{identifier(one.name)};\n"
            if one.type.startswith("PACKAGE"):  # a word that MariaDB knows in this mode only
                yield f"SET SESSION sql_mode = ORACLE;\n{statement}SET SESSION sql_mode = DEFAULT;\n"
            else:
                yield statement


def _rename(moves: list[tuple[str, str, tuple[str, ...]]]) -> str:
    """One statement for all: the server does it in whole or not at all.

    The client runs what it has when its input ends: in a comment that is still open, the first half is a mistake.
    """
    pairs = (
        f"{identifier(source)}.{identifier(name)} TO {identifier(to)}.{identifier(name)}"
        for source, to, names in moves
        for name in names
    )
    return f"/*! RENAME TABLE {', '.join(pairs)} */;\n"


def _sequence_defaults(target: Target, new: str) -> Iterator[str]:
    """MariaDB keeps the database of a sequence in the default that uses it: name the one where it is by then."""
    mark = f"nextval({identifier(new)}."
    found = target.access.rows(
        "SELECT table_name, column_name, column_default FROM information_schema.columns"
        f" WHERE table_schema = {literal(new)} AND LOCATE({literal(mark)}, column_default) > 0;"
    )
    for table, column, default in found:
        value = default.replace(mark, "nextval(")
        yield f"ALTER TABLE {identifier(table)} ALTER COLUMN {identifier(column)} SET DEFAULT ({value});\n"


def _own_charset(plan: Plan) -> str:
    return f"ALTER DATABASE {identifier(plan.live)} CHARACTER SET {plan.charset} COLLATE {plan.collation};\n"


def _journal(target: Target, old: str) -> Plan | None:
    """The plan of an unfinished swap, if *old* is of one."""
    try:
        found = target.access.rows(f"SELECT plan FROM {identifier(_JOURNAL)};", old)
    except SourceError as error:
        if "1146" in error.message:  # killed before it was written, and so before the first step
            return None
        raise
    if not found:
        return None
    known = json.loads(found[0][0])
    undo = tuple((about, text) for about, text in known["undo"])
    return Plan(**{**known, "ours": tuple(known["ours"]), "theirs": tuple(known["theirs"]), "undo": undo})


def _undo_after(error: BaseException, target: Target, plan: Plan) -> None:
    def undo(again: Target) -> None:
        settle(again.access, plan.live)
        if plan.old in databases(again.access) and _journal(again, plan.old) is not None:
            take_back(again, plan)
        drop(again, plan.old)

    try:
        target.surely(undo)
    except BackupError as second:
        raise SourceError(
            f"the swap failed ({error}), and taking it back failed too ({second.message})",
            f"What was in {plan.live!r} is in {plan.old!r} and the new tables are in {plan.new!r} or in {plan.live!r}. "
            f"Drop neither. The next restore to {plan.live!r} takes it back before it begins.",
        ) from error


def _family(name: str, what: str) -> str:
    """What the names of all databases begin with that a restore makes for *name*."""
    prefix = name[:_PREFIX_CHARACTERS]
    return f"{prefix}__{what}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"
