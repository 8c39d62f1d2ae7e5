"""Small parts of a file system behind SFTP: names that are never taken twice, files that are really on disk."""

from __future__ import annotations

import io
import logging
from collections import deque
from datetime import datetime
from typing import NamedTuple

from blocks.destinations import sftp_messages as ask
from blocks.destinations.places import partial_name
from blocks.destinations.sftp_client import WINDOW, Pending, SftpClient
from blocks.destinations.sftp_errors import translated
from blocks.destinations.sftp_messages import Attributes, SftpStatus, Space
from vault.errors import AccessDenied, DestinationUnavailable
from vault.store import StoredObject

_SYNC = 3600.0  # seconds that a server may take to bring a file to its disk; a dead one is noticed sooner
_DENIED = (ask.UNSUPPORTED, ask.BAD_MESSAGE, ask.PERMISSION_DENIED)  # what servers say that cannot, or may not
_LEAST = 4096

_log = logging.getLogger(__name__)


class Opened(NamedTuple):
    """An open file of the server."""

    handle: bytes
    size: int | None


def look(sftp: SftpClient, path: str) -> Attributes | None:
    """What is there under *path*, a link itself and not where it points; None where nothing is."""
    try:
        return sftp.do(ask.lstat(path))
    except SftpStatus as status:
        if status.code == ask.NO_SUCH_FILE:
            return None
        raise


def regular(attributes: Attributes, what: str) -> Attributes:
    """*attributes*, when they are those of a regular file (D14)."""
    if attributes.is_file:
        return attributes
    raise AccessDenied(
        f"{what} is no regular file", "A symbolic link or a foreign file lies there: find out who put it there."
    )


def open_regular(sftp: SftpClient, path: str, flags: int, what: str) -> Opened:
    """Open what was found to be a regular file, and look again: SFTP cannot say "follow no link"."""
    handle = sftp.do(ask.open_file(path, flags))
    found = regular(sftp.do(ask.fstat(handle)), what)
    return Opened(handle, found.size)


def stored_object(sftp: SftpClient, key: str, path: str, found: Attributes, what: str) -> StoredObject:
    """*key* as the server reports it; a size that it does not tell is found out (T19)."""
    known = regular(found, what).size
    return StoredObject(key, size(sftp, path) if known is None else known, found.modified)


def size(sftp: SftpClient, path: str) -> int:
    """How many bytes *path* has, from a server that does not say."""
    handle = sftp.do(ask.open_file(path, ask.FOR_READING))
    found = sftp.size_of(handle)
    sftp.do(ask.close(handle))
    return found


def room(sftp: SftpClient, path: str) -> Space | None:
    """How much is left where *path* is; None where the server does not say."""
    if not sftp.has(ask.STATVFS):
        return None
    try:
        return sftp.do(ask.space(path))
    except SftpStatus:
        return None


def flush(sftp: SftpClient, handle: bytes) -> bool:
    """Bring an open file to the server's disk; False, with a note, where the server cannot do that (D04, T18)."""
    if not sftp.has(ask.FSYNC):
        _log.info("the SFTP server has no fsync: a power cut there may take what was written last (D04)")
        return False
    try:
        sftp.do(ask.sync(handle), patience=_SYNC)
    except SftpStatus as status:
        if status.code not in _DENIED:
            raise
        _log.warning("the SFTP server cannot sync: a power cut there may take what was written last (D04)")
        return False
    return True


def flush_directory(sftp: SftpClient, path: str) -> None:
    """Bring the names in *path* to the server's disk, where it lets a directory be opened as a file (OpenSSH does)."""
    if not sftp.has(ask.FSYNC):
        return
    try:
        handle = sftp.do(ask.open_file(path, ask.FOR_READING))
    except SftpStatus:
        return
    try:
        flush(sftp, handle)
    finally:
        sftp.all(ask.close(handle))


