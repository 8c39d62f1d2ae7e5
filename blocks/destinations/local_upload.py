"""An object on its way into a local destination."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from blocks.destinations.base import Upload
from blocks.destinations.local_files import (
    Handle,
    blocks_of,
    ignored,
    rename_new,
    same_content,
    stored_object,
    sync,
    translated,
)
from vault.errors import AlreadyExists, DestinationError, DestinationUnavailable, NoSpace, NotFound
from vault.spool import Segment
from vault.store import StoredObject


class LocalUpload(Upload):
    """An object under its temporary name, which is the token."""

    def __init__(self, what: str, key: str, directory: Handle, token: str, file: Handle | None) -> None:
        self.token = token
        self._what, self._key, self._name = what, key, key.partition("/")[2]
        self._directory, self._file = directory, file
        self._committed = file is None
        self.offset = self._stored().size

    def append(self, segment: Segment) -> None:
        """Send what the destination lacks of *segment*."""
        held = self.offset - segment.offset
        if held < 0:
            raise DestinationError(f"{self._what}: bytes {self.offset} to {segment.offset} are missing")
        if held >= segment.size:
            return
        if self._file is None:
            raise AlreadyExists(f"{self._what} is finished, with {self.offset} bytes")
        begin = self.offset
        with self._removed_when_full():
            for data in blocks_of(segment, held):
                self._write(self._file.fd, data)
            # Starts to write these pages back, without waiting: so commit has little left to wait for.
            os.posix_fadvise(self._file.fd, begin, self.offset - begin, os.POSIX_FADV_DONTNEED)

    def _write(self, file: int, data: memoryview) -> None:
        while data:
            written = os.pwrite(file, data, self.offset)
            self.offset += written
            data = data[written:]

    def commit(self) -> StoredObject:
        """File to disk, close, rename without replacing, directory to disk: in this order (K14)."""
        try:
            with translated(self._what):
                if not self._committed:
                    self._finish()
                with self._tried_once():
                    sync(self._directory.fd)
            return self._stored()
        except DestinationError:
            with suppress(DestinationError):  # the first error is the one to tell
                self.abort()
            raise

    def _finish(self) -> None:
        if self._file is None or os.fstat(self._file.fd).st_size != self.offset:
            raise DestinationError(f"{self._what}: the file has not the {self.offset} bytes that were sent")
        with self._tried_once():
            sync(self._file.fd)
            os.posix_fadvise(self._file.fd, 0, 0, os.POSIX_FADV_DONTNEED)
            self._file.close()  # before the rename: network file systems report a full quota here
        try:
            rename_new(self._directory.fd, self.token, self._name)
        except FileExistsError:
            if not same_content(self._directory, self.token, self._name):
                raise AlreadyExists(f"{self._what} is there already, with other content") from None
            os.unlink(self.token, dir_fd=self._directory.fd)
        self._committed = True

    def abort(self) -> None:
        """Remove the temporary file."""
        if self._committed:
            return
        with translated(self._what), ignored(errno.ENOENT):
            os.unlink(self.token, dir_fd=self._directory.fd)
        if self._file is not None:
            with translated(self._what):
                self._file.close()

    def _stored(self) -> StoredObject:
        with translated(self._what, missing=NotFound):
            name = self._name if self._committed else self.token
            status = os.stat(name, dir_fd=self._directory.fd, follow_symlinks=False)
            return stored_object(self._key, status)

    @contextmanager
    def _tried_once(self) -> Iterator[None]:
        """Never tried again: after a failed fsync the kernel calls the lost pages clean, and a second one succeeds."""
        try:
            with translated(self._what):
                yield
        except DestinationUnavailable as error:
            place = self._what.partition(" at ")[2]
            raise DestinationError(
                f"{error.message}: the disk did not keep what was written to it",
                f"Check the disk of {place} (dmesg, smartctl) or its mount; then back up again.",
            ) from error

    @contextmanager
    def _removed_when_full(self) -> Iterator[None]:
        try:
            with translated(self._what):
                yield
        except NoSpace:
            self.abort()
            raise
