"""The root of an SFTP destination: whether it is the right one, and what lies in it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from blocks.destinations import sftp_messages as ask
from blocks.destinations.places import MARKER, check_marker, marker_id, new_marker, not_mounted, refuse_foreign
from blocks.destinations.sftp_client import SftpClient
from blocks.destinations.sftp_files import create, flush, flush_directory, look, publish, size
from blocks.destinations.sftp_messages import Attributes, Request, SftpStatus
from vault.errors import AccessDenied, DestinationError, DestinationUnavailable
from vault.store import NAME, PARTIAL_SUFFIX, StoredObject, is_key

_MARKER_BYTES = 4096
_TRIES = 10
T = TypeVar("T")


@dataclass(frozen=True)
class Root:
    """A directory on the server. *location* is for people."""

    location: str
    path: str

    def check(self, sftp: SftpClient, marker: str) -> None:
        """Pass when it is there, is no link, and has the marker (D05, D14)."""
        check_marker(self.location, self._marker(sftp)[0], marker)

    def find(self, sftp: SftpClient, marker: str, key: str) -> tuple[str, Attributes]:
        """The path of *key*, and what is there; ``SftpStatus`` where nothing is. With the check, in two round trips."""
        app = key.partition("/")[0]
        path = f"{self.path}/{key}"
        found, directory, attributes = self._marker(sftp, ask.lstat(self.directory(app)), ask.lstat(path))
        check_marker(self.location, found, marker)
        for answer in (directory, attributes):
            if isinstance(answer, SftpStatus):
                raise answer
        self._directory(self.directory(app), directory)
        return path, attributes

    def prepare(self, sftp: SftpClient, marker: str, adopt: bool) -> str:
        """The id in the marker file of the root; both are made where they are missing and no *marker* is wanted."""
        if not marker and look(sftp, self.path) is None:
            self._make(sftp)
        found = self._marker(sftp)[0]
        if found is None and not marker:
            self._claim(sftp, adopt)
            found = self._marker(sftp)[0]
        check_marker(self.location, found, marker)
        return found or ""

    def directory(self, app: str) -> str:
        """Where the objects of *app* are."""
        return f"{self.path}/{app}"

    def enter(self, sftp: SftpClient, app: str) -> str:
        """The directory of *app*, when it is one. ``SftpStatus`` where it is not there."""
        return self._directory(self.directory(app), sftp.do(ask.lstat(self.directory(app))))

    def make(self, sftp: SftpClient, app: str) -> str:
        """The directory of *app*, made where it is missing."""
        path = self.directory(app)
        found = look(sftp, path)
        if found is None:
            made = sftp.all(ask.make_directory(path, 0o700))[0]
            found = look(sftp, path)  # somebody else may make it, or remove it, in this moment
            if found is None and isinstance(made, SftpStatus):
                raise made
            flush_directory(sftp, self.path)
        return path if found is None else self._directory(path, found)

    def begin(self, sftp: SftpClient, app: str, begin: Callable[[], T]) -> T:
        """What *begin* makes in the directory of *app*, which is made where it is missing."""
        for _ in range(_TRIES):
            self.make(sftp, app)
            try:
                return begin()
            except SftpStatus as status:
                if status.code != ask.NO_SUCH_FILE:
                    raise  # else another check has just removed its empty directory
        raise DestinationUnavailable(f"{self.location}: somebody keeps removing the directory {app}")

    def apps(self, sftp: SftpClient) -> list[str]:
        """What may be directories of apps, by name."""
        return sorted(name for name, found in sftp.scan(self.path) if NAME.fullmatch(name) and found.is_directory)

    def objects(self, sftp: SftpClient, app: str) -> Iterator[StoredObject]:
        """Every object of *app*: regular files with a name that we could have given."""
        try:
            path = self.enter(sftp, app)
            for name, found in sftp.scan(path):
                key = f"{app}/{name}"
                if is_key(key) and found.is_file:
                    known = size(sftp, f"{path}/{name}") if found.size is None else found.size
                    yield StoredObject(key, known, found.modified)
        except SftpStatus as status:
            if status.code != ask.NO_SUCH_FILE:
                raise

    def _make(self, sftp: SftpClient) -> None:
        try:
            sftp.do(ask.make_directory(self.path, 0o700))
        except SftpStatus as status:
            if status.code == ask.NO_SUCH_FILE:
                raise DestinationError(
                    f"{self.location} cannot be made: its parent directory is missing",
                    "If a disk should be mounted there, mount it; else make the parent.",
                ) from status
            if look(sftp, self.path) is None:  # else somebody else made it in this moment
                raise
        parent = self.path.rpartition("/")[0]
        flush_directory(sftp, parent or "/")

    def _claim(self, sftp: SftpClient, adopt: bool) -> None:
        names = {name for name, _ in sftp.scan(self.path)} - {".", ".."}
        refuse_foreign(self.location, names, adopt)
        temporary = f"{self.path}/{MARKER}.{secrets.token_hex(8)}{PARTIAL_SUFFIX}"
        handle = create(sftp, temporary)
        content = memoryview(new_marker())
        for _ in sftp.write(handle, 0, [content]):
            pass
        flush(sftp, handle)
        sftp.do(ask.close(handle))
        try:
            publish(sftp, temporary, f"{self.path}/{MARKER}")
        except FileExistsError:  # somebody else claimed it in this moment
            sftp.do(ask.remove(temporary))
        flush_directory(sftp, self.path)

    def _marker(self, sftp: SftpClient, *also: Request[Attributes]) -> tuple[Any, ...]:
        """The id in the marker file, None where there is none; and the answers to what is asked *also*.

        It is read for each use: in two round trips.
        """
        path = f"{self.path}/{MARKER}"
        opening = ask.open_file(path, ask.FOR_READING)
        root, marker, handle, *others = sftp.all(ask.lstat(self.path), ask.lstat(path), opening, *also)
        content: Any = b""
        if not isinstance(handle, SftpStatus):
            content, _ = sftp.all(ask.read(handle, 0, _MARKER_BYTES), ask.close(handle))
        for answer in (root, marker, handle, content):
            if isinstance(answer, SftpStatus) and answer.code not in (ask.NO_SUCH_FILE, ask.END):
                raise answer
        if isinstance(root, SftpStatus):
            raise not_mounted(self.location)
        self._directory(self.path, root)
        if isinstance(marker, SftpStatus) or isinstance(handle, SftpStatus):
            return None, *others
        if not marker.is_file:
            raise AccessDenied(f"the marker file {path} is no regular file", "Find out who put it there.")
        return marker_id(b"" if isinstance(content, SftpStatus) else bytes(content)), *others

    def _directory(self, path: str, found: Attributes) -> str:
        if found.is_directory:
            return path
        raise AccessDenied(
            f"{path} at {self.location} is a symbolic link, or no directory", "Give the real path of a directory."
        )
