"""A multipart upload: the parts of an object that a store holds, invisible until all of them become the object."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from threading import RLock
from typing import Any

from blocks.destinations.b2_body import Body
from blocks.destinations.b2_bucket import Bucket
from blocks.destinations.b2_errors import translated
from vault.errors import DestinationError, NotFound
from vault.spool import Segment

MAX_PARTS = 10_000


@dataclass(frozen=True)
class Part:
    """What the store holds of one; *md5* in hex, empty where nobody here has read its bytes."""

    size: int
    etag: str
    md5: str


class Parts:
    """The parts of *key*, as far as the store has confirmed them. Any thread may send one.

    *id* is the store's name of the upload, empty until the first part is sent; *properties* are those of the object.
    """

    def __init__(self, bucket: Bucket, key: str, properties: dict[str, Any], upload_id: str = "") -> None:
        self.id = upload_id
        self.whole = self.size = 0
        """So many parts, and bytes, from the first on without a gap."""
        self._bucket, self._what, self._properties = bucket, bucket.what(key), properties
        self._address = bucket.address(key)
        self._held: dict[int, Part] = {}
        self._lock = RLock()
        self._gone = False

    def look(self) -> None:
        """Learn what the store holds. Raises ``NotFound`` where it does not know the upload (any more)."""
        with translated(self._what):
            listing = self._bucket.client.get_paginator("list_parts")
            for page in listing.paginate(**self._address, UploadId=self.id):
                for part in page.get("Parts", []):
                    etag = part["ETag"].strip('"')
                    md5 = etag if self._bucket.preset.etag_is_md5 else ""
                    self._held[int(part["PartNumber"])] = Part(int(part["Size"]), etag, md5)
        self._advance()

    def has(self, number: int) -> bool:
        """Whether the store has confirmed that part."""
        with self._lock:
            return number in self._held

    def send(self, number: int, segment: Segment) -> None:
        """Send *segment* as part *number*; the store refuses it where other bytes arrive."""
        if number > MAX_PARTS:
            raise DestinationError(
                f"{self._what} needs more than {MAX_PARTS} parts, and S3 takes no more",
                "Raise BACKUPS_SPOOL_LIMIT: segments, and with them parts, grow up to a quarter of it.",
            )
        self._begin()
        with Body(segment) as body:
            md5 = body.md5()
            with translated(self._what):
                answer = self._bucket.client.upload_part(
                    **self._address,
                    UploadId=self.id,
                    PartNumber=number,
                    Body=body,
                    ContentLength=segment.size,
                    ContentMD5=base64.b64encode(md5).decode(),  # buckets with object lock demand it
                )
        with self._lock:
            self._held[number] = Part(segment.size, answer["ETag"].strip('"'), md5.hex())
            self._advance()

    def _begin(self) -> None:
        with self._lock:
            if self._gone:
                raise NotFound(f"{self._what}: this upload was dropped")
            if not self.id:
                with translated(self._what):
                    answer = self._bucket.client.create_multipart_upload(**self._address, **self._properties)
                self.id = str(answer["UploadId"])

    def _advance(self) -> None:
        while (part := self._held.get(self.whole + 1)) is not None:
            self.whole += 1
            self.size += part.size

    def in_order(self) -> list[Part]:
        """All of them. Raises ``DestinationError`` where one is missing."""
        if len(self._held) != self.whole:
            raise DestinationError(f"{self._what}: part {self.whole + 1} was not sent, and later ones were")
        return [self._held[number] for number in range(1, self.whole + 1)]

    def complete(self, **condition: str) -> dict[str, Any]:
        """Make them the object, and give the store's answer.

        Raises ``NotFound`` where the upload is gone, as it is when that was done before.
        """
        parts = [
            {"PartNumber": number, "ETag": f'"{part.etag}"'} for number, part in enumerate(self.in_order(), start=1)
        ]
        with translated(self._what):
            answer: dict[str, Any] = self._bucket.client.complete_multipart_upload(
                **self._address, UploadId=self.id, MultipartUpload={"Parts": parts}, **condition
            )
        return answer

    @property
    def etag(self) -> str:
        """That of the object, where the store makes it of the parts' MD5s."""
        digests = [bytes.fromhex(part.md5) for part in self.in_order()]
        return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"

    def drop(self) -> None:
        """Have the store delete them. Idempotent."""
        with self._lock:
            if self.id and not self._gone:
                try:
                    with translated(self._what):
                        self._bucket.client.abort_multipart_upload(**self._address, UploadId=self.id)
                except NotFound:
                    pass
            self._gone = True
