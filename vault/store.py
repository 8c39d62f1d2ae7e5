"""What the vault needs of a destination, as types: keys, stored objects, digests, and the Store itself."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Literal, Protocol

from vault.errors import ConfigError, printable
from vault.spool import Segment

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,62}/[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
PARTIAL_SUFFIX = ".partial"


def check_name(name: str, what: str) -> str:
    """*name*, when it may name an app, a source or a destination (law 9); else ``ConfigError``."""
    if NAME.fullmatch(name):
        return name
    raise ConfigError(
        f"{what} {printable(name)[:80]!r} is not a valid name",
        "Use 1 to 63 of a-z, 0-9 and '-', beginning with a letter or a digit.",
    )


def is_path(text: str) -> bool:
    """Whether *text* is a path and no name: names never begin with ``/``, ``.`` or ``~``."""
    return text.startswith(("/", ".", "~"))


def absolute(path: str) -> str:
    """*path* from the root, without ``..`` and with ``~`` as the shell has it."""
    return os.path.abspath(os.path.expanduser(path))


def refuse_password(url: str) -> None:
    """Pass unless *url* holds a password: it would be seen in the process list, and stored as a parameter."""
    if re.match(r"[a-z]+://[^/@]*:[^/]*@", url) or "password=" in url:
        raise ConfigError(
            "a password in a URL can be seen by others on this machine",
            "Leave it out: put it into ~/.pgpass, or save the source (`backups source add`), which asks for it.",
        )


def is_key(key: str) -> bool:
    """Whether *key* is one that we could have written: used on what goes in and on what a listing gives."""
    return KEY.fullmatch(key) is not None and not key.endswith(PARTIAL_SUFFIX)


def check_key(key: str) -> str:
    """*key*, when it is ``app/name`` in our alphabet; else ``ConfigError``."""
    if is_key(key):
        return key
    raise ConfigError(f"{printable(key)[:120]!r} is not a valid key for an object")


def check_prefix(prefix: str) -> str:
    """*prefix*, when it is ``""`` or ``app/``: a listing of ``shop/`` never sees ``shop-2/`` (N10)."""
    if prefix and not prefix.endswith("/"):
        raise ConfigError(f"{printable(prefix)[:80]!r} is not a valid prefix", "Give '' or 'app/'.")
    if prefix:
        check_name(prefix[:-1], "app")
    return prefix


@dataclass(frozen=True)
class StoredObject:
    """An object as its destination reports it; *modified* is the destination's clock, UTC."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Digest:
    """A digest that the far side computed from what it stores; *value* in lower-case hex."""

    algorithm: Literal["sha256"]
    value: str


class StoreUpload(Protocol):
    """See ``blocks.destinations.base.Upload``."""

    def append(self, segment: Segment) -> None: ...
    def commit(self) -> StoredObject: ...
    def abort(self) -> None: ...


class Store(Protocol):
    """See ``blocks.destinations.base.Destination``, which keeps these promises."""

    @property
    def location(self) -> str: ...
    def upload(self, key: str, resume: str | None = None) -> StoreUpload: ...
    def open(self, key: str, offset: int = 0) -> AbstractContextManager[BinaryIO]: ...
    def stat(self, key: str) -> StoredObject: ...
    def list(self, prefix: str) -> Iterator[StoredObject]: ...
    def remove(self, key: str) -> None: ...
    def digest(self, key: str) -> Digest | None: ...
