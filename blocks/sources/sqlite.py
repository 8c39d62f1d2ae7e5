"""SQLite databases: copied by SQLite itself while they are in use, and proven by its integrity check."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import ClassVar

from pydantic import Field, HttpUrl, field_validator

from blocks.look import DOCUMENTATION_URL, LOGO_URL
from blocks.servers import LocalServer
from blocks.sources.base import AbsolutePath, Category, Content, Dump, Facts, RestoreOptions, Source
from blocks.sources.sqlite_file import as_ours, connect, copy_of, examined
from blocks.sources.sqlite_shell import ShellSqlite
from blocks.sources.sqlite_target import fill, new_file, proven, refuse_if_in_use, sides, swap
from vault.errors import (
    IncompleteDump,
    RestoreRefused,
    SourceError,
    printable,
)
from vault.milestone import milestone

MAGIC = b"SQLite format 3\0"


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
        """The path, and on which server."""
        return self.placed(printable(str(self.path)))

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file, and those that SQLite keeps beside it."""
        return () if self._far else (self.path, *sides(self.path))

    @property
    def _far(self) -> ShellSqlite | None:
        """The database where it is not on this machine."""
        here = isinstance(self.server, LocalServer)
        return None if here else ShellSqlite(self.server, self.path, self.location)

    def check(self) -> str:
        """The file is there and is a database that can be read."""
        if self._far:
            return self._far.check()
        with self._opened() as source:
            source.execute("SELECT count(*) FROM sqlite_master")
        return f"SQLite {sqlite3.sqlite_version}"

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """See ``Source.dump``. SQLite makes a copy from one transaction, which its own check then proves."""
        if self._far:
            with self._far.dump() as dump:
                yield dump
            return
        with self.server.private_directory() as directory:
            copy = Path(directory / "copy.sqlite")
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
        if self._far:
            self._far.check_target(options)
            return
        parent = self.path.parent
        if not parent.is_dir():
            raise RestoreRefused(f"the directory {printable(str(parent))} does not exist")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise RestoreRefused(f"the directory {printable(str(parent))} cannot be written to")
        there = [path for path in (self.path, *sides(self.path)) if os.path.lexists(path)]
        for path in there:
            if not stat.S_ISREG(path.lstat().st_mode):
                raise RestoreRefused(f"{printable(str(path))} is not a plain file")
        if there and not options.overwrite:
            raise RestoreRefused(
                f"{printable(str(there[0]))} exists already",
                "Restore to another path, or allow it to be replaced (--overwrite).",
            )
        refuse_if_in_use(there)

    def restore(self, content: Content, options: RestoreOptions) -> Facts:
        """See ``Source.restore``. The file is complete and checked before it gets its name."""
        if self._far:
            return self._far.restore(content, options)
        self.check_target(options)
        with new_file(self.path) as new:
            fill(new, content)
            facts = proven(new, content, self.location)
            milestone("restore:before-swap")
            swap(new, self.path, options)
        milestone("restore:after-swap")
        return facts

    @contextmanager
    def scratch(self) -> Iterator[SqliteDatabase]:
        """A file in a private directory, removed at exit."""
        with self.server.private_directory() as directory:
            yield SqliteDatabase(server=self.server, path=Path(directory / "scratch.sqlite"))

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
