"""The place to which a directory is restored: whether it may be, a fresh one beside it, and the swap of the two."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from blocks.servers import LocalServer
from vault.errors import RestoreRefused, printable
from vault.process import Command

_HERE = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


def check_target(path: Path, overwrite: bool) -> None:
    """Refuse (``RestoreRefused``) a target that must not be replaced, may not be, or cannot be."""
    try:
        _check_place(path)
        if path.exists():
            _check_existing(path, overwrite)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise refusal(path, "cannot be made: its parent directory is not ours to write to")
    except OSError as error:
        raise refusal(path, f"cannot be looked at: {error.strerror}") from error


def _check_place(path: Path) -> None:
    home = Path.home()
    if path == Path("/") or home.is_relative_to(path) or home.resolve().is_relative_to(path.resolve()):
        raise refusal(path, "is / or holds your home directory", "Restore into a directory below it.")
    if path.is_symlink():
        raise refusal(path, "is a symbolic link", "Give the real path.")
    if not path.parent.is_dir():
        raise refusal(path, "cannot be made: its parent directory is missing", "Make the parent first.")


def _check_existing(path: Path, overwrite: bool) -> None:
    if not path.is_dir():
        raise refusal(path, "is a file", "Give a new or an empty directory.")
    if path.is_mount():
        raise refusal(path, "is a mount point, which cannot be swapped", f"Restore into {path}/restored.")
    if any(path.iterdir()) and not overwrite:
        raise refusal(path, "is not empty", "Give a new or an empty directory, or allow --overwrite.")


def refusal(path: Path, what: str, remedy: str = "") -> RestoreRefused:
    """That *path* is not restored to, and is as it was."""
    return RestoreRefused(f"{printable(str(path))} {what}", remedy)


@contextmanager
def staging(target: Path, server: LocalServer) -> Iterator[Path]:
    """A fresh directory (0700) beside *target*, removed at exit with whatever is in it by then.

    While we live it is locked; those of dead restores to the same target are removed first.
    """
    prefix = f".{target.name[:64]}.restore-"
    try:
        _sweep(target.parent, prefix, server)
        path, lock = _locked_directory(target.parent, prefix)
    except OSError as error:
        raise refusal(target, f"cannot be made: {error.strerror}") from error
    try:
        yield path
    finally:
        _remove(path, server)
        os.close(lock)


def _locked_directory(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        for acl in ("system.posix_acl_access", "system.posix_acl_default"):  # what is made here inherits none
            with suppress(OSError):
                os.removexattr(path, acl)
        lock = os.open(path, _DIRECTORY)
        with suppress(OSError):  # a file system without locks: then nobody sweeps either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path, lock
        os.close(lock)  # another restore swept it in the moment before it was locked


def _sweep(parent: Path, prefix: str, server: LocalServer) -> None:
    ours = re.compile(re.escape(prefix) + "[a-z0-9_]{8}")
    with os.scandir(parent) as entries:
        found = [Path(entry.path) for entry in entries if ours.fullmatch(entry.name)]
    for path in found:
        if path.lstat().st_uid != os.geteuid():
            continue
        with suppress(OSError):  # alive, no directory, or gone by now
            lock = os.open(path, _DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path, server)
            finally:
                os.close(lock)


def _remove(path: Path, server: LocalServer) -> None:
    """By tools, which know trees of any depth. Directories that we may not write to are ours, and made writable."""
    if not os.path.lexists(path):
        return
    if os.geteuid():
        server.run(Command(("chmod", "--recursive", "--quiet", "u+rwX", "--", str(path)), ok=frozenset({0, 1})))
    server.run(Command(("rm", "--recursive", "--force", "--one-file-system", "--", str(path)), idle_timeout=None))


def swap(new: Path, target: Path, overwrite: bool) -> None:
    """Put *new* in the place of *target*, atomically. What was in a full target is then at *new*."""
    try:
        os.rename(new, target)  # only over nothing, or over an empty directory
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise refusal(target, f"cannot be replaced: {error.strerror}") from error
        if not overwrite:
            raise refusal(target, "is not empty any more", "Somebody wrote to it meanwhile.") from error
        _exchange(new, target)
    with _opened(target.parent) as parent:
        os.fsync(parent)


def _exchange(new: Path, target: Path) -> None:
    if _libc.renameat2(_HERE, os.fsencode(new), _HERE, os.fsencode(target), _EXCHANGE):
        reason = os.strerror(ctypes.get_errno())
        raise refusal(target, f"cannot be exchanged: {reason}", "Move it away, and restore again.")


def sync(path: Path) -> None:
    """What was written to *path*'s file system is on disk: what it is to replace may go."""
    with _opened(path) as fd:
        if _libc.syncfs(fd):
            raise refusal(path, f"cannot be written to disk: {os.strerror(ctypes.get_errno())}")


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
