"""A directory of this machine, or one that is mounted there, as a destination.

An object is written under a temporary name in its own directory, made durable, and renamed without replacing
anything. All work is relative to open directories and follows no symbolic link, so nobody can exchange a path
under way. A marker file in the root says that this is the disk it was: below an empty mount point nothing happens.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, ClassVar

from pydantic import Field, HttpUrl, PrivateAttr, field_validator

from blocks.destinations.base import Destination, Upload
from blocks.destinations.local_files import (
    DIRECTORY,
    READ,
    Handle,
    Reader,
    apps,
    ignored,
    modified,
    objects,
    open_app,
    rename_new,
    stored_object,
    sync,
    translated,
)
from blocks.destinations.local_upload import LocalUpload
from blocks.destinations.places import (
    GRACE,
    MARKER,
    check_marker,
    finished_name,
    marker_id,
    new_marker,
    not_mounted,
    partial_name,
    refuse_foreign,
)
from blocks.destinations.probe import step
from blocks.look import DOCUMENTATION_URL, LOGO_URL
from vault.errors import (
    AccessDenied,
    DestinationError,
    DestinationUnavailable,
    NotFound,
    printable,
)
from vault.store import (
    PARTIAL_SUFFIX,
    Digest,
    StoredObject,
    check_key,
    check_prefix,
    is_key,
)

_log = logging.getLogger(__name__)
_WRITE = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TRIES = 10


class LocalDestination(Destination):
    """A directory of this machine, or one that is mounted there, to which backups go.

    Attributes:
        root: The directory, as an absolute path.
        marker: The id of its marker file; empty until the directory was prepared.
        max_runs: How many runs may upload there at once; 0: no limit.
        max_wait: Seconds that a run waits for its turn there, then goes on without it; 0: for as long as it takes.
        bandwidth: Bytes a second that a run sends there and reads from there; 0: no limit.

    Example:
        Load a local destination:
        ```python
        from blocks import LocalDestination

        destination = LocalDestination.load("BLOCK_NAME")
        ```
    """

    _block_type_name: ClassVar[str | None] = "Local Destination"
    _block_type_slug: ClassVar[str | None] = "local-destination"
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL

    root: Path = Field(
        description="The directory for backups: an absolute path, such as /mnt/backups, on another disk than the data."
    )
    marker: str = Field(
        default="",
        pattern=r"^([0-9a-f]{32})?$",
        description="The id in the directory's marker file, by which another disk is told apart; filled in by itself.",
    )

    _checked: tuple[int, int, int] | None = PrivateAttr(default=None)
    """The marker file as it was when it was read last."""

    @field_validator("root")
    @classmethod
    def _is_absolute(cls, root: Path) -> Path:
        root = root.expanduser()
        if not root.is_absolute() or ".." in root.parts or root == Path("/") or "\0" in str(root):
            raise ValueError("must be an absolute path below /, without '..'")
        return root

    @property
    def location(self) -> str:
        """The path."""
        return printable(str(self.root))

    @property
    def paths(self) -> tuple[Path, ...]:
        """The root."""
        return (self.root,)

    @property
    def readers(self) -> int:
        """One: threads would only stand in each other's way."""
        return 1

    def prepare(self, adopt: bool = False) -> None:
        """Make the directory where it is missing (not its parents), and claim it with a marker file.

        A directory that holds other things is refused, unless it is to be *adopt*ed, things and all.
        """
        with translated(self.location):
            if not self.marker:
                self._make_root()
            with self._open_root() as root:
                found = _read_marker(root) or self._claim(root, adopt)
        check_marker(self.location, found, self.marker)
        self.marker = found

    def _make_root(self) -> None:
        try:
            os.mkdir(self.root, 0o700)
        except FileExistsError:
            return
        except FileNotFoundError as error:
            raise DestinationError(
                f"{self.location} cannot be made: its parent directory is missing",
                "If a disk should be mounted there, mount it; else make the parent.",
            ) from error
        with Handle(os.open(self.root.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as parent:
            sync(parent.fd)

    def _claim(self, root: Handle, adopt: bool) -> str:
        if self.marker:
            raise not_mounted(self.location)
        refuse_foreign(self.location, set(os.listdir(root.fd)), adopt)
        name = f"{MARKER}.{secrets.token_hex(8)}{PARTIAL_SUFFIX}"
        file = os.open(name, _WRITE | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=root.fd)
        try:
            os.write(file, new_marker())
            sync(file)
            rename_new(root.fd, name, MARKER)
        except FileExistsError:  # somebody else claimed it in this moment
            os.unlink(name, dir_fd=root.fd)
        finally:
            os.close(file)
        sync(root.fd)
        return _read_marker(root) or ""

    def check(self) -> None:
        """As every destination; and nobody else may be able to exchange what lies here."""
        with step("reach"):
            with translated(self.location), self._root() as root:
                status = os.fstat(root.fd)
            if status.st_mode & stat.S_IWOTH:
                raise AccessDenied(
                    f"everybody may write to {self.location}",
                    f"Take that right away: chmod o-w {self.location}",
                )
        if status.st_uid not in (0, os.geteuid()):
            _log.warning("%s belongs to user %d, who can remove backups", self.location, status.st_uid)
        super().check()
        with translated(self.location), self._root() as root, ignored(errno.ENOTEMPTY, errno.ENOENT):
            os.rmdir("probe", dir_fd=root.fd)

    def _begin(self, key: str, resume: str | None) -> Upload:
        """Begin *key*, or go on with *resume*; ``NotFound`` when nothing is left of that."""
        app, name = check_key(key).split("/")
        what = f"{key} at {self.location}"
        with translated(what, missing=NotFound), self._root() as root:
            if resume is None:
                token = partial_name(name)
                directory, file = self._create(root, app, token)
                return LocalUpload(what, key, directory, token, file)
            if finished_name(resume) != name:
                raise NotFound(f"{what} has no upload {printable(resume)[:80]!r}")
            directory = open_app(root, app)
            with ignored(errno.ENOENT):
                file = Handle(os.open(resume, _WRITE, dir_fd=directory.fd))
                return LocalUpload(what, key, directory, resume, file)
            # It was committed, and whoever did that did not live to hear it; or it is gone, and this raises.
            return LocalUpload(what, key, directory, resume, None)

    @contextmanager
    def _read(self, key: str, offset: int) -> Iterator[BinaryIO]:
        """The bytes of *key* from *offset* on; the first reader after ``commit`` reads the disk, not the cache."""
        app, name = check_key(key).split("/")
        what = f"{key} at {self.location}"
        with translated(what, missing=NotFound), self._root() as root, open_app(root, app) as directory:
            file = Reader(os.open(name, READ, dir_fd=directory.fd), what, offset)
        with io.BufferedReader(file, 64 * 1024) as reader:
            yield reader

    def stat(self, key: str) -> StoredObject:
        """Size and time of *key*."""
        app, name = check_key(key).split("/")
        what = f"{key} at {self.location}"
        with translated(what, missing=NotFound), self._root() as root, open_app(root, app) as directory:
            return stored_object(key, os.stat(name, dir_fd=directory.fd, follow_symlinks=False))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object below *prefix*, read to the end before the first is given out."""
        app = check_prefix(prefix).removesuffix("/")
        found: list[StoredObject] = []
        with translated(self.location), self._root() as root:
            for name in [app] if app else apps(root):
                with ignored(errno.ENOENT), open_app(root, name) as directory:
                    found += objects(name, directory)
        return iter(found)

    def remove(self, key: str) -> None:
        """Remove *key*, durably."""
        app, name = check_key(key).split("/")
        with (
            translated(f"{key} at {self.location}"),
            self._root() as root,
            ignored(errno.ENOENT),
            open_app(root, app) as directory,
        ):
            os.unlink(name, dir_fd=directory.fd)
            sync(directory.fd)

    def digest(self, key: str) -> Digest | None:
        """None: nobody but us computes here. ``open`` reads back what the disk holds."""
        check_key(key)
        return None

    def free_space(self) -> int | None:
        """Bytes that this user may still write."""
        with translated(self.location), self._root() as root:
            status = os.fstatvfs(root.fd)
        return status.f_bavail * status.f_frsize

    def clean(self, now: datetime) -> tuple[str, ...]:
        """Remove unfinished uploads that nobody has written to for 24 hours; returns their names."""
        removed: list[str] = []
        with translated(self.location), self._root() as root:
            for app in apps(root):
                with open_app(root, app) as directory, os.scandir(directory.fd) as entries:
                    for entry in entries:
                        with ignored(errno.ENOENT):
                            if _is_stale(app, entry, now):
                                os.unlink(entry.name, dir_fd=directory.fd)
                                removed.append(f"{app}/{entry.name}")
        return tuple(removed)

    def _open_root(self) -> Handle:
        try:
            return Handle(os.open(self.root, DIRECTORY))
        except FileNotFoundError as error:
            raise not_mounted(self.location) from error
        except NotADirectoryError as error:
            raise AccessDenied(
                f"{self.location} is a symbolic link, or no directory", "Give the real path of a directory."
            ) from error

    def _root(self) -> Handle:
        """The root, when it is the one that was prepared (D05)."""
        root = self._open_root()
        try:
            found = os.stat(MARKER, dir_fd=root.fd, follow_symlinks=False)
        except FileNotFoundError:
            raise not_mounted(self.location) from None
        identity = (found.st_dev, found.st_ino, found.st_ctime_ns)
        if identity != self._checked:  # reading it again for each of many objects takes as long as they do
            check_marker(self.location, _read_marker(root), self.marker)
            self._checked = identity
        return root

    def _create(self, root: Handle, app: str, token: str) -> tuple[Handle, Handle]:
        """A new file *token* in the directory of *app*, and that directory, made where it is missing."""
        for _ in range(_TRIES):
            with ignored(errno.EEXIST):
                os.mkdir(app, 0o700, dir_fd=root.fd)
                sync(root.fd)
            with ignored(errno.ENOENT):  # another check has just removed its empty directory
                directory = open_app(root, app)
                file = os.open(token, _WRITE | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory.fd)
                return directory, Handle(file)
        raise DestinationUnavailable(f"{self.location}: somebody keeps removing the directory {app}")


def _read_marker(root: Handle) -> str | None:
    """The id in the marker file; None where there is no such file."""
    try:
        with Handle(os.open(MARKER, READ, dir_fd=root.fd)) as file:
            return marker_id(os.read(file.fd, 4096))
    except FileNotFoundError:
        return None


def _is_stale(app: str, entry: os.DirEntry[str], now: datetime) -> bool:
    name = finished_name(entry.name)
    if name is None or not is_key(f"{app}/{name}") or not entry.is_file(follow_symlinks=False):
        return False  # not a name that we give
    return modified(entry.stat(follow_symlinks=False)) < now - GRACE
