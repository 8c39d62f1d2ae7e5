"""SQLite through its own library: a copy of one moment, and the proof of a file by SQLite's own check."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from pydantic import JsonValue

from blocks.sources.base import Facts
from vault.errors import BackupError, IncompleteDump, SourceError, SourceUnavailable, SpoolError, printable

PAGES = 4096
BUSY_SECONDS = 30.0
AT_REST = "mode=ro&immutable=1"  # nobody else has it: no locks, and no files beside it
JSON_UNSAFE = re.compile(r"unsafe use of json\w*\(")
"""What an SQLite before 3.41 says of its own JSON functions in an index. They do no harm, and what would still cannot
be used in a schema (load_extension, writefile), trusted or not."""
_LACKS = re.compile(r"no such (?P<what>collation sequence|function): (?P<name>.+)", re.DOTALL)


def connect(path: Path, how: str) -> sqlite3.Connection:
    """Open the file at *path*, whatever its name; nothing that its schema holds is trusted (A13)."""
    uri = f"file:{quote(os.fsencode(path))}?{how}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.DatabaseError as error:  # any other one is met by whoever reads
        if JSON_UNSAFE.search(str(error)):
            connection.execute("PRAGMA trusted_schema = ON")
    return connection


def as_ours(error: sqlite3.DatabaseError, location: str) -> BackupError:
    """The one place where SQLite's errors become ours."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SourceUnavailable(f"{location} was locked by somebody else for {BUSY_SECONDS:g} seconds")
    if code == sqlite3.SQLITE_FULL:
        return SpoolError(f"no space is left for the copy of {location}", "Free space, or set BACKUPS_WORK_DIR.")
    return SourceError(f"SQLite cannot read {location}: {printable(str(error))}")


def page_bytes(source: sqlite3.Connection) -> int:
    """How many bytes the database has that *source* sees."""
    pages, size = (source.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size"))
    return int(pages * size)


def copy_of(source: sqlite3.Connection, copy: Path, location: str) -> None:
    """Copy what *source* sees in one transaction; so it does not matter how often others write meanwhile."""
    source.execute("BEGIN")
    source.execute("SELECT count(*) FROM sqlite_master").fetchone()
    size, free = page_bytes(source), shutil.disk_usage(copy.parent).free
    if size > free:
        raise SpoolError(
            f"the copy of {location} needs {size} bytes in {copy.parent}, and {free} are free",
            "Free space, set BACKUPS_WORK_DIR, or give the server another directory for temporary files.",
        )
    with closing(sqlite3.connect(copy, isolation_level=None)) as target:
        target.execute("PRAGMA synchronous = OFF")  # it is read now and then removed
        source.backup(target, pages=PAGES)
    source.execute("COMMIT")


def examined(copy: Path, location: str) -> tuple[list[str], Facts]:
    """Warnings about, and facts of, a database that SQLite's own check proves; else ``IncompleteDump``."""
    warnings: list[str] = []
    with closing(connect(copy, AT_REST)) as database:
        problem = problem_of(database, warnings)
        if problem:
            raise IncompleteDump(
                f"{location} is damaged: {problem}",
                "Repair it (sqlite3's .recover), or restore it from an earlier backup.",
            )
        orphans = len(database.execute("PRAGMA foreign_key_check").fetchall())
        if orphans:
            warnings.append(f"{orphans} rows refer to rows that do not exist (PRAGMA foreign_key_check)")
        facts = facts_of(database)
    if not facts["tables"]:
        warnings.append("the database has no tables")
    return warnings, facts


def problem_of(database: sqlite3.Connection, warnings: list[str]) -> str:
    """What SQLite finds wrong; nothing, if it is whole."""
    check = "integrity_check"
    while True:
        try:
            found = database.execute(f"PRAGMA {check}(10)").fetchall()
            break
        except sqlite3.DatabaseError as error:
            lacks, said = _LACKS.match(str(error)), printable(str(error))
            warning = f"checked without the order of its indexes: {said}"
            if lacks is None or warning in warnings:
                return said
            # Only the app itself has it. With a stand-in, all can be checked but the order in indexes.
            check = "quick_check"
            warnings.append(warning)
            if lacks["what"] == "collation sequence":
                database.create_collation(lacks["name"], lambda a, b: (a > b) - (a < b))
            else:
                database.create_function(lacks["name"], -1, lambda *_: 1, deterministic=True)
    lines = [str(line) for (line,) in found]
    return "" if lines == ["ok"] else printable("; ".join(lines))[:1000]


def facts_of(database: sqlite3.Connection) -> Facts:
    """Tables and their rows, and sizes in bytes."""
    tables = database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*' ORDER BY name"
    ).fetchall()
    rows: dict[str, JsonValue] = {}
    for (name,) in tables:
        quoted = '"' + name.replace('"', '""') + '"'
        with suppress(sqlite3.OperationalError):  # a virtual table of a module that only the app has
            rows[name] = database.execute(f"SELECT count(*) FROM {quoted}").fetchone()[0]  # noqa: S608
    page_size = database.execute("PRAGMA page_size").fetchone()[0]
    return {"tables": len(tables), "rows": rows, "page_size": page_size}
