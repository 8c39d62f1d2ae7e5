"""SFTP version 3 as bytes: what is asked, and what the answers mean. No connection and no state in here.

paramiko's own client hides what we need: which extensions the server has, which status it gave, the mode of a new file.
The protocol is draft-ietf-secsh-filexfer-02, the extensions are those of OpenSSH's PROTOCOL file.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

INIT, VERSION = 1, 2
_OPEN, _CLOSE, _READ, _WRITE, _LSTAT, _FSTAT = 3, 4, 5, 6, 7, 8
_OPENDIR, _READDIR, _REMOVE, _MKDIR, _RMDIR, _RENAME = 11, 12, 13, 14, 15, 18
_STATUS, _HANDLE, _DATA, _NAME, _ATTRS = 101, 102, 103, 104, 105
_EXTENDED, _EXTENDED_REPLY = 200, 201

END, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, NO_CONNECTION, CONNECTION_LOST, UNSUPPORTED = range(1, 9)
# Of later versions; some servers give them all the same.
EXISTS, WRITE_PROTECTED, NO_SPACE, QUOTA = 11, 12, 14, 15

FOR_READING, FOR_WRITING, NEW = 0x01, 0x02, 0x08 | 0x20
_SIZE, _OWNER, _MODE, _TIMES, _MORE = 0x01, 0x02, 0x04, 0x08, 0x80000000

HARDLINK, FSYNC, STATVFS, LIMITS = (
    "hardlink@openssh.com",
    "fsync@openssh.com",
    "statvfs@openssh.com",
    "limits@openssh.com",
)


class SftpStatus(Exception):
    """The server's answer to a request that it did not fulfil."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code, self.text = code, text


class Garbled(Exception):
    """What came is not SFTP: a shell that greets, a broken server."""


class Fields:
    """The fields of a packet, one after the other."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def _take(self, count: int) -> int:
        begin, self._at = self._at, self._at + count
        if self._at > len(self._data):
            raise Garbled(f"an answer of {len(self._data)} bytes is too short")
        return begin

    def byte(self) -> int:
        return self._data[self._take(1)]

    def number(self) -> int:
        return int(struct.unpack_from(">I", self._data, self._take(4))[0])

    def long(self) -> int:
        return int(struct.unpack_from(">Q", self._data, self._take(8))[0])

    def string(self) -> bytes:
        return bytes(self.view())

    def view(self) -> memoryview:
        size = self.number()
        begin = self._take(size)
        return self._data[begin : begin + size]

    def text(self) -> str:
        return self.string().decode("utf-8", "surrogateescape")

    @property
    def left(self) -> int:
        return len(self._data) - self._at


class Attributes(NamedTuple):
    """What a server says of a file; it may leave out any of it."""

    size: int | None = None
    uid: int | None = None
    mode: int | None = None
    mtime: int | None = None

    @property
    def is_file(self) -> bool:
        """Not a directory, a link, a FIFO; where the server does not say, the name has to do."""
        return self.mode is None or stat.S_ISREG(self.mode)

    @property
    def is_directory(self) -> bool:
        return self.mode is None or stat.S_ISDIR(self.mode)

    @property
    def modified(self) -> datetime:
        """When it was written last, by the server's clock."""
        return datetime.fromtimestamp(self.mtime or 0, UTC)


class Space(NamedTuple):
    """What ``statvfs`` says."""

    free: int
    files_free: int
    read_only: bool


@dataclass(frozen=True)
class Request(Generic[T]):
    """A question, and how its answer is read."""

    kind: int
    payload: bytes
    parse: Callable[[int, Fields], T]


