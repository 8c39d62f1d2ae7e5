"""The file to which an SQLite database is restored on this machine: made beside it, proven, and swapped in."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from blocks.sources.base import Content, Facts, RestoreOptions
from blocks.sources.sqlite_file import AT_REST, connect, facts_of, problem_of
from vault.errors import Corrupt, RestoreRefused, printable

SIDES = ("-wal", "-shm", "-journal")
_BLOCK = 8 * 1024 * 1024


def sides(path: Path) -> list[Path]:
    """What SQLite may keep beside the file at *path*; next to another file it would damage that."""
    return [path.with_name(path.name + side) for side in SIDES]


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """A new file (0600) in the directory of *target*, gone at exit. Removes what killed restores have left."""
    prefix = f".prefect-backups-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}."
    try:
        for left in target.parent.iterdir():
            if left.name.startswith(prefix) and _is_abandoned(left):
                left.unlink(missing_ok=True)
        fd, name = tempfile.mkstemp(prefix=prefix, dir=target.parent)
    except OSError as error:
        raise RestoreRefused(f"{printable(str(target.parent))} cannot be written to: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # says that this restore lives
        yield Path(name)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)
        os.close(fd)


def _is_abandoned(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def fill(new: Path, content: Content) -> None:
    """Write the whole content to *new*, durably; reading it to its end proves it."""
    with content.open() as source:
        try:
            with open(new, "r+b") as file:
                shutil.copyfileobj(source, file, _BLOCK)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RestoreRefused(
                f"the database cannot be written to {printable(str(new.parent))}: {error.strerror}; "
                "what was there is untouched",
                "Free space there, or restore to another path.",
            ) from error


def proven(new: Path, content: Content, location: str) -> Facts:
    """Facts of the file, once SQLite's own check and the record agree with it; else ``Corrupt``."""
    try:
        with closing(connect(new, AT_REST)) as database:
            problem = problem_of(database, [])
            facts = {} if problem else facts_of(database)
    except sqlite3.DatabaseError as error:
        problem, facts = printable(str(error)), {}
    recorded = content.artifact.facts.get("rows", facts.get("rows"))
    if not problem and facts["rows"] != recorded:
        problem = "its tables and rows are not those of its record"
    if problem:
        raise Corrupt(f"the backup of a database for {location} is damaged: {problem}", "Restore another one.")
    return facts


def swap(new: Path, target: Path, options: RestoreOptions) -> None:
    """Give *new* the name of the target. Never replaces what is not allowed to be."""
    try:
        if not options.overwrite:
            os.link(new, target, follow_symlinks=False)
        else:
            if os.path.lexists(target):
                _quiesce(target)
                shutil.copymode(target, new, follow_symlinks=False)
                owner = target.stat(follow_symlinks=False)
                os.chown(new, owner.st_uid, owner.st_gid)
            for side in sides(target):
                side.unlink(missing_ok=True)
            os.rename(new, target)
        fd = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except FileExistsError as error:
        raise RestoreRefused(f"{printable(str(target))} has come to be meanwhile; it was not touched") from error
    except OSError as error:
        raise RestoreRefused(f"{printable(str(target))} cannot be replaced: {error.strerror}") from error


def _quiesce(target: Path) -> None:
    """Have the database that is replaced complete in its one file, with nobody at work in it.

    Its write-ahead log or journal must not be left to damage the new one, nor be dropped while the old is
    still there. A file that is no database has neither.
    """
    refuse_if_in_use([target, *sides(target)])
    try:
        with closing(connect(target, "mode=rw")) as old:
            old.execute("PRAGMA busy_timeout = 0")
            old.execute("PRAGMA locking_mode = EXCLUSIVE")
            old.execute("BEGIN EXCLUSIVE")
            old.execute("COMMIT")
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise RestoreRefused(
                f"{printable(str(target))} is in use: {printable(str(error))}", "Stop the app that uses it."
            ) from error


def refuse_if_in_use(paths: list[Path]) -> None:
    """Raise where a process that we can see has one of *paths* open: it would go on with the replaced file."""
    wanted = {(found.st_dev, found.st_ino) for path in paths if (found := _stat(str(path)))}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):  # it has ended, or is not ours to look at
            for fd in os.scandir(f"/proc/{pid}/fd"):
                found = _stat(fd.path)
                if found and (found.st_dev, found.st_ino) in wanted:
                    raise RestoreRefused(
                        f"{printable(str(paths[0]))} is in use by process {pid}",
                        "Stop the app that uses it, or restore to another path.",
                    )


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None
