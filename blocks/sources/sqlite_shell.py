"""SQLite databases of any host, through the sqlite3 tool there: the same copy of one moment, check, proof and swap."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath

from pydantic import JsonValue

from blocks.files import put
from blocks.held import apart, held_directory
from blocks.host import Host
from blocks.sources.base import Content, Dump, Facts, RestoreOptions
from blocks.sources.sqlite_file import JSON_UNSAFE
from vault.errors import Corrupt, IncompleteDump, RestoreRefused, SourceError, SpoolError, Transient, printable
from vault.milestone import milestone
from vault.process import Command

RESTORE_WITH = "cat > TARGET && sqlite3 TARGET 'PRAGMA integrity_check'"

_BUSY = r"database is locked|database table is locked"
_FULL = re.compile("database or disk is full")
_DAMAGED = re.compile("malformed|not a database")
_LACKS = re.compile(r"no such (collation sequence|function): .*")
_DISTRUST = b"PRAGMA trusted_schema = OFF;\n"
_COPY = """.timeout 30000
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;
BEGIN;
SELECT count(*) FROM sqlite_master;
.backup copy.sqlite
COMMIT;
"""
_EXAMINE = """PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;
PRAGMA integrity_check(10);
SELECT '-';
SELECT count(*) FROM pragma_foreign_key_check;
PRAGMA page_size;
SELECT hex(name) FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*' ORDER BY name;
"""
_QUIESCE = b"""PRAGMA busy_timeout = 0;
PRAGMA locking_mode = EXCLUSIVE;
BEGIN EXCLUSIVE;
COMMIT;
PRAGMA wal_checkpoint(TRUNCATE);
"""
# Opening a FIFO would hang. Nothing is printed where it may be read.
_LOOK = r"""
if [ ! -e "$1" ]; then echo 'cannot be read: No such file or directory'
elif [ ! -f "$1" ]; then echo 'is not a file'
elif [ ! -r "$1" ]; then echo 'cannot be read: Permission denied'
elif [ ! -s "$1" ]; then echo 'is empty'
elif [ "$(head -c 15 -- "$1" | tr -d '\0')" != 'SQLite format 3' ]; then echo 'is not an SQLite database'
fi
"""
_IN_USE = r"""
in_use() {
    for fd in /proc/[0-9]*/fd/*; do
        for one in "$target" "$target-wal" "$target-shm" "$target-journal"; do
            [ "$fd" -ef "$one" ] || continue
            id=${fd#/proc/}; printf 'use %s\n' "${id%%/*}"; exit
        done
    done
}
"""
_CHECK_TARGET = (
    _IN_USE
    + r"""
target=$1; parent=$2; overwrite=$3
[ -d "$parent" ] || { echo orphan; exit; }
[ -w "$parent" ] && [ -x "$parent" ] || { echo denied; exit; }
there=no
for one in "$target" "$target-wal" "$target-shm" "$target-journal"; do
    [ -e "$one" ] || [ -L "$one" ] || continue
    there=yes
    [ -f "$one" ] && [ ! -L "$one" ] || { echo odd; exit; }
done
[ "$there" = no ] || [ "$overwrite" = yes ] || { echo exists; exit; }
[ "$there" = no ] || in_use
"""
)
_SWAP = (
    _IN_USE
    + r"""
new=$1; target=$2; overwrite=$3
sync -- "$new" 2>/dev/null || sync
if [ "$overwrite" = no ]; then
    if ! said=$(ln -T -- "$new" "$target" 2>&1); then
        [ -e "$target" ] || [ -L "$target" ] || { printf '%s\n' "$said" >&2; exit 1; }
        echo came; exit
    fi
else
    if [ -e "$target" ]; then
        in_use
        chmod --reference="$target" -- "$new" && chown --reference="$target" -- "$new" || exit
    fi
    rm -f -- "$target-wal" "$target-shm" "$target-journal" && mv -T -f -- "$new" "$target" || exit
fi
sync -- "${target%/*}/" 2>/dev/null || sync
"""
)


@dataclass(frozen=True)
class ShellSqlite:
    """The database at *path* of *host*, there or not."""

    host: Host
    path: PurePath
    location: str

    def check(self) -> str:
        """It is there and can be read; the tool is there. Returns the tool's version."""
        version = self._version()
        said = self._ask(_LOOK, str(self.path))
        if said:
            raise SourceError(f"the database {self.location} {said}")
        self._sqlite(str(self.path), b"SELECT count(*) FROM sqlite_master;", "-readonly")
        return version

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """See ``Source.dump``: a copy in a private directory there, proven by SQLite's own check, then streamed."""
        version = self.check()
        with self.host.private_directory() as directory:
            self._sqlite(str(self.path), _COPY.encode(), "-readonly", cwd=directory)
            warnings, facts = self._examined(directory / "copy.sqlite")
            with self.host.stream(Command(("cat", str(directory / "copy.sqlite")))) as tool:
                yield Dump(tool.stdout, "sqlite", version, RESTORE_WITH, warnings, facts)

    def check_target(self, options: RestoreOptions) -> None:
        """See ``Source.check_target``."""
        self._version()
        self._refuse(self._ask(_CHECK_TARGET, str(self.path), str(self.path.parent), _yes(options.overwrite)))

    def restore(self, content: Content, options: RestoreOptions) -> Facts:
        """See ``Source.restore``. The file is complete and checked there before it gets its name."""
        self.check_target(options)
        family = hashlib.sha256(os.fsencode(self.path.name)).hexdigest()[:12]
        with held_directory(self.host, f".prefect-backups-{family}.", str(self.path.parent)) as directory:
            new = directory / "new"
            with content.open() as stream:
                put(self.host, stream, new)
            facts = self._proven(new, content)
            milestone("restore:before-swap")
            if options.overwrite:
                self._quiesce()
            self._swap(new, options)
        milestone("restore:after-swap")
        return facts

    def _version(self) -> str:
        said = self.host.run(Command(("sqlite3", "--version"), idle_timeout=60)).stdout.decode(errors="replace")
        return f"SQLite {printable(said.split()[0])}"

    def _examined(self, copy: PurePath) -> tuple[list[str], Facts]:
        try:
            problem, orphans, facts = self._looked_into(copy)
        except SourceError as error:
            lacks = _LACKS.search(error.message)
            if lacks:
                raise SourceError(
                    f"{self.location} cannot be checked by sqlite3 there, which has {lacks[0]}",
                    "Only the app has it. Run the backup on that server itself, where a stand-in is used.",
                ) from error
            if not _DAMAGED.search(error.message):
                raise
            problem, orphans, facts = error.message, 0, {}
        if problem:
            raise IncompleteDump(
                f"{self.location} is damaged: {problem}",
                "Repair it (sqlite3's .recover), or restore it from an earlier backup.",
            )
        warnings = []
        if orphans:
            warnings.append(f"{orphans} rows refer to rows that do not exist (PRAGMA foreign_key_check)")
        if not facts["tables"]:
            warnings.append("the database has no tables")
        return warnings, facts

    def _looked_into(self, file: PurePath) -> tuple[str, int, Facts]:
        """What SQLite finds wrong with the *file* at rest, rows that refer to nothing, and facts."""
        at_rest = f"file:{file.name}?mode=ro&immutable=1"
        said = self._sqlite(at_rest, _EXAMINE.encode(), cwd=file.parent)
        found, _, rest = said.partition("\n-\n")
        problem = "" if found == "ok" else printable("; ".join(found.splitlines()))[:1000]
        orphans, page_size, *names = rest.split()
        tables = [bytes.fromhex(name).decode(errors="replace") for name in names]
        counts = "".join(
            f"SELECT '{name}', count(*) FROM \"{bytes.fromhex(name).decode().replace(chr(34), chr(34) * 2)}\";\n"  # noqa: S608
            for name in names
        )
        rows: dict[str, JsonValue] = {}
        if counts and not problem:  # a virtual table of a module that only the app has cannot be counted
            for line in self._sqlite(at_rest, counts.encode(), cwd=file.parent, bail=False).splitlines():
                name, _, count = line.partition("|")
                rows[bytes.fromhex(name).decode(errors="replace")] = int(count)
        return problem, int(orphans), {"tables": len(tables), "rows": rows, "page_size": int(page_size)}

    def _proven(self, new: PurePath, content: Content) -> Facts:
        try:
            problem, _, facts = self._looked_into(new)
        except SourceError as error:
            if isinstance(error, Transient):
                raise
            problem, facts = error.message, {}
        if not problem and facts["rows"] != content.artifact.facts.get("rows", facts["rows"]):
            problem = "its tables and rows are not those of its record"
        if problem:
            raise Corrupt(f"the backup of a database for {self.location} is damaged: {problem}", "Restore another one.")
        return facts

    def _quiesce(self) -> None:
        """What is replaced is complete in its one file, with nobody at work in it. See the local one."""
        if self._ask('[ -e "$1" ] && echo yes; :', str(self.path)) != "yes":
            return
        try:
            self._sqlite(str(self.path), _QUIESCE)
        except SourceError as error:
            if isinstance(error, Transient):
                raise
            if not _DAMAGED.search(error.message):
                raise RestoreRefused(
                    f"{self.location} is in use: {error.message}", "Stop the app that uses it."
                ) from error

    def _swap(self, new: PurePath, options: RestoreOptions) -> None:
        try:
            done = self.host.run(apart(_SWAP, str(new), str(self.path), _yes(options.overwrite)))
        except SourceError as error:
            if isinstance(error, Transient):
                raise
            raise RestoreRefused(f"{self.location} cannot be replaced: {error.message}") from error
        self._refuse(done.stdout.decode().strip())

    def _refuse(self, said: str) -> None:
        """Raise what *said*, a word of a script, means; pass where it says nothing."""
        word, _, process = said.partition(" ")
        parent = printable(str(self.path.parent))
        refusals = {
            "orphan": (f"the directory {parent} does not exist", ""),
            "denied": (f"the directory {parent} cannot be written to", ""),
            "odd": (f"{self.location}, or what SQLite keeps beside it, is not a plain file", ""),
            "exists": (
                f"{self.location} exists already",
                "Restore to another path, or allow it to be replaced (--overwrite).",
            ),
            "use": (
                f"{self.location} is in use by process {process}",
                "Stop the app that uses it, or restore to another path.",
            ),
            "came": (f"{self.location} has come to be meanwhile; it was not touched", ""),
        }
        if word:
            raise RestoreRefused(*refusals[word])

    def _sqlite(self, database: str, sql: bytes, *options: str, cwd: PurePath | None = None, bail: bool = True) -> str:
        """What sqlite3 says to *sql*; it reads no start-up file."""
        argv = ("sqlite3", "-batch", "-init", "/dev/null", *(("-bail",) if bail else ()), *options, database)
        ok = frozenset({0} if bail else {0, 1})
        command = Command(argv, cwd=str(cwd) if cwd else None, idle_timeout=None, ok=ok, transient=_BUSY)
        try:
            return self.host.run(command, sql).stdout.decode(errors="replace").rstrip("\n")
        except SourceError as error:
            if _DISTRUST in sql and JSON_UNSAFE.search(error.message):
                return self._sqlite(database, sql.replace(_DISTRUST, b""), *options, cwd=cwd, bail=bail)
            if _FULL.search(error.message):
                raise SpoolError(
                    f"no space is left on {self.host.location} for the copy of {self.location}",
                    "Free space there, or give the server another directory for temporary files.",
                ) from error
            raise

    def _ask(self, script: str, *arguments: str) -> str:
        done = self.host.run(Command(("sh", "-c", script, "sh", *arguments), idle_timeout=None))
        return done.stdout.decode(errors="replace").strip()


def _yes(true: bool) -> str:
    return "yes" if true else "no"
