"""An object on its way into a bucket: a multipart upload with a part for each segment, or one put of a small object."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from threading import RLock
from typing import Any

from blocks.destinations.b2_body import Reader
from blocks.destinations.b2_bucket import NONCE, Bucket, Found, is_probe
from blocks.destinations.b2_errors import NotSupported, translated
from blocks.destinations.b2_parts import Parts
from blocks.destinations.base import Upload
from blocks.destinations.local_files import blocks_of
from vault.errors import AlreadyExists, DestinationError, DestinationUnavailable, NotFound, ReadBackMismatch
from vault.spool import Segment
from vault.store import StoredObject

MIN_PART = 5 * 1024**2
"""S3 takes a smaller part only as the last one."""
_PUTS = 3
_BLOCK = 256 * 1024


class B2Upload(Upload):
    """Segment *i* becomes part *i* + 1: in any order, from several threads at once.

    Segments that are too small for a part are held here, less than 5 MiB of them, and joined; these have to come in
    order. Where all together is too small, there is no multipart upload, but one put at ``commit``.

    The token is a nonce, which the object will carry in its metadata, and the multipart upload's id once there is one.
    By the nonce a commit whose answer was lost is told from somebody else's object.
    """

    def __init__(self, bucket: Bucket, key: str, token: str = "") -> None:
        self._nonce, _, upload_id = token.partition(":")
        self._nonce = self._nonce or secrets.token_hex(8)
        self._bucket, self._key, self._what = bucket, key, bucket.what(key)
        self._parts = Parts(bucket, key, self._properties(), upload_id)
        self._lock = RLock()
        self._tail = bytearray()  # what follows the parts, as yet too little for another
        self._early: dict[int, bytes] = {}  # small segments that came before their turn, by offset
        self._end = 0  # of the furthest segment
        self._found: Found | None = None  # the object, once it is there

    @classmethod
    def resume(cls, bucket: Bucket, key: str, token: str) -> B2Upload:
        """The upload with that token, as the store knows it. Raises ``NotFound`` where nothing is left of it."""
        upload = cls(bucket, key, token)
        if upload._parts.id:
            try:
                upload._parts.look()
            except NotFound:  # dropped or expired; or done, by one who did not live to hear it
                pass
            else:
                upload._end = upload._parts.size
                return upload
        upload._found = bucket.find(key)
        if upload._found is None or upload._found.nonce != upload._nonce:
            raise NotFound(f"{bucket.what(key)}: there is no such upload; it was dropped, or the store removed it")
        return upload

    @property
    def token(self) -> str:  # type: ignore[override]
        """The nonce, and behind a colon the multipart upload's id once there is one."""
        return f"{self._nonce}:{self._parts.id}" if self._parts.id else self._nonce

    @property
    def offset(self) -> int:  # type: ignore[override]
        """Bytes in parts without a gap, or in the object."""
        return self._parts.size if self._found is None else self._found.stored.size

    def append(self, segment: Segment) -> None:
        """Send what the store lacks of *segment*, or hold it while it is too small for a part."""
        with self._lock:
            self._end = max(self._end, segment.offset + segment.size)
            held = self.offset + len(self._tail) - segment.offset
            if held >= segment.size:
                return
            if self._found is not None:
                raise AlreadyExists(f"{self._what} is finished, with {self.offset} bytes")
            if held > 0 or self._tail or segment.size < MIN_PART:
                self._join(segment, held)
                return
            number = self._parts.whole + 1 if held == 0 else segment.index + 1
        if not self._parts.has(number):
            self._parts.send(number, segment)

    def _join(self, segment: Segment, held: int) -> None:
        """Put what the store lacks of *segment* behind the tail; the lock is held, also while that is sent."""
        if held >= 0:
            self._add(blocks_of(segment, held))
            self._take_early()
        elif segment.size < MIN_PART:
            self._early[segment.offset] = segment.read()
        else:
            raise DestinationError(f"{self._what}: segment {segment.index} came before smaller ones that precede it")

    def _take_early(self) -> None:
        while (data := self._early.pop(self._parts.size + len(self._tail), None)) is not None:
            self._add([memoryview(data)])

    def _add(self, blocks: Iterable[memoryview]) -> None:
        for block in blocks:
            self._tail += block
            if len(self._tail) >= MIN_PART:
                self._send_tail()

    def _send_tail(self) -> None:
        self._parts.send(self._parts.whole + 1, Segment.of(bytes(self._tail), self._parts.whole, self._parts.size))
        self._tail.clear()

    def commit(self) -> StoredObject:
        """Make the object exist under its key, unless another one does."""
        with self._lock:
            if self._found is None:
                self._take_early()
                sent = self._parts.size + len(self._tail)
                if sent != self._end:
                    raise DestinationError(f"{self._what}: bytes {sent} to {self._end} are missing")
                self._found = self._made()
            return self._found.stored

    def abort(self) -> None:
        """Have the store delete the parts."""
        with self._lock:
            if self._found is None:
                self._parts.drop()
                self._tail.clear()
                self._early.clear()

    def _made(self) -> Found:
        """The object, made now or before, or an equal one.

        First the key has to be free. Between that question and the answer to *complete* or *put* somebody else may take
        it: where the store knows ``If-None-Match``, ours is refused then; where it does not, ours would replace
        theirs (with versions: cover it). But each key holds the random id of its run, so only that run, or a
        retry of it, ever writes it, and always the same bytes: the race has no loser (law 11).
        """
        found = self._bucket.find(self._key)
        if found is None:
            try:
                found = self._complete() if self._parts.id else self._put()
            except AlreadyExists:
                found = self._bucket.head(self._key)
        if found.nonce != self._nonce:
            self._must_equal(found)
            self._parts.drop()
        elif found.stored.size != self._end:
            self._bucket.remove(self._key)
            raise ReadBackMismatch(
                f"{self._what}: the store took {self._end} bytes and has {found.stored.size}; it was removed again",
                "When this is said again, do not trust that store.",
            )
        return found

    def _complete(self) -> Found:
        if self._tail:
            self._send_tail()
        try:
            answer = self._unless_there(self._parts.complete)
        except NotFound as error:  # the try before may have done it, and its answer was lost (T03)
            found = self._bucket.find(self._key)
            if found is None:
                raise NotFound(
                    f"{self._what}: its parts are gone; they were dropped, or expired at the store",
                    "Back up again. If it takes days, look at the bucket's rule for unfinished uploads.",
                ) from error
            return found
        return self._told(answer, self._parts.etag)

    def _put(self) -> Found:
        data = bytes(self._tail)
        md5 = hashlib.md5(data, usedforsecurity=False)
        header = base64.b64encode(md5.digest()).decode()

        def put(**condition: str) -> dict[str, Any]:
            with translated(self._what):
                answer: dict[str, Any] = self._bucket.client.put_object(
                    **self._bucket.address(self._key), Body=data, ContentMD5=header, **self._properties(), **condition
                )
            return answer

        for tries_left in reversed(range(_PUTS)):
            try:
                answer = self._unless_there(put)
                break
            except DestinationUnavailable:
                found = self._bucket.find(self._key)  # the answer may be lost, and not the object (T03)
                if found is not None:
                    return found
                if not tries_left:
                    raise
        return self._told(answer, md5.hexdigest())

    def _told(self, answer: dict[str, Any], etag: str) -> Found:
        """The object, as the *answer* to what made it says: where its *etag* proves the bytes, nobody needs to ask.

        Some stores compute the ETag for each question, by reading all of the object.
        """
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
        if not self._bucket.preset.etag_is_md5 or answer.get("ETag", "").strip('"') != etag:
            return self._bucket.head(self._key)
        try:
            stored = StoredObject(self._key, self._end, parsedate_to_datetime(date).astimezone(UTC))
        except ValueError:  # no date, or none that can be read
            return self._bucket.head(self._key)
        return Found(stored, etag, self._nonce, encrypted_by_kms=False, kept_until=None, on_hold=False)

    def _unless_there(self, make: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        """*make* the object on the condition that none is there, where the store knows such a condition."""
        if self._bucket.preset.conditional:
            try:
                return make(IfNoneMatch="*")
            except NotSupported:
                pass
        return make()

    def _must_equal(self, found: Found) -> None:
        """Pass when *found*, which is not ours, has the bytes that were sent; else ``AlreadyExists``."""
        pieces = [(part.size, part.md5) for part in self._parts.in_order()]
        if self._tail:
            pieces.append((len(self._tail), hashlib.md5(self._tail, usedforsecurity=False).hexdigest()))
        if found.stored.size != self._end or not self._reads_as(pieces):
            raise AlreadyExists(f"{self._what} is there already, with other content")

    def _reads_as(self, pieces: list[tuple[int, str]]) -> bool:
        """Whether the object that is there, read back, has pieces of these sizes and MD5s."""
        with Reader(self._bucket, self._key, 0) as reader:
            for size, md5 in pieces:
                digest = hashlib.md5(usedforsecurity=False)
                while size and (data := reader.read(min(size, _BLOCK))):
                    digest.update(data)
                    size -= len(data)
                if size or digest.hexdigest() != md5:
                    return False
        return True

    def _properties(self) -> dict[str, Any]:
        """What the object has beside its bytes."""
        own: dict[str, Any] = {"ContentType": "application/octet-stream", "Metadata": {NONCE: self._nonce}}
        if self._bucket.lock_days and not is_probe(self._key):
            until = datetime.now(UTC) + timedelta(days=self._bucket.lock_days)
            own |= {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
        return own
