"""An object on its way into Google Drive: a resumable upload under a name that no object has, then a new name.

The session takes chunks from the spool's segments while the size is unknown (``bytes a-b/*``); each but the last is a
multiple of 256 KiB, so less than that waits here for the next segment. The server says how much it kept (308, Range),
and that may be less than was sent. The last chunk makes a file, whole and still hidden; its name makes the object.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from blocks.destinations.base import Upload
from blocks.destinations.google_drive_api import held_bytes
from blocks.destinations.google_drive_errors import failure
from blocks.destinations.google_drive_publish import publish
from blocks.destinations.google_drive_tree import FIELDS, PROPERTY, DriveFile, Tree
from blocks.destinations.local_files import blocks_of
from vault.errors import AlreadyExists, DestinationError, DestinationUnavailable, NotFound, ReadBackMismatch
from vault.spool import Segment
from vault.store import PARTIAL_SUFFIX, StoredObject

if TYPE_CHECKING:
    from requests import Response

QUANTUM = 256 * 1024
_GONE = (404, 410, 499)  # expired, ended, cancelled
_NO_MATTER = (*_GONE, 400, 405)  # how one cancels a session is not documented, and it ends by itself within a week
_DONE = (200, 201)
_KEPT = 308


class DriveUpload(Upload):
    """The token holds the key, the id that the file has or will have, and the session, which is nobody else's."""

    def __init__(self, tree: Tree, key: str, file_id: str, session: str) -> None:
        self.token = f"{key} {file_id} {session}"
        self.offset = 0
        self._tree, self._key, self._id, self._session = tree, key, file_id, session
        self._what = f"{key} at {tree.api.location}"
        self._tail = b""  # what comes after offset, and is no chunk yet
        self._ending = False  # the server may have the last chunk
        self._file: DriveFile | None = None  # whole; under a hidden name, or its own
        self._stored: StoredObject | None = None

    @classmethod
    def begin(cls, tree: Tree, key: str) -> Self:
        """A new session for *key*; its app's folder is made where it is missing."""
        app, _, name = key.partition("/")
        file_id = tree.new_id()
        metadata = {
            "id": file_id,
            "name": f".{name}.{secrets.token_hex(8)}{PARTIAL_SUFFIX}",
            "mimeType": "application/octet-stream",
            "appProperties": {PROPERTY: "partial"},
        }
        try:
            session = tree.api.start_upload(metadata | {"parents": [tree.folder_for(app)]}, FIELDS)
        except NotFound:  # somebody has deleted the folder that we knew
            tree.folders.pop(app, None)
            session = tree.api.start_upload(metadata | {"parents": [tree.folder_for(app)]}, FIELDS)
        return cls(tree, key, file_id, session)

    @classmethod
    def resume(cls, tree: Tree, key: str, token: str) -> Self:
        """The upload of that *token*, from where the server stands; ``NotFound`` where nothing is left of it."""
        parts = token.split(" ")
        if len(parts) != 3 or parts[0] != key or not parts[1].isascii() or not tree.api.is_session(parts[2]):
            raise NotFound(f"{key} at {tree.api.location} has no such upload")
        upload = cls(tree, *parts)
        response = upload._ask()
        if response.status_code == _KEPT:
            upload._hear(response)
        else:  # it is over: for good, or it ended well and nobody lived to hear it
            upload._file = tree.get(upload._id)
            upload.offset = upload._file.size
        return upload

    def append(self, segment: Segment) -> None:
        """Send what the destination lacks of *segment*, but for a rest of less than 256 KiB."""
        position, end = self.offset + len(self._tail), segment.offset + segment.size
        if segment.offset > position:
            raise DestinationError(f"{self._what}: bytes {position} to {segment.offset} are missing")
        if end <= position:
            return
        if self._file is not None:
            raise AlreadyExists(f"{self._what} is finished, with {self.offset} bytes")
        self._send(_Bytes(self.offset, end, self._tail, segment), "*")

    def commit(self) -> StoredObject:
        """Send the rest, with the size; then give the file its name where no other object has it."""
        if self._stored is None:
            if self._file is None:
                self._ending = True
                total = self.offset + len(self._tail)
                self._send(_Bytes(self.offset, total, self._tail, Segment.of(b"", offset=total)), str(total))
            try:
                self._stored = publish(self._tree, self._key, self._whole())
            except NotFound as error:
                raise DestinationUnavailable(f"{self._what}: what was sent is not there any more") from error
        return self._stored

    def abort(self) -> None:
        """Cancel the session, and delete the file that it may have made."""
        if self._stored is not None or (self._file is not None and self._file.name == self._key.partition("/")[2]):
            return
        if self._file is None:
            self._tree.api.send("DELETE", self._session, also=_NO_MATTER).close()
        if self._file is not None or self._ending:
            self._tree.delete(self._id)

    def _send(self, data: _Bytes, total: str) -> None:
        """Send *data* from where the server stands, as far as chunks go: to its end when the *total* is known."""
        failed, step = 0, QUANTUM if total == "*" else 1
        try:
            while self._file is None and (total != "*" or data.end - self.offset >= step):
                before = self.offset
                error, response = self._try(data.part(before, (data.end - before) // step * step), total)
                if self._file is not None or self.offset > before:
                    failed = 0
                if error is None:
                    continue
                failed += 1
                self._tree.api.wait_or_raise(failed, error, response)
                self._hear(self._ask())
        finally:
            self._tail = data.rest(self.offset)

    def _try(self, part: _Bytes, total: str) -> tuple[DestinationError | None, Response | None]:
        """Send *part* once. What went wrong, and the answer if there was one."""
        span = f"{part.begin}-{part.end - 1}" if len(part) else "*"
        response, before = None, self.offset
        try:
            response = self._tree.api.once(
                "PUT",
                self._session,
                data=part if len(part) else None,
                headers={"Content-Range": f"bytes {span}/{total}"},
            )
            self._hear(response)
        except DestinationError as error:
            return error, response
        if self._file is None and self.offset == before:
            return DestinationUnavailable(f"{self._what}: Google keeps nothing of what is sent"), None
        return None, response

    def _ask(self) -> Response:
        """Where the session stands: 308, or that it is over."""
        return self._tree.api.send("PUT", self._session, also=(_KEPT, *_GONE), headers={"Content-Range": "bytes */*"})

    def _hear(self, response: Response) -> None:
        """Take over how far the session is; an error where it is no more, or *response* is one."""
        if response.status_code == _KEPT:
            held = held_bytes(response)
            if held < self.offset:
                raise DestinationUnavailable(f"{self._what}: Google lost {self.offset - held} bytes that it had")
            self.offset = held
        elif response.status_code in _DONE:
            document = self._tree.api.read(response)
            self._file = DriveFile.of(document) if "size" in document else self._tree.get(self._id)
        elif response.status_code in _GONE:
            raise DestinationUnavailable(f"{self._what}: its upload session is over (HTTP {response.status_code})")
        else:
            raise failure(response, self._what)

    def _whole(self) -> DriveFile:
        """The file, when it has every byte that was sent (T08)."""
        file, sent = self._file, self.offset + len(self._tail)
        if file is None:
            raise DestinationError(f"{self._what}: the upload did not end")
        if file.size != sent:
            self.abort()
            raise ReadBackMismatch(f"{self._what}: Google has {file.size} of {sent} bytes; they were deleted")
        return file


@dataclass(frozen=True)
class _Bytes:
    """Bytes *begin* to *end*: *tail*, then *segment*. Sized, and read anew each time that they are sent."""

    begin: int
    end: int
    tail: bytes
    segment: Segment

    def __len__(self) -> int:
        return self.end - self.begin

    def __iter__(self) -> Iterator[memoryview]:
        yield from _pieces(memoryview(self.tail)[: len(self)])
        position = self.begin + len(self.tail)
        if position >= self.end:
            return
        for block in blocks_of(self.segment, position - self.segment.offset):
            yield from _pieces(block[: self.end - position])
            position += len(block)
            if position >= self.end:
                return

    def part(self, begin: int, size: int) -> _Bytes:
        """*size* bytes from *begin* on."""
        return _Bytes(begin, begin + size, self.tail[begin - self.begin :], self.segment)

    def rest(self, begin: int) -> bytes:
        """What waits for the next segment; nothing where a failure leaves more than that: then it is sent again."""
        if self.end - begin < QUANTUM:
            return b"".join(map(bytes, self.part(begin, self.end - begin)))  # each one lies where the next one will
        return self.tail[begin - self.begin :]


def _pieces(block: memoryview) -> Iterator[memoryview]:
    """Small enough for a slow line to take one within the time limit."""
    for begin in range(0, len(block), QUANTUM):
        yield block[begin : begin + QUANTUM]