def pack(text: str | bytes) -> bytes:
    """A string as SFTP has it."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return struct.pack(">I", len(data)) + data


def open_file(path: str, flags: int, mode: int | None = None) -> Request[bytes]:
    attributes = struct.pack(">I", 0) if mode is None else struct.pack(">II", _MODE, mode)
    return Request(_OPEN, pack(path) + struct.pack(">I", flags) + attributes, _handle)


def close(handle: bytes) -> Request[None]:
    return Request(_CLOSE, pack(handle), _done)


def read(handle: bytes, offset: int, length: int) -> Request[memoryview]:
    return Request(_READ, pack(handle) + struct.pack(">QI", offset, length), _data)


def write(handle: bytes, offset: int, length: int) -> Request[None]:
    """Its data come after it."""
    return Request(_WRITE, pack(handle) + struct.pack(">QI", offset, length), _done)


def lstat(path: str) -> Request[Attributes]:
    return Request(_LSTAT, pack(path), _attributes)


def fstat(handle: bytes) -> Request[Attributes]:
    return Request(_FSTAT, pack(handle), _attributes)


def open_directory(path: str) -> Request[bytes]:
    return Request(_OPENDIR, pack(path), _handle)


def read_directory(handle: bytes) -> Request[list[tuple[str, Attributes]]]:
    return Request(_READDIR, pack(handle), _names)


def make_directory(path: str, mode: int) -> Request[None]:
    return Request(_MKDIR, pack(path) + struct.pack(">II", _MODE, mode), _done)


def remove_directory(path: str) -> Request[None]:
    return Request(_RMDIR, pack(path), _done)


def remove(path: str) -> Request[None]:
    return Request(_REMOVE, pack(path), _done)


def rename(old: str, new: str) -> Request[None]:
    return Request(_RENAME, pack(old) + pack(new), _done)


def hard_link(old: str, new: str) -> Request[None]:
    return Request(_EXTENDED, pack(HARDLINK) + pack(old) + pack(new), _done)


def sync(handle: bytes) -> Request[None]:
    return Request(_EXTENDED, pack(FSYNC) + pack(handle), _done)


def space(path: str) -> Request[Space]:
    return Request(_EXTENDED, pack(STATVFS) + pack(path), _space)


def limits() -> Request[tuple[int, int, int]]:
    """The longest packet, read and write; 0 where there is no such limit."""
    return Request(_EXTENDED, pack(LIMITS), _limits)


def _expect(kind: int, wanted: int, fields: Fields) -> Fields:
    if kind == _STATUS:
        code = fields.number()
        text = fields.text() if fields.left else ""  # old servers leave it out
        if code or wanted != _STATUS:
            raise SftpStatus(code, text) if code else Garbled("a server says success where it had to give an answer")
    elif kind != wanted:
        raise Garbled(f"an answer of kind {kind} came instead of {wanted}")
    return fields


def _done(kind: int, fields: Fields) -> None:
    _expect(kind, _STATUS, fields)


def _handle(kind: int, fields: Fields) -> bytes:
    return _expect(kind, _HANDLE, fields).string()


def _data(kind: int, fields: Fields) -> memoryview:
    return _expect(kind, _DATA, fields).view()


def _attributes(kind: int, fields: Fields) -> Attributes:
    return _attributes_in(_expect(kind, _ATTRS, fields))


def _attributes_in(fields: Fields) -> Attributes:
    size = uid = mode = mtime = None
    flags = fields.number()
    if flags & _SIZE:
        size = fields.long()
    if flags & _OWNER:
        uid, _ = fields.number(), fields.number()
    if flags & _MODE:
        mode = fields.number()
    if flags & _TIMES:
        _, mtime = fields.number(), fields.number()
    if flags & _MORE:
        for _ in range(2 * fields.number()):
            fields.view()
    return Attributes(size, uid, mode, mtime)


def _names(kind: int, fields: Fields) -> list[tuple[str, Attributes]]:
    found = []
    for _ in range(_expect(kind, _NAME, fields).number()):
        name, _ = fields.text(), fields.view()
        found.append((name, _attributes_in(fields)))
    return found


def _space(kind: int, fields: Fields) -> Space:
    _expect(kind, _EXTENDED_REPLY, fields)
    _, fragment, _, _, available, _, _, files, _, flags, _ = (fields.long() for _ in range(11))
    return Space(fragment * available, files, bool(flags & 1))


def _limits(kind: int, fields: Fields) -> tuple[int, int, int]:
    _expect(kind, _EXTENDED_REPLY, fields)
    return fields.long(), fields.long(), fields.long()