def publish(sftp: SftpClient, old: str, new: str) -> None:
    """Rename *old* to *new*; ``FileExistsError`` when *new* is there, which is then left as it is.

    A hard link never replaces anything, on no server. Without that extension it is the rename of SFTP version 3, which
    must not replace (OpenSSH's does not), but does on some servers; so it is looked first. What remains: on a server
    without hard links whose rename replaces, two who give the same name within one round trip; those of backups are
    unique.
    """
    if sftp.has(ask.HARDLINK):
        try:
            sftp.do(ask.hard_link(old, new))
        except SftpStatus:  # it is there, or this file system has no hard links
            pass
        else:
            sftp.do(ask.remove(old))
            return
    if look(sftp, new) is not None:
        raise FileExistsError(new)
    try:
        sftp.do(ask.rename(old, new))
    except SftpStatus:
        if look(sftp, new) is not None and look(sftp, old) is not None:
            raise FileExistsError(new) from None
        raise


def create(sftp: SftpClient, path: str) -> bytes:
    """A new file for writing, private."""
    return sftp.do(ask.open_file(path, ask.FOR_WRITING | ask.NEW, 0o600))


def server_time(sftp: SftpClient, directory: str) -> datetime | None:
    """What time it is by the server's clock: that of a file that is made there and removed; None where it cannot be."""
    path = f"{directory}/{partial_name('clock')}"
    try:
        handle = create(sftp, path)
        found, *_ = sftp.all(ask.fstat(handle), ask.close(handle), ask.remove(path))
    except SftpStatus:
        return None
    return found.modified if isinstance(found, Attributes) and found.mtime else None


class SftpReader(io.RawIOBase):
    """A file from *offset* on, with reads in flight up to the window. Its errors are those of the destination."""

    def __init__(self, sftp: SftpClient, opened: Opened, offset: int, what: str) -> None:
        self._sftp, self._handle, self._size, self._what = sftp, opened.handle, opened.size, what
        self._asked = self._at = offset
        self._length = sftp.read_length
        self._waiting: deque[tuple[Pending[memoryview], int, int]] = deque()
        self._block = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        with translated(self._what):
            while not self._block and not self._ended:
                self._block = self._next()
        count = min(len(buffer), len(self._block))
        buffer[:count] = self._block[:count]
        self._block = self._block[count:]
        return count

    def readall(self) -> bytes:
        found = io.BytesIO()
        buffer = bytearray(self._length)
        while count := self.readinto(buffer):
            found.write(memoryview(buffer)[:count])
        return found.getvalue()

    def _next(self) -> memoryview:
        self._ask()
        if not self._waiting:
            return self._end()
        pending, offset, length = self._waiting.popleft()
        try:
            data = self._sftp.wait(pending)
        except SftpStatus as status:
            if status.code != ask.END:
                raise
            data = memoryview(b"")
        if not data:
            return self._end()
        if len(data) < length:  # a server may give less than was asked for: then the rest is asked for first
            self._send(offset + len(data), length - len(data), first=True)
            self._length = max(_LEAST, min(self._length, len(data)))
        self._at = offset + len(data)
        return data

    def _ask(self) -> None:
        while len(self._waiting) * self._length < WINDOW and (self._size is None or self._asked < self._size):
            left = self._length if self._size is None else self._size - self._asked
            length = min(self._length, left)
            self._send(self._asked, length)
            self._asked += length

    def _send(self, offset: int, length: int, first: bool = False) -> None:
        entry = self._sftp.send(ask.read(self._handle, offset, length)), offset, length
        if first:
            self._waiting.appendleft(entry)
        else:
            self._waiting.append(entry)

    def _end(self) -> memoryview:
        self._sftp.drain([*(pending for pending, _, _ in self._waiting), self._sftp.send(ask.close(self._handle))])
        self._waiting.clear()
        self._ended = True
        if self._size is not None and self._at < self._size:
            raise DestinationUnavailable(f"{self._what}: it ended after {self._at} of {self._size} bytes")
        return memoryview(b"")


def same_content(sftp: SftpClient, one: str, other: str, what: str) -> bool:
    """Whether two files hold the same bytes."""
    for path in (one, other):
        regular(sftp.do(ask.lstat(path)), what)
    files = [open_regular(sftp, path, ask.FOR_READING, what) for path in (one, other)]
    if None not in (files[0].size, files[1].size) and files[0].size != files[1].size:
        sftp.all(*(ask.close(file.handle) for file in files))
        return False
    first, second = (io.BufferedReader(SftpReader(sftp, file, 0, what), WINDOW) for file in files)
    while block := first.read(sftp.read_length):
        if second.read(len(block)) != block:
            return False
    return not second.read(1)
