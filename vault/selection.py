"""Let a part of a tar stream pass: the members at chosen paths, what is below them, and the directories above.

A selection follows a judge, block by block: what it reads is sound. Names are exact, byte by byte; none is a pattern.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import BinaryIO

from vault.archive import READ
from vault.errors import ConfigError, UnsafeArchive, printable
from vault.tar_headers import BLOCK, SPLIT_RECORDS, octal, overridden, padded, shown, take_records, with_records

_HARD_LINK, _SYMLINK, _DIRECTORY, _OLD_SPARSE, _PAX, _LONG_NAME = b"125SxL"
_EXTENSIONS = frozenset(b"xgLK")
_ZERO = bytes(BLOCK)
_ALIKE = 20_000  # names that are compared with one that is missing


def place_of(path: str) -> bytes:
    """The place below a directory that a person means by *path*, as a stream spells it (N03, N04)."""
    place = path.removeprefix("./").removesuffix("/")
    parts = place.split("/")
    if not path or path.startswith("/") or "\0" in place or not {"", ".", ".."}.isdisjoint(parts):
        raise ConfigError(
            f"{printable(path)!r} is not the path of something in the backup",
            "Give it from the backed-up directory on, without '..': --path etc/app.conf",
        )
    return os.fsencode(place)


class Selection:
    """What is chosen of a stream. *moved* is what :attr:`Selection.elsewhere` of an earlier reading said.

    A hard link whose target is not chosen needs the target's data: then the stream has to be read again, and
    the data passes under the name of the first such link. *notice*, where given, hears of each name and its kind.
    """

    def __init__(
        self,
        paths: Iterable[bytes],
        moved: Mapping[bytes, bytes] | None = None,
        notice: Callable[[bytes, int], object] = lambda place, kind: None,
    ) -> None:
        self.paths = tuple(sorted(set(paths)))
        self.elsewhere: dict[bytes, bytes] = {}
        """Where the data of hard links is that could not pass, and the first link to it."""
        self._below = tuple(path + b"/" for path in self.paths)
        self._above = {b"", *(path[:at] for path in self.paths for at in _slashes(path))}
        self._missing = set(self.paths)
        self._moved, self._notice = moved or {}, notice
        self._rest = b""
        self._held = b""  # extended headers of a member that is still to come
        self._pending: dict[bytes, bytes] = {}
        self._skip, self._passes = 0, False  # data of a member: how much is to come, and whether it passes

    def feed(self, data: bytes) -> bytes:
        """What passes of the next bytes of the stream."""
        if self._rest:
            data = self._rest + data
        passed: list[bytes] = []
        position = 0
        while position < len(data):
            step = self._data(data, position, passed) or self._header(data, position, passed)
            if not step:
                break
            position += step
        self._rest = data[position:]
        return b"".join(passed)

    @property
    def missing(self) -> list[bytes]:
        """The chosen paths that have not been seen."""
        return sorted(self._missing)

    def again(self) -> Selection:
        """The selection for the next reading of the same stream."""
        return Selection(self.paths, self.elsewhere, self._notice)

    def _data(self, data: bytes, position: int, passed: list[bytes]) -> int:
        step = min(self._skip, len(data) - position)
        if step and self._passes:
            passed.append(data[position : position + step])
        self._skip -= step
        return step

    def _header(self, data: bytes, position: int, passed: list[bytes]) -> int:
        """Take the header at *position*, and with an extended one its body; 0 when it is not all here."""
        header = data[position : position + BLOCK]
        if len(header) < BLOCK:
            return 0
        if header == _ZERO:
            return BLOCK
        kind, size = header[156], octal(header[124:136])
        if kind not in _EXTENSIONS:
            passed.append(self._member(header, kind, size))
            return BLOCK
        length = BLOCK + padded(size)
        if position + length > len(data):
            return 0
        self._extend(kind, data[position + BLOCK : position + BLOCK + size])
        self._held += data[position : position + length]
        return length

    def _extend(self, kind: int, body: bytes) -> None:
        if kind == _PAX:
            take_records(self._pending, body)
        elif kind in b"LK":
            self._pending[b"path" if kind == _LONG_NAME else b"linkpath"] = body.removesuffix(b"\0")

    def _member(self, header: bytes, kind: int, size: int) -> bytes:
        """What passes of a member before its data."""
        pending, held = self._pending, self._held
        self._pending, self._held = {}, b""
        name = header[:100].partition(b"\0")[0]
        if header[345] and header[257:263] == b"ustar\0":
            name = header[345:500].partition(b"\0")[0] + b"/" + name
        name, size = overridden(pending, name, size)
        place = _normal(name)
        self._notice(place, kind)
        self._skip = padded(size)
        self._passes = self._is_chosen(place) or (kind == _DIRECTORY and place in self._above)
        if place in self._moved:
            self._passes = True
            return _renamed(pending, header, kind, self._moved[place])
        if not self._passes:
            return b""
        if kind == _OLD_SPARSE:
            raise UnsafeArchive(f"{shown(place)} is stored in an old form, of which no part can be taken")
        if kind == _HARD_LINK:
            target = _normal(pending.get(b"linkpath") or header[157:257].partition(b"\0")[0])
            if not self._is_chosen(target):
                return self._link(pending, header, place, target)
        return held + header

    def _link(self, pending: dict[bytes, bytes], header: bytes, place: bytes, target: bytes) -> bytes:
        """What passes of a hard link to something that does not pass itself."""
        first = self._moved.get(target)
        if first is None:
            self.elsewhere.setdefault(target, place)
        if first in (None, place):  # its data is not here, or has passed under its name
            return b""
        return with_records({**pending, b"linkpath": b"./" + (first or b"")}, header)

    def _is_chosen(self, place: bytes) -> bool:
        if not (place + b"/").startswith(self._below):
            return False
        if self._missing:
            self._missing -= {place, *(place[:at] for at in _slashes(place))}
        return True


def _renamed(pending: dict[bytes, bytes], header: bytes, kind: int, place: bytes) -> bytes:
    """The headers of a member as one of the name *place*."""
    if kind in (_HARD_LINK, _OLD_SPARSE) or not SPLIT_RECORDS.isdisjoint(pending):
        raise UnsafeArchive(f"{shown(place)} is stored in an old form, of which no part can be taken")
    name = b"GNU.sparse.name" if b"GNU.sparse.name" in pending else b"path"
    return with_records({**pending, name: b"./" + place}, header)


def _normal(name: bytes) -> bytes:
    """The place that a name means, of which the judge has found that it is in normal form."""
    return b"" if name in (b".", b"./") else name.removeprefix(b"./").removesuffix(b"/")


def _slashes(place: bytes) -> list[int]:
    return [at for at, letter in enumerate(place) if letter == ord("/")]


def why_missing(stream: BinaryIO, place: bytes) -> str:
    """What a person may have meant by *place*, which *stream* does not have; empty where nothing is near."""
    parent, _, name = place.rpartition(b"/")
    links: list[bytes] = []
    near: dict[str, bytes] = {}

    def notice(found: bytes, kind: int) -> None:
        if kind == _SYMLINK and place.startswith(found + b"/"):
            links.append(found)
        above, _, last = found.rpartition(b"/")
        if len(near) < _ALIKE and (above == parent or last.lower() == name.lower()):
            near[os.fsdecode(last if above == parent else found)] = found

    every = Selection((), notice=notice)
    while data := stream.read(READ):
        every.feed(data)
    if links:
        return f"{_quoted(links[0])} is a symbolic link there: give the path to which it leads."
    wanted = os.fsdecode(name)
    same = [text for text in near if text.rpartition("/")[2].lower() == wanted.lower()]
    alike = [*same, *(text for text in difflib.get_close_matches(wanted, near) if text not in same)]
    return f"Near it is: {', '.join(_quoted(near[text]) for text in alike[:3])}." if alike else ""


def _quoted(place: bytes) -> str:
    return repr(printable(os.fsdecode(place)))
