"""Judge a tar stream member by member as it passes, or refuse it whole.

The judge reads headers only and believes none of them. It is stricter than the ``tar`` that extracts: where two
readers could understand a header in two ways, it refuses. A member is safe when its name is relative and in
normal form, when it neither replaces nor passes through a link of the archive, and when it is no device. Both are
known before the member's first byte of data is passed on; that no name stands there twice, and that every
hard link has its target, is known at the end.

What is content and stays: where a symbolic link points to (nothing is ever written through it), FIFOs (``tar``
makes them, it never opens them), set-user-id bits, odd modes and owners, control characters in names. A backup
gives back what it took; the record's signature says that it is ours.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from vault.errors import Corrupt, UnsafeArchive
from vault.tar_headers import (
    BLOCK,
    changes_members,
    expected_sum,
    is_only_mtime,
    octal,
    overridden,
    padded,
    shown,
    take_records,
)

READ = 1024 * 1024

_ZERO = bytes(BLOCK)
_MAGICS = _POSIX, _GNU = b"ustar\0", b"ustar "
_BUCKETS = 256

_HARD_LINK, _SYMLINK, _DIRECTORY, _FIFO, _SPARSE = b"1256S"
_FILES = frozenset(b"\x0007S")
_OTHERS = frozenset(b"1256")
_DEVICES = frozenset(b"34")
_EXTENSIONS = frozenset(b"xgLK")
_PAX, _GLOBAL_PAX, _LONG_NAME, _LONG_TARGET = b"xgLK"


@dataclass(frozen=True)
class Limits:
    """How much an archive may be: *members*, *bytes* of the whole stream, of a name, and of one extended header."""

    members: int = 20_000_000
    bytes: int = 2**63 - 1
    name: int = 4095
    component: int = 255
    header: int = 1024 * 1024


@dataclass(frozen=True)
class Verdict:
    """What a sound archive holds.

    *acls* counts the members with an access list; *bytes* is the data of files, without holes, *length* the whole.
    """

    members: int
    files: int
    directories: int
    symlinks: int
    hard_links: int
    fifos: int
    acls: int
    bytes: int
    length: int


def judge(stream: BinaryIO, limits: Limits | None = None) -> Verdict:
    """Read *stream* to its end; raise ``UnsafeArchive`` or ``Corrupt`` where it must not be extracted."""
    judged = Judge(limits)
    while data := stream.read(READ):
        judged.feed(data)
    return judged.finish()


class Judge:
    """The same for a stream that is on its way elsewhere: *feed* each block before it is passed on, then *finish*.

    Memory is 8 bytes a member and about 100 a directory or link. *hollow*, where given, hears of each sparse file
    in which there is nothing but a hole.
    """

    def __init__(self, limits: Limits | None = None, hollow: Callable[[bytes], object] | None = None) -> None:
        self.limits = limits or Limits()
        self._hollow = hollow
        self.bytes = self.length = self._acls = 0
        self._counts = [0] * 256  # by type flag
        self._rest = b""  # the beginning of a header that is not all here
        self._skip = 0  # data still to pass
        self._zeros = 0
        self._after_map: int | None = None  # data that follows the extension blocks of an old sparse header
        self._pending: dict[bytes, bytes] = {}
        self._pending_kinds = b""
        # Names are kept as 64-bit keyed hashes: equal names always collide, others practically never.
        self._names = [array("q") for _ in range(_BUCKETS)]
        self._targets = [array("q") for _ in range(_BUCKETS)]
        self._links: set[int] = set()
        self._directories: dict[int, bool] = {hash(b""): False}  # True when it is a member itself
        self._parent = b""

    def feed(self, data: bytes) -> None:
        """Judge the next bytes of the stream, of any length."""
        self.length += len(data)
        if self.length > self.limits.bytes:
            raise UnsafeArchive(f"the archive is longer than the {self.limits.bytes} bytes that it may have")
        if self._rest:
            data = self._rest + data
        position, end = self._skip, len(data)
        while position + BLOCK <= end:
            step = self._step(data, position)
            if not step:
                break
            position += step
        self._rest = data[position:]
        self._skip = max(0, position - end)
        if sum(self._counts) > self.limits.members:
            raise UnsafeArchive(f"the archive has more than the {self.limits.members} members that it may have")

    def finish(self) -> Verdict:
        """The verdict at the end of the stream."""
        if self._rest or self._skip or self._zeros < 2:
            raise Corrupt("the archive is truncated: its end-of-archive blocks are missing")
        for names, targets in zip(self._names, self._targets, strict=True):
            self._settle(set(names), len(names), set(targets))
        counts = self._counts
        return Verdict(
            members=sum(counts),
            files=sum(counts[kind] for kind in _FILES),
            directories=counts[_DIRECTORY],
            symlinks=counts[_SYMLINK],
            hard_links=counts[_HARD_LINK],
            fifos=counts[_FIFO],
            acls=self._acls,
            bytes=self.bytes,
            length=self.length,
        )

    def _settle(self, names: set[int], count: int, targets: set[int]) -> None:
        if len(names) < count or not names.isdisjoint(self._directories):
            raise UnsafeArchive("the archive has a name twice, or members below something that is no directory")
        if not targets <= names:
            raise UnsafeArchive("the archive has a hard link to something that is not in it")

    def _step(self, data: bytes, position: int) -> int:
        """Judge what begins at *position*; its length with all data, or 0 when more must be seen first."""
        header = data[position : position + BLOCK]
        if self._after_map is not None:
            return self._sparse_extension(header)
        if header == _ZERO:
            return self._end()
        if self._zeros:
            raise Corrupt("the archive goes on after its end")
        if expected_sum(header[148:156]) != zlib.adler32(header) & 0xFFFF:
            raise Corrupt("the archive has a header whose checksum does not fit")
        kind = header[156]
        if kind not in _EXTENSIONS:
            return BLOCK + self._member(header, kind)
        size = octal(header[124:136])
        if size > self.limits.header:
            raise UnsafeArchive(f"the archive has an extended header of {size} bytes")
        length = BLOCK + padded(size)
        if position + length > len(data):
            return 0
        self._extend(kind, data[position + BLOCK : position + BLOCK + size])
        return length

    def _end(self) -> int:
        if self._pending_kinds:
            raise Corrupt("the archive ends after an extended header")
        self._zeros += 1
        return BLOCK

    def _sparse_extension(self, header: bytes) -> int:
        data, self._after_map = self._after_map or 0, None
        if not header[504]:
            return BLOCK + data
        self._after_map = data
        return BLOCK

    # -- extended headers: what they say about the next member

    def _extend(self, kind: int, body: bytes) -> None:
        if kind == _PAX and not self._pending_kinds and is_only_mtime(body):
            self._pending_kinds = b"x"
            return
        if kind == _GLOBAL_PAX:
            if changes_members(body):
                raise UnsafeArchive("the archive has a global header that changes its members")
            return
        if self._pending_kinds and (kind in self._pending_kinds or _PAX in (kind, *self._pending_kinds)):
            raise UnsafeArchive("the archive has two extended headers for one member")
        self._pending_kinds += bytes([kind])
        if kind == _PAX:
            take_records(self._pending, body)
        else:
            self._pending[b"path" if kind == _LONG_NAME else b"linkpath"] = body.removesuffix(b"\0")

    # -- members

    def _member(self, header: bytes, kind: int) -> int:
        """Judge one member; the bytes of data that follow its header."""
        magic = header[257:263]
        if magic not in _MAGICS:
            raise Corrupt("the archive has a member in neither POSIX nor GNU format")
        name, size = header[:100].partition(b"\0")[0], octal(header[124:136])
        if header[345] and magic == _POSIX:
            name = header[345:500].partition(b"\0")[0] + b"/" + name
        pending, self._pending_kinds = self._pending, b""
        if pending:
            self._pending = {}
            name, size = overridden(pending, name, size)
            self._acls += b"SCHILY.acl.access" in pending or b"SCHILY.acl.default" in pending
            # The map alone takes one block: then no data follows it.
            if self._hollow and size <= BLOCK and b"GNU.sparse.name" in pending:
                self._hollow(name)
        self._counts[kind] += 1
        place = self._normal(name)
        if kind in _FILES:
            self._file(name, place, size)
        else:
            self._other(header, kind, name, place, size, pending)
        if kind == _SPARSE:
            return self._old_sparse(header, size)
        return (size + 511) & -512

    def _file(self, name: bytes, place: bytes, size: int) -> None:
        if name.endswith(b"/"):
            raise UnsafeArchive(f"member {shown(name)} is a file with the name of a directory")
        self.bytes += size
        self._place(place)

    def _other(
        self, header: bytes, kind: int, name: bytes, place: bytes, size: int, pending: dict[bytes, bytes]
    ) -> None:
        if kind not in _OTHERS:
            what = "a device" if kind in _DEVICES else f"of the unknown type {shown(bytes([kind]))}"
            raise UnsafeArchive(f"member {shown(name)} is {what}")
        if size:
            raise UnsafeArchive(f"member {shown(name)} has data, which its type cannot have")
        if kind == _DIRECTORY:
            self._directory(place)
        elif kind == _FIFO:
            self._place(place)
        else:
            self._link(kind, place, pending.get(b"linkpath") or header[157:257].partition(b"\0")[0])

    def _old_sparse(self, header: bytes, size: int) -> int:
        if header[257:263] != _GNU:
            raise UnsafeArchive("the archive has a sparse member of an unknown kind")
        if not header[482]:
            return padded(size)
        self._after_map = padded(size)
        return 0

    def _normal(self, name: bytes) -> bytes:
        """*name* without a leading ``./`` and a trailing ``/``: one spelling for each place, ``b""`` for the root."""
        place = name.removeprefix(b"./").removesuffix(b"/")
        framed = b"/" + place + b"/"
        if b"//" in framed or b"/." in framed or b"\0" in framed:
            return self._odd(name, place, framed)
        if len(place) > self.limits.component:
            self._check_length(name, place)
        return place

    def _odd(self, name: bytes, place: bytes, framed: bytes) -> bytes:
        """The same for a name with an odd part: the root, or one with a hidden file in it, or one to refuse."""
        if name in (b".", b"./"):
            return b""
        if b"//" in framed or b"/./" in framed or b"/../" in framed or b"\0" in framed:
            raise UnsafeArchive(f"member {shown(name)} has a name that is not in normal form, or leaves its directory")
        self._check_length(name, place)
        return place

    def _check_length(self, name: bytes, place: bytes) -> None:
        if len(place) > self.limits.name or max(map(len, place.split(b"/"))) > self.limits.component:
            raise UnsafeArchive(f"member {shown(name)} has too long a name")

    def _place(self, place: bytes) -> None:
        """Note *place* as that of no directory; refuse it where it touches a link or a directory of the archive."""
        parent = place.rpartition(b"/")[0]
        if parent != self._parent:
            self._enter(parent)
            self._parent = parent
        mark = hash(place)
        if mark in self._links or mark in self._directories:
            raise UnsafeArchive(f"member {shown(place)} replaces another one of the archive")
        self._names[mark % _BUCKETS].append(mark)

    def _enter(self, place: bytes) -> None:
        """Note *place* and what is above it as directories; a link among them is refused."""
        while (mark := hash(place)) not in self._directories:
            if mark in self._links:
                raise UnsafeArchive(f"the archive has members that pass through the link {shown(place)}")
            self._directories[mark] = False
            place = place.rpartition(b"/")[0]

    def _directory(self, place: bytes) -> None:
        self._enter(place)
        if self._directories[hash(place)]:
            raise UnsafeArchive(f"directory {shown(place)} stands in the archive twice")
        self._directories[hash(place)] = True

    def _link(self, kind: int, place: bytes, target: bytes) -> None:
        self._place(place)
        self._links.add(hash(place))
        if kind == _HARD_LINK:
            target = self._normal(target)
            self._enter(target.rpartition(b"/")[0])
            self._targets[hash(target) % _BUCKETS].append(hash(target))
        elif not target or b"\0" in target or len(target) > self.limits.name:
            raise UnsafeArchive(f"symbolic link {shown(place)} has no usable target")
