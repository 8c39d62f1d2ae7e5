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

_NAME = "[a-z0-9][a-z0-9-]{0,62}"
NAME = re.compile(_NAME)
NAME_PATTERN = f"^{_NAME}$"  # for a field of pydantic
PATH_PATTERN = r"^[/.~][^\x00]*$"
PLACE_PATTERN = rf"^(?:[/.~][^\x00]*|(?:[a-z0-9-]+/)?{_NAME})$"  # a path, or what is saved: its name, or slug/name
KEY = re.compile(_NAME + "/[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_NAMED = re.compile(f"({_NAME})=(.+)", re.DOTALL)
REFERENCE_PATTERN = "^[0-9A-Za-z-]{1,40}$"
PARTIAL_SUFFIX = ".partial"


def check_name(name: str, what: str) -> str:
    """*name*, when it may name an app, a source or a destination (law 9); else ``ConfigError``."""
    if NAME.fullmatch(name):
        return name
    raise ConfigError(
        f"{what} {printable(name)[:80]!r} is not a valid name",
        "Use 1 to 63 of a-z, 0-9 and '-', beginning with a letter or a digit.",
    )


def check_reference(text: str) -> str:
    """*text*, when it may be ``latest``, the id of a backup or a part of one; else ``ConfigError``."""
    if re.fullmatch(REFERENCE_PATTERN, text):
        return text
    raise ConfigError(f"{printable(text)[:80]!r} is not the id of a backup", "See `backups list`.")


def split_named(text: str) -> tuple[str, str]:
    """``NAME=rest`` as its two parts; the name is empty where *text* begins with none."""
    named = _NAMED.fullmatch(text)
    return (named[1], named[2]) if named else ("", text)


def is_path(text: str) -> bool:
    """Whether *text* is a path and no name: names never begin with ``/``, ``.`` or ``~``."""
    return text.startswith(("/", ".", "~"))


def absolute(path: str) -> str:
    """*path* from the root, without ``..`` and with ``~`` as the shell has it."""
    return os.path.abspath(os.path.expanduser(path))


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
    """A digest that the far side computed from what it stores; *value* in lower-case hex.

    ``etag`` is S3's: the MD5 of an object that was put whole, or the MD5 of its parts' MD5s, ``-`` and their number.
    """

    algorithm: Literal["sha256", "md5", "etag"]
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
    @property
    def readers(self) -> int: ...
    def upload(self, key: str, resume: str | None = None) -> StoreUpload: ...
    def open(self, key: str, offset: int = 0) -> AbstractContextManager[BinaryIO]: ...
    def stat(self, key: str) -> StoredObject: ...
    def list(self, prefix: str) -> Iterator[StoredObject]: ...
    def remove(self, key: str) -> None: ...
    def digest(self, key: str) -> Digest | None: ...
    def kept_until(self, key: str) -> datetime | None: ...
