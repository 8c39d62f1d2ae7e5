"""An object on its way to a server over SFTP."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from blocks.destinations import sftp_messages as ask
from blocks.destinations.base import Upload
from blocks.destinations.local_files import blocks_of
from blocks.destinations.places import finished_name, partial_name
from blocks.destinations.sftp_client import WINDOW, SftpClient
from blocks.destinations.sftp_connection import Connection, Pool
from blocks.destinations.sftp_errors import translated
from blocks.destinations.sftp_files import (
    create,
    flush,
    flush_directory,
    look,
    open_regular,
    publish,
    regular,
    room,
    same_content,
    stored_object,
)
from blocks.destinations.sftp_messages import SftpStatus
from vault.errors import AlreadyExists, DestinationError, NoSpace, NotFound, Transient, printable
from vault.spool import Segment
from vault.store import StoredObject

_TOKEN = re.compile(r"(.+):(\d{1,19})")


@dataclass(frozen=True)
class Target:
    """Which object: for people, its key, and the directory it goes to."""

    what: str
    key: str
    directory: str

    @property
    def name(self) -> str:
        return self.key.partition("/")[2]

    @property
    def path(self) -> str:
        return f"{self.directory}/{self.name}"

    def stored(self, sftp: SftpClient) -> StoredObject:
        """It, as the server reports it now; ``SftpStatus`` where it is not there."""
        return stored_object(sftp, self.key, self.path, sftp.do(ask.lstat(self.path)), self.what)


class SftpUpload(Upload):
    """An object under its temporary name. The token is that name, and how far the server has acknowledged it."""

    def __init__(self, target: Target, pool: Pool, connection: Connection, name: str, offset: int) -> None:
        self._target, self._pool, self._name = target, pool, name
        self._connection: Connection | None = connection
        self._handle: bytes | None = None  # of the open temporary file
        self._committed = self._aborted = False
        self._stored: StoredObject | None = None
        self.offset = offset

    @classmethod
    def begin(cls, target: Target, pool: Pool, connection: Connection) -> Self:
        """A new one. Raises what SFTP says, such as that there is no such directory."""
        upload = cls(target, pool, connection, partial_name(target.name), 0)
        upload._handle = create(connection.sftp, upload._partial)
        return upload

    @classmethod
    def resume(cls, target: Target, pool: Pool, connection: Connection, token: str) -> Self:
        """Go on with the one that *token* says; ``NotFound`` when it is gone, or some of what was acknowledged is.

        A server may carry out writes in another order than they were sent in. When the connection breaks, the last
        ``WINDOW`` bytes may have gaps: of those, only what was acknowledged counts.
        """
        said = _TOKEN.fullmatch(token)
        if said is None or finished_name(said[1]) != target.name:
            raise NotFound(f"{target.what} has no upload {printable(token)[:80]!r}")
        sftp, name, acknowledged = connection.sftp, said[1], int(said[2])
        found = look(sftp, f"{target.directory}/{name}")
        if found is None:
            # It was committed, and whoever did that did not live to hear it; or it is gone, and this raises.
            upload = cls(target, pool, connection, name, target.stored(sftp).size)
            upload._committed = True
            return upload
        regular(found, target.what)
        handle, size = open_regular(sftp, f"{target.directory}/{name}", ask.FOR_WRITING, target.what)
        if size is not None and size < acknowledged:
            raise NotFound(f"{target.what}: the server has {size} bytes, and had said that it has {acknowledged}")
        upload = cls(target, pool, connection, name, acknowledged if size is None else max(acknowledged, size - WINDOW))
        upload._handle = handle
        return upload

    @property
    def token(self) -> str:  # type: ignore[override]
        return f"{self._name}:{self.offset}"

    @property
    def _partial(self) -> str:
        return f"{self._target.directory}/{self._name}"

    def append(self, segment: Segment) -> None:
        """Send what the destination lacks of *segment*; returns when all of it is acknowledged."""
        held = self.offset - segment.offset
        if held < 0:
            raise DestinationError(f"{self._target.what}: bytes {self.offset} to {segment.offset} are missing")
        if held >= segment.size:
            return
        if self._committed:
            raise AlreadyExists(f"{self._target.what} is finished, with {self.offset} bytes")
        sftp = self._sftp
        try:
            with translated(self._target.what, room=lambda: room(sftp, self._target.directory)):
                for acknowledged in sftp.write(self._open, self.offset, blocks_of(segment, held, sftp.write_length)):
                    self.offset = acknowledged
        except NoSpace:
            self.abort()
            raise

    def commit(self) -> StoredObject:
        """File to disk, close, rename without replacing, directory to disk: in this order (K14)."""
        if self._stored is not None:
            return self._stored
        sftp, target = self._sftp, self._target
        try:
            with translated(target.what, room=lambda: room(sftp, target.directory)):
                if not self._committed:
                    self._finish(sftp)
                flush_directory(sftp, target.directory)
                self._stored = target.stored(sftp)
            self._release()
            return self._stored
        except DestinationError as error:
            if not isinstance(error, Transient):  # after those it is resumed
                with suppress(DestinationError):  # the first error is the one to tell
                    self.abort()
            raise

    def _finish(self, sftp: SftpClient) -> None:
        size = sftp.do(ask.fstat(self._open)).size
        if size is not None and size != self.offset:
            raise DestinationError(
                f"{self._target.what}: the server has {size} of the {self.offset} bytes that were sent"
            )
        flush(sftp, self._open)
        handle, self._handle = self._open, None
        sftp.do(ask.close(handle))  # before the rename: network file systems report a full quota here
        try:
            publish(sftp, self._partial, self._target.path)
        except FileExistsError:
            if not same_content(sftp, self._partial, self._target.path, self._target.what):
                raise AlreadyExists(f"{self._target.what} is there already, with other content") from None
            sftp.do(ask.remove(self._partial))
        self._committed = True

    def abort(self) -> None:
        """Remove the temporary file."""
        if self._committed or self._aborted:
            self._release()
            return
        with translated(self._target.what):
            if self._connection is None or not self._connection.usable:
                self._release()
                self._connection, self._handle = self._pool.take(), None
            sftp = self._connection.sftp
            if self._handle is not None:
                sftp.all(ask.close(self._handle))
                self._handle = None
            try:
                sftp.do(ask.remove(self._partial))
            except SftpStatus as status:
                if status.code != ask.NO_SUCH_FILE:
                    raise
        self._aborted = True
        self._release()

    @property
    def _sftp(self) -> SftpClient:
        if self._connection is None:
            raise DestinationError(f"{self._target.what}: this upload has ended")
        return self._connection.sftp

    @property
    def _open(self) -> bytes:
        if self._handle is None:
            raise DestinationError(f"{self._target.what}: this upload has ended")
        return self._handle

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.give(connection)
