"""What is backed up: one file per kind. Also what a person types for a source or a target, and what it means."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from blocks.sources.base import Content, Dump, RestoreOptions, Source
from blocks.sources.directory import Directory
from blocks.sources.postgres import PostgresDatabase
from blocks.sources.sqlite import SqliteDatabase
from vault.errors import ConfigError, printable
from vault.store import absolute

SOURCES: dict[str, type[Source]] = {
    "postgres-database": PostgresDatabase,
    "sqlite-database": SqliteDatabase,
    "directory": Directory,
}
"""Every kind, by its block type's slug."""

_SQLITE_MAGIC = b"SQLite format 3\0"
_POSTGRES = ("postgresql", "postgres")


def source_from(text: str) -> Source:
    """The source that *text* means: ``postgresql://user@host/db``, an SQLite file, or a directory."""
    scheme = _scheme(text)
    if scheme in _POSTGRES:
        return PostgresDatabase.from_url(text)
    if scheme == "sqlite":
        return SqliteDatabase(path=_path(text.removeprefix("sqlite://")))
    if scheme:
        raise ConfigError(
            f"a source cannot be of the kind {printable(scheme)!r}",
            "Give postgresql://user@host/database, an SQLite file or a directory.",
        )
    path = _path(text)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return Directory(path=path)
        if not _may_be_sqlite(path, status):
            raise ConfigError(
                f"source {path} is neither a directory nor an SQLite database",
                "To back up single files, give the directory they lie in.",
            )
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"source {path} does not exist", "Give an existing directory or SQLite file.") from None
    except OSError as error:
        raise ConfigError(
            f"source {path} cannot be read: {error.strerror}",
            "Give the user who backs up the right to read it, or run as a user who has it.",
        ) from error
    return SqliteDatabase(path=path)


def target_for(kind: str, text: str, below: str | None = None) -> Source:
    """The target that *text* means for an artifact of *kind*; with *below*, the place of that name in *text*."""
    is_url = _scheme(text) in _POSTGRES
    if kind == PostgresDatabase.kind:
        if not is_url or below is not None:
            raise ConfigError(
                f"a PostgreSQL database goes to a database, not to {_shown(text)}",
                f"Give --to {below + '=' if below else ''}postgresql://user@host/database.",
            )
        return PostgresDatabase.from_url(text)
    if is_url:
        raise ConfigError(f"{_shown(text)} cannot take a {kind}", f"Give --to {below or 'NAME'}=PATH for it.")
    path = _path(text.removeprefix("sqlite://"))
    if kind == SqliteDatabase.kind:
        if below is not None or path.is_dir() or text.endswith("/"):
            path = path / f"{below or 'database'}.sqlite"
        return SqliteDatabase(path=path)
    if kind == Directory.kind:
        return Directory(path=path / below if below else path)
    raise ConfigError(f"this version cannot restore a {printable(kind)!r}", "Update prefect-backups.")


def _scheme(text: str) -> str:
    """The kind of URL that *text* is; empty where it is none."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    return match[1].lower() if match else ""


def _shown(text: str) -> str:
    """*text* as it may be quoted: a URL without user and parameters, where passwords are, however odd (law 10)."""
    match = re.match(r"([A-Za-z0-9+.-]+:/*)(.*)", text, re.DOTALL)
    if match is None:
        return printable(text)
    before, _, place = match[2].rpartition("@")
    place = "" if "?" in before else re.split("[?#]", place)[0]  # the last @ may be one of a parameter
    return printable(match[1] + (place or "…"))


def _may_be_sqlite(path: Path, status: os.stat_result) -> bool:
    """A regular file, for any other could hang us, that is empty or begins as SQLite's do."""
    if not stat.S_ISREG(status.st_mode):
        return False
    with path.open("rb") as file:
        return not status.st_size or file.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC


def _path(text: str) -> Path:
    return Path(absolute(text))


__all__ = [
    "SOURCES",
    "Content",
    "Directory",
    "Dump",
    "PostgresDatabase",
    "RestoreOptions",
    "Source",
    "SqliteDatabase",
    "source_from",
    "target_for",
]
