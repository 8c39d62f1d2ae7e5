"""SQLite databases: copied by SQLite itself while they are in use, and proven by its integrity check."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from pydantic import Field, HttpUrl, field_validator

from blocks.look import DOCUMENTATION_URL, LOGO_URL
from blocks.sources.base import AbsolutePath, Category, Content, Dump, Facts, RestoreOptions, Source
from blocks.sources.sqlite_file import AT_REST, as_ours, connect, copy_of, examined, facts_of, problem_of
from vault.errors import (
    Corrupt,
    IncompleteDump,
    RestoreRefused,
    SourceError,
    printable,
)
from vault.milestone import milestone

MAGIC = b"SQLite format 3\0"
SIDES = ("-wal", "-shm", "-journal")
_BLOCK = 8 * 1024 * 1024


class SqliteDatabase(Source):
    """
    An SQLite database: a file that may be written to while it is backed up.

    Writers go on in WAL mode; in the other modes they wait while the copy is made.

    Attributes:
        path: The database file, as an absolute path.

    Example:
        Load a database and check it:
        ```python
        from blocks import SqliteDatabase

        database = SqliteDatabase.load("BLOCK_NAME")
        database.check()
        ```
    """

    kind: ClassVar[str] = "sqlite"
    category: ClassVar[Category] = "database"

    _block_type_name: ClassVar[str | None] = "SQLite Database"
    _block_type_slug: ClassVar[str | None] = "sqlite-database"
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL

    path: AbsolutePath = Field(description="The database file, as an absolute path.")

    @field_validator("path")
    @classmethod
    def _is_a_file(cls, path: Path) -> Path:
        if not path.name:
            raise ValueError("must be the path of a file")
        return path

    @property
    def location(self) -> str:
        """The path."""
        return printable(str(self.path))

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file, and those that SQLite keeps beside it."""
        return (self.path, *_sides(self.path))

    def check(self) -> str:
        """The file is there and is a database that can be read."""
        with self._opened() as source:
            source.execute("SELECT count(*) FROM sqlite_master")
        return f"SQLite {sqlite3.sqlite_version}"

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """See ``Source.dump``. SQLite makes a copy from one transaction, which its own check then proves."""
        with self.server.private_directory() as directory:
            copy = directory / "copy.sqlite"
            with self._opened() as source:
                copy_of(source, copy, self.location)
            warnings, facts = examined(copy, self.location)
            with open(copy, "rb", buffering=0) as stream:
                yield Dump(
                    stream,
                    "sqlite",
                    f"SQLite {sqlite3.sqlite_version}",
                    "cat > TARGET && sqlite3 TARGET 'PRAGMA integrity_check'",
                    warnings,
                    facts,
                )
                if stream.read(1):
                    raise IncompleteDump(f"the copy of {self.location} was not read to its end")

    def check_target(self, options: RestoreOptions) -> None:
        """See ``Source.check_target``."""
        parent = self.path.parent
        if not parent.is_dir():
            raise RestoreRefused(f"the directory {printable(str(parent))} does not exist")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise RestoreRefused(f"the directory {printable(str(parent))} cannot be written to")
        there = [path for path in self.paths if os.path.lexists(path)]
        for path in there:
            if not stat.S_ISREG(path.lstat().st_mode):
                raise RestoreRefused(f"{printable(str(path))} is not a plain file")
        if there and not options.overwrite:
            raise RestoreRefused(
                f"{printable(str(there[0]))} exists already",
                "Restore to another path, or allow it to be replaced (--overwrite).",
            )
        _refuse_if_in_use(there)

    def restore(self, content: Content, options: RestoreOptions) -> Facts:
        """See ``Source.restore``. The file is complete and checked before it gets its name."""
        self.check_target(options)
        with _new_file(self.path) as new:
            _fill(new, content)
            facts = _proven(new, content, self.location)
            milestone("restore:before-swap")
            _swap(new, self.path, options)
        milestone("restore:after-swap")
        return facts

    @contextmanager
    def scratch(self) -> Iterator[SqliteDatabase]:
        """A file in a private directory, removed at exit."""
        with self.server.private_directory() as directory:
            yield SqliteDatabase(server=self.server, path=directory / "scratch.sqlite")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The database, open for reading only: what does not exist is not made."""
        try:
            if not stat.S_ISREG(self.path.stat().st_mode):  # opening a FIFO would hang
                raise SourceError(f"{self.location} is not a file")
            with open(self.path, "rb") as file:
                head = file.read(len(MAGIC))
        except OSError as error:
            raise SourceError(f"the database {self.location} cannot be read: {error.strerror}") from error
        if head != MAGIC:
            what = "is empty" if not head else "is not an SQLite database"
            raise SourceError(f"{self.location} {what}")
        try:
            with closing(connect(self.path, "mode=ro")) as source:
                yield source
        except sqlite3.DatabaseError as error:
            raise as_ours(error, self.location) from error


def _sides(path: Path) -> list[Path]:
    """What SQLite may keep beside the file at *path*; next to another file it would damage that."""
    return [path.with_name(path.name + side) for side in SIDES]


@contextmanager
def _new_file(target: Path) -> Iterator[Path]:
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


def _fill(new: Path, content: Content) -> None:
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


def _proven(new: Path, content: Content, location: str) -> Facts:
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


def _swap(new: Path, target: Path, options: RestoreOptions) -> None:
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
            for side in _sides(target):
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
    _refuse_if_in_use([target, *_sides(target)])
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


def _refuse_if_in_use(paths: list[Path]) -> None:
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
