"""Small parts of the file system for a local destination; each error of it is the destination's, said in one place."""

from __future__ import annotations

import ctypes
import errno
import io
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Self

from vault.errors import AccessDenied, DestinationError, DestinationUnavailable, NoSpace, SpoolError
from vault.spool import Segment
from vault.store import NAME, StoredObject, is_key

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a planted FIFO must not hang us
BLOCK = 1024 * 1024

_log = logging.getLogger(__name__)
_RENAME_NOREPLACE = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Handle:
    """An open file descriptor that is closed once: at the end of ``with``, by ``close``, or when forgotten."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class Reader(io.FileIO):
    """A file whose errors are those of its destination: nobody above can tell them from others."""

    def __init__(self, fd: int, what: str, offset: int = 0) -> None:
        super().__init__(fd, "rb")
        self._what = what
        try:
            stored_object("", os.fstat(fd))
            self.seek(offset)
        except BaseException:
            self.close()
            raise

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        with translated(self._what):
            return super().readinto(buffer) or 0

    def readall(self) -> bytes:
        with translated(self._what):
            return super().readall()


@contextmanager
def translated(what: str, missing: type[DestinationError] = DestinationError) -> Iterator[None]:
    """The one place where an ``OSError`` becomes ours; *missing* is what ENOENT means here."""
    try:
        yield
    except OSError as error:
        kind, remedy = _KINDS.get(error.errno or 0, (DestinationError, ""))
        if error.errno == errno.ENOENT:
            kind = missing
        raise kind(f"{what}: {error.strerror or error}", remedy) from error


_FULL = (NoSpace, "Free space there, keep fewer backups, or raise the quota.")
_DENIED = (AccessDenied, "Give the user of the worker the right to write there, on a file system mounted rw.")
_PLANTED = (AccessDenied, "A symbolic link or a foreign file is where a backup should be: find out who put it there.")
_AWAY = (DestinationUnavailable, "Look at the disk or the network mount; this is tried again.")
_KINDS: dict[int, tuple[type[DestinationError], str]] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _DENIED),
    **dict.fromkeys((errno.ELOOP, errno.ENOTDIR), _PLANTED),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.EREMOTEIO), _AWAY),
    **dict.fromkeys((errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN), _AWAY),
}


@contextmanager
def ignored(*numbers: int) -> Iterator[None]:
    """An ``OSError`` with one of these numbers is as good as success."""
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise


def rename_new(directory: int, old: str, new: str) -> None:
    """Rename within *directory*; ``FileExistsError`` when *new* is there, which is then left as it is."""
    if _libc.renameat2(directory, os.fsencode(old), directory, os.fsencode(new), _RENAME_NOREPLACE) == 0:
        return
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(number, os.strerror(number), new)
    # Not on this file system (NFS, some FUSE): a hard link never replaces either.
    os.link(old, new, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    os.unlink(old, dir_fd=directory)


def sync(fd: int) -> None:
    """To disk, durably; where the file system cannot (D04), with a note."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
        _log.warning("the file system cannot sync: a power cut may take what was written last (D04)")


def open_app(root: Handle, app: str) -> Handle:
    """The directory of *app*; a symbolic link is refused."""
    return Handle(os.open(app, DIRECTORY, dir_fd=root.fd))


def apps(root: Handle) -> list[str]:
    """What may be directories of apps, by name."""
    with os.scandir(root.fd) as entries:
        return sorted(e.name for e in entries if NAME.fullmatch(e.name) and e.is_dir(follow_symlinks=False))


def objects(app: str, directory: Handle) -> Iterator[StoredObject]:
    """Every object of *app*: regular files with a name that we could have given."""
    with os.scandir(directory.fd) as entries:
        for entry in entries:
            key = f"{app}/{entry.name}"
            if is_key(key) and entry.is_file(follow_symlinks=False):
                with ignored(errno.ENOENT):  # deleted since: then it is not there
                    yield stored_object(key, entry.stat(follow_symlinks=False))


def stored_object(key: str, status: os.stat_result) -> StoredObject:
    """*key* as the file system reports it; ELOOP where it is a link, a FIFO or the like."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.ELOOP, "it is no regular file", key)
    return StoredObject(key, status.st_size, modified(status))


def modified(status: os.stat_result) -> datetime:
    """When it was written last, UTC."""
    try:
        return datetime.fromtimestamp(status.st_mtime, UTC)
    except (ValueError, OverflowError, OSError):  # beyond the year 9999: a broken clock, not a broken object
        return datetime.max.replace(tzinfo=UTC)


def blocks_of(segment: Segment, start: int, block: int = BLOCK) -> Iterator[memoryview]:
    """The bytes of *segment* from *start* on; errors of reading are the spool's, not the destination's."""
    buffer = memoryview(bytearray(min(block, segment.size - start)))
    with segment.open() as source:
        try:
            source.seek(start)
            while start < segment.size:
                count = source.readinto(buffer[: segment.size - start])  # type: ignore[attr-defined]
                if not count:
                    raise SpoolError(f"segment {segment.index} is shorter than its {segment.size} bytes")
                start += count
                yield buffer[:count]
        except OSError as error:
            raise SpoolError(f"segment {segment.index} cannot be read: {error.strerror}") from error


def same_content(directory: Handle, one: str, other: str) -> bool:
    """Whether two files of *directory* hold the same bytes."""
    with (
        io.FileIO(os.open(one, READ, dir_fd=directory.fd)) as first,
        io.FileIO(os.open(other, READ, dir_fd=directory.fd)) as second,
    ):
        stored_object(other, os.fstat(second.fileno()))
        while block := first.read(BLOCK):
            if second.read(BLOCK) != block:
                return False
        return not second.read(1)
