"""The table of contents of an archive of pg_dump (custom format): its entries, and what each one needs.

``pg_restore --list`` cannot tell a space in a name from one between two names, and does not say what an entry needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vault.errors import Corrupt, RestoreRefused

_MAGIC = b"PGDMP"
_CUSTOM_FORMAT = 1
_KNOWN = range((1 << 8) + 12, (1 << 8) + 17)  # 1.12 (PostgreSQL 9.0) to 1.16 (17 and 18)
_WITH_ACCESS_METHOD, _WITH_ALGORITHM, _WITH_RELATION_KIND = (1 << 8) + 14, (1 << 8) + 15, (1 << 8) + 16
_MOMENT = 7  # the integers of a struct tm


@dataclass(frozen=True)
class Entry:
    """One entry: its number, what it is (``TABLE``, ``INDEX`` …), whose, and the numbers of what it needs."""

    id: int
    kind: str
    schema: str
    name: str
    needs: tuple[int, ...]

    @property
    def shown(self) -> str:
        """What it is, for a person."""
        return f"{self.kind} {self.schema}.{self.name}" if self.schema else f"{self.kind} {self.name}"


def contents_of(file: Path) -> tuple[Entry, ...]:
    """The entries of the archive in *file*, in its order."""
    with file.open("rb") as stream:
        return tuple(_Reader(stream).entries())


class _Reader:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        if self._take(len(_MAGIC)) != _MAGIC:
            raise RestoreRefused(
                "the dump is an SQL script, from which no table can be taken alone",
                "Restore all of it into a database of another name, and take the table from there: "
                "pg_dump --table=NAME OTHER_DATABASE | psql DATABASE",
            )
        major, minor, _, self._integer_size, self._offset_size, form = self._take(6)
        self._version = (major << 8) + minor
        if self._version not in _KNOWN or form != _CUSTOM_FORMAT:
            raise RestoreRefused(
                f"the dump is an archive of version {major}.{minor}, of which we cannot take a table alone",
                "Restore all of it into a database of another name, and take the table from there.",
            )

    def entries(self) -> list[Entry]:
        if self._version >= _WITH_ALGORITHM:
            self._take(1)
        else:
            self._integer()
        for _ in range(_MOMENT):
            self._integer()
        for _ in ("database", "server version", "pg_dump version"):
            self._text()
        return [self._entry() for _ in range(self._integer())]

    def _entry(self) -> Entry:
        number = self._integer()
        self._integer()  # whether it has data
        self._skip(2)  # the object's number in the database
        name, kind = self._text(), self._text()
        self._integer()  # its section
        self._skip(3)  # how to make it, drop it, copy into it
        schema = self._text()
        self._skip(2 if self._version >= _WITH_ACCESS_METHOD else 1)  # table space and access method
        if self._version >= _WITH_RELATION_KIND:
            self._integer()
        self._skip(2)  # its owner, and a word of older times
        needs = []
        while need := self._text():
            needs.append(int(need))
        self._take(1 + self._offset_size)
        return Entry(number, kind, schema, name, tuple(needs))

    def _skip(self, count: int) -> None:
        for _ in range(count):
            self._text()

    def _text(self) -> str:
        """A string; empty where there is none."""
        size = self._integer()
        return self._take(size).decode(errors="surrogateescape") if size > 0 else ""

    def _integer(self) -> int:
        negative, *_ = data = self._take(1 + self._integer_size)
        number = int.from_bytes(data[1:], "little")
        return -number if negative else number

    def _take(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:
            raise Corrupt("the dump ends within its table of contents")
        return data
