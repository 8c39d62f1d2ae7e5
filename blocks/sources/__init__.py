"""What is backed up: one file per kind. Also what a person types for a source or a target, and what it means."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from blocks.sources.base import Content, Dump, RestoreOptions, Source
from blocks.sources.directory import Directory
from blocks.sources.postgres import PostgresDatabase
from blocks.sources.sqlite import SqliteDatabase
from vault.errors import ConfigError, printable

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
    scheme = urlsplit(text).scheme if "://" in text else ""
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
    if path.is_dir():
        return Directory(path=path)
    if not path.exists():
        raise ConfigError(f"source {path} does not exist", "Give an existing directory or SQLite file.")
    with path.open("rb") as file:
        if path.stat().st_size and file.read(len(_SQLITE_MAGIC)) != _SQLITE_MAGIC:
            raise ConfigError(
                f"source {path} is neither a directory nor an SQLite database",
                "To back up single files, give the directory they lie in.",
            )
    return SqliteDatabase(path=path)


def target_for(kind: str, text: str, below: str | None = None) -> Source:
    """The target that *text* means for an artifact of *kind*; with *below*, the place of that name in *text*."""
    is_url = text.split("://")[0] in _POSTGRES
    if kind == PostgresDatabase.kind:
        if not is_url or below is not None:
            raise ConfigError(
                f"a PostgreSQL database goes to a database, not to {printable(text)}",
                f"Give --to {below + '=' if below else ''}postgresql://user@host/database.",
            )
        return PostgresDatabase.from_url(text)
    if is_url:
        raise ConfigError(f"{printable(text)} cannot take a {kind}", f"Give --to {below or 'NAME'}=PATH for it.")
    path = _path(text.removeprefix("sqlite://"))
    if kind == SqliteDatabase.kind:
        if below is not None or path.is_dir() or text.endswith("/"):
            path = path / f"{below or 'database'}.sqlite"
        return SqliteDatabase(path=path)
    if kind == Directory.kind:
        return Directory(path=path / below if below else path)
    raise ConfigError(f"this version cannot restore a {printable(kind)!r}", "Update prefect-backups.")


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


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
