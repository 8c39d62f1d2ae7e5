"""A directory of this machine: whether it may be restored to, a fresh one beside it, and the swap of the two."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from blocks.host import Host
from blocks.sources.tree import Tree
from vault.errors import SourceError
from vault.process import Command

NO_REPLACE, EXCHANGE = 1, 2  # of renameat2
_HERE = -100  # AT_FDCWD
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


class LocalTree(Tree[Path]):
    """A directory of this machine. A staging directory is locked while we live."""

    @property
    def is_root(self) -> bool:
        """See ``Tree.is_root``."""
        return os.geteuid() == 0

    def entries(self, most: int) -> int:
        """See ``Tree.entries``."""
        try:
            with os.scandir(self.path) as entries:
                return sum(1 for _ in islice(entries, most))
        except OSError as error:
            raise SourceError(f"directory {self.name} cannot be read: {error.strerror}") from error

    def has(self, name: str) -> bool:
        """See ``Tree.has``."""
        return os.path.lexists(self.path / name)

    def false_hole(self, names: Sequence[bytes]) -> bytes | None:
        """See ``Tree.false_hole``."""
        path = os.fsencode(self.path)
        return next((name for name in names if _has_data_in_no_blocks(os.path.join(path, name))), None)

    def check_target(self, overwrite: bool) -> None:
        """See ``Tree.check_target``."""
        try:
            self.check_place()
            if self.path.exists():
                self._check_existing(overwrite)
            if not os.access(self.path.parent, os.W_OK | os.X_OK):
                raise self.refused("denied")
        except OSError as error:
            raise self.refusal(f"cannot be looked at: {error.strerror}") from error

    def check_place(self) -> None:
        """See ``Tree.check_place``."""
        path, home = self.path, Path.home()
        if path == Path("/") or home.is_relative_to(path) or home.resolve().is_relative_to(path.resolve()):
            raise self.refused("home")
        if path.is_symlink():
            raise self.refused("link")
        if not path.parent.is_dir():
            raise self.refused("orphan")

    def in_use(self) -> bool:
        """See ``Tree.in_use``."""
        return self.path.is_dir() and any(self.path.iterdir())

    def _check_existing(self, overwrite: bool) -> None:
        if not self.path.is_dir():
            raise self.refused("file")
        if self.path.is_mount():
            raise self.refused("mount")
        if self.in_use() and not overwrite:
            raise self.refused("full")

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """See ``Tree.staging``. While we live it is locked."""
        prefix = f".{self.path.name[:64]}.restore-"
        try:
            _sweep(self.path.parent, prefix, self.host)
            path, lock = _locked_directory(self.path.parent, prefix)
        except OSError as error:
            raise self.refusal(f"cannot be made: {error.strerror}") from error
        try:
            yield path
        finally:
            _remove(path, self.host)
            os.close(lock)

    def sync(self, new: Path) -> None:
        """See ``Tree.sync``."""
        with _opened(new) as fd:
            if _libc.syncfs(fd):
                raise self.refusal(f"cannot be written to disk: {os.strerror(ctypes.get_errno())}")

    def swap(self, new: Path, overwrite: bool) -> None:
        """See ``Tree.swap``."""
        try:
            os.rename(new, self.path)  # only over nothing, or over an empty directory
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise self.refusal(f"cannot be replaced: {error.strerror}") from error
            if not overwrite:
                raise self.refused("filled") from error
            self._exchange(new)
        with _opened(self.path.parent) as parent:
            os.fsync(parent)

    def _exchange(self, new: Path) -> None:
        try:
            rename(new, self.path, _HERE, EXCHANGE)
        except OSError as error:
            raise self.refusal(f"cannot be exchanged: {error.strerror}", "Move it away, and restore again.") from error


def rename(old: Path | bytes, new: Path | bytes, directory: int, flags: int) -> None:
    """Rename *old* to *new*, which is relative to *directory*, as *flags* say; never with a replacement in silence."""
    if _libc.renameat2(_HERE, os.fsencode(old), directory, os.fsencode(new), flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


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


def _sweep(parent: Path, prefix: str, host: Host) -> None:
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
                _remove(path, host)
            finally:
                os.close(lock)


def _remove(path: Path, host: Host) -> None:
    """By tools, which know trees of any depth. Directories that we may not write to are ours, and made writable."""
    if not os.path.lexists(path):
        return
    if os.geteuid():
        host.run(Command(("chmod", "--recursive", "--quiet", "u+rwX", "--", str(path)), ok=frozenset({0, 1})))
    host.run(Command(("rm", "--recursive", "--force", "--one-file-system", "--", str(path)), idle_timeout=None))


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _has_data_in_no_blocks(path: bytes) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False  # removed since: there is nothing to compare with
    try:
        return not os.fstat(fd).st_blocks and os.lseek(fd, 0, os.SEEK_DATA) >= 0
    except OSError as error:
        return error.errno != errno.ENXIO
    finally:
        os.close(fd)
