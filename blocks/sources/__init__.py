"""What is backed up: one file per kind. Also what a person types for a source or a target, and what it means."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Annotated

from pydantic import Field

from blocks.docker.engine import docker_name
from blocks.sources import mysql, postgres
from blocks.sources.base import Content, Dump, RestoreOptions, Source
from blocks.sources.directory import Directory
from blocks.sources.docker_volume import DockerVolume
from blocks.sources.mysql import MySQLDatabase
from blocks.sources.postgres import PostgresDatabase
from blocks.sources.redis import RedisDatabase
from blocks.sources.redis_file import RedisFile
from blocks.sources.sqlite import SqliteDatabase
from vault.errors import ConfigError, printable
from vault.store import absolute
from vault.urls import refuse_password, scheme_of

SOURCES: dict[str, type[Source]] = {
    "postgres-database": PostgresDatabase,
    "mysql-database": MySQLDatabase,
    "redis-server": RedisDatabase,
    "sqlite-database": SqliteDatabase,
    "directory": Directory,
    "docker-volume": DockerVolume,
}
"""Every kind, by its block type's slug."""

VOLUME = "docker-volume:"
"""What a person types before the name of a Docker volume."""

_SQLITE_MAGIC = b"SQLite format 3\0"
_DATABASES: dict[str, type[PostgresDatabase] | type[MySQLDatabase] | type[RedisDatabase]] = {
    "postgresql": PostgresDatabase,
    "postgres": PostgresDatabase,
    "mysql": MySQLDatabase,
    "mariadb": MySQLDatabase,
    "redis": RedisDatabase,
    "rediss": RedisDatabase,
}
"""The databases that lie behind a URL, by its scheme."""
_KINDS_OF_URL = (
    (PostgresDatabase, "PostgreSQL", "postgresql://user@host/database"),
    (MySQLDatabase, "MySQL", "mysql://user@host/database"),
)

_PARAMETER = "|".join(sorted({"ca_file", *mysql.PARAMETERS, *postgres.PARAMETERS}))
_URL = (
    r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^:@/?#\s]*@)?(?:\[[0-9A-Za-z:.%]*\]|[^:@/?#\[\]\s]*)(?::[0-9]*)?(?:/[^@?#\s]*)?"
    rf"(?:\?(?:{_PARAMETER})=[^&@#\s]*(?:&(?:{_PARAMETER})=[^&@#\s]*)*)?"
)
TARGET_PATTERN = rf"^(?:(?:sqlite://)?[/.~][^\x00]*|{VOLUME}[A-Za-z0-9][A-Za-z0-9_.-]*|{_URL})$"
Target = Annotated[str, Field(pattern=TARGET_PATTERN)]
"""A target as a parameter of a flow: nothing that a password can be in, for Prefect stores and shows it (law 10)."""


def source_from(text: str) -> Source:
    """The source that *text* means: ``postgresql://…``, ``redis://…``, ``docker-volume:NAME``, a file or directory."""
    scheme = scheme_of(text)
    if scheme in _DATABASES:
        return _DATABASES[scheme].from_url(text)
    if text.startswith(VOLUME):
        return _volume(text)
    if scheme == "sqlite":
        return SqliteDatabase(path=_path(text.removeprefix("sqlite://")))
    if scheme:
        raise ConfigError(
            f"a source cannot be of the kind {printable(scheme)!r}",
            "Give postgresql://user@host/database, mysql://user@host/database, redis://user@host, "
            "docker-volume:NAME, an SQLite file or a directory.",
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
    behind = _DATABASES.get(scheme_of(text))
    for database, name, form in _KINDS_OF_URL:
        if kind == database.kind:
            if behind is not database or below is not None:
                raise ConfigError(
                    f"a {name} database goes to a database of its kind, not to {_shown(text)}",
                    f"Give --to {below + '=' if below else ''}{form}.",
                )
            return database.from_url(text)
    if text.startswith(VOLUME) and below is None and kind in (Directory.kind, DockerVolume.kind):
        return _volume(text)
    if kind == RedisDatabase.kind and behind is RedisDatabase:
        return RedisDatabase.from_url(text)
    if behind or text.startswith(VOLUME):
        raise ConfigError(f"{_shown(text)} cannot take a {kind}", f"Give --to {below or 'NAME'}=PATH for it.")
    path = _path(text.removeprefix("sqlite://"))
    in_directory = below is not None or path.is_dir() or text.endswith("/")
    if kind == SqliteDatabase.kind:
        return SqliteDatabase(path=path / f"{below or 'database'}.sqlite" if in_directory else path)
    if kind == RedisDatabase.kind:
        return RedisFile(path=path / f"{below or 'dump'}.rdb" if in_directory else path)
    if kind in (Directory.kind, DockerVolume.kind):  # the same tar
        return Directory(path=path / below if below else path)
    raise ConfigError(f"this version cannot restore a {printable(kind)!r}", "Update prefect-backups.")


def check_target(text: str) -> str:
    """*text*, when it can be a target of some kind: looked at before it becomes a parameter of a run.

    ``ConfigError`` where it cannot, or has a password in it; nothing of one is quoted.
    """
    refuse_password(text)
    scheme = scheme_of(text)
    if scheme in _DATABASES:
        _DATABASES[scheme].from_url(text)
    elif text.startswith(VOLUME):
        _volume(text)
    known = scheme in ("", "sqlite", *_DATABASES)
    if not (known and re.fullmatch(TARGET_PATTERN, text)):
        raise ConfigError(
            f"{_shown(text)[:200]} is neither a path, a URL nor {VOLUME}NAME",
            "Give a whole path such as /srv/restored, postgresql://user@host/database, mysql://user@host/database, or "
            f"{VOLUME}NAME.",
        )
    return text


def _volume(text: str) -> DockerVolume:
    return DockerVolume(volume=docker_name(text.removeprefix(VOLUME)))


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
    "DockerVolume",
    "Dump",
    "MySQLDatabase",
    "PostgresDatabase",
    "RedisDatabase",
    "RedisFile",
    "RestoreOptions",
    "Source",
    "SqliteDatabase",
    "Target",
    "check_target",
    "source_from",
    "target_for",
]
