"""A bucket, or a part of one, for the parts of this driver: names, errors, and what lies under a key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from blocks.destinations.b2_errors import NoBucket, NotSupported, translated
from blocks.destinations.b2_store import Preset
from vault.errors import AccessDenied, DestinationUnavailable, KeptByLock, NotFound
from vault.store import Digest, StoredObject

NONCE = "upload"
"""The name under which the metadata of an object hold the nonce of the upload that made it."""
_MD5_ETAG = re.compile(r"[0-9a-f]{32}(-[0-9]{1,5})?")
_PROBE = re.compile(r"probe/[0-9a-f]{16}\.probe")


def is_probe(key: str) -> bool:
    """Whether *key* is that of an object which ``Destination.check`` wrote."""
    return _PROBE.fullmatch(key) is not None


@dataclass(frozen=True)
class Found:
    """An object as a HEAD of it says."""

    stored: StoredObject
    etag: str
    nonce: str
    encrypted_by_kms: bool
    kept_until: datetime | None
    on_hold: bool

    @property
    def digest(self) -> Digest | None:
        """The ETag, where it may be made of MD5s: under a key of KMS it never is."""
        return None if self.encrypted_by_kms or not _MD5_ETAG.fullmatch(self.etag) else Digest("etag", self.etag)


@dataclass(frozen=True)
class Bucket:
    """The bucket *name* below *prefix* (empty, or with ``/`` at its end), through *client*."""

    client: Any
    name: str
    prefix: str
    preset: Preset
    location: str
    lock_days: int

    def what(self, key: str) -> str:
        """The object, for a message."""
        return f"{key} at {self.location}"

    def address(self, key: str) -> dict[str, str]:
        """The object, for a call."""
        return {"Bucket": self.name, "Key": self.prefix + key}

    def head(self, key: str, **version: str) -> Found:
        """What lies under *key*. Raises ``NotFound``."""
        with translated(self.what(key)):
            answer = self.client.head_object(**self.address(key), **version)
        return Found(
            stored=StoredObject(key, int(answer["ContentLength"]), answer["LastModified"].astimezone(UTC)),
            etag=str(answer.get("ETag", "")).strip('"'),
            # Some stores give the name back in other letters.
            nonce=next((value for name, value in answer.get("Metadata", {}).items() if name.lower() == NONCE), ""),
            encrypted_by_kms="SSECustomerAlgorithm" in answer or "kms" in str(answer.get("ServerSideEncryption")),
            kept_until=answer.get("ObjectLockRetainUntilDate"),
            on_hold=answer.get("ObjectLockLegalHoldStatus") == "ON",
        )

    def find(self, key: str) -> Found | None:
        """What lies under *key*, None where nothing does."""
        try:
            return self.head(key)
        except NotFound:
            return None

    def must_be_there(self) -> None:
        """Pass when the bucket is there: where it is not, a HEAD of an object only says 404 too (D05)."""
        try:
            with translated(self.location):
                self.client.head_bucket(Bucket=self.name)
        except NotFound as error:
            raise NoBucket(
                f"{self.location}: there is no such bucket",
                "Create it at the store; that is never done by us. Check its name and the endpoint.",
            ) from error

    def pages(self, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Every page of a listing, a call each; the one that fails raises."""
        with translated(self.location):
            for page in self.client.get_paginator(operation).paginate(Bucket=self.name, **arguments):
                if not page.keys() & {"Name", "Bucket"}:  # XML, but of somebody between us: no empty listing
                    raise DestinationUnavailable(f"{self.location}: what answers is no S3 store", "See who is between.")
                yield page

    def remove(self, key: str) -> None:
        """Delete every version of *key*, and every marker that hides one (D17).

        A delete without a version would only hide the object, and one of the newest version uncover an older one.
        Raises ``KeptByLock`` where a lock forbids it; then nothing is hidden either: what is kept is to be seen.
        """
        try:
            versions = self._versions(key) if self.preset.versions else [{}]
        except NotSupported:
            versions = [{}]
        for version in versions:
            try:
                self._delete(key, version)
            except AccessDenied as error:
                raise self._kept(key, version, error) from error

    def _versions(self, key: str) -> list[dict[str, str]]:
        """Those of exactly this key: longer ones that begin with it come later in the listing, so it ends there."""
        found: list[dict[str, str]] = []
        name = self.prefix + key
        for page in self.pages("list_object_versions", Prefix=name):
            every = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            found += [{"VersionId": entry["VersionId"]} for entry in every if entry["Key"] == name]
            if any(entry["Key"] != name for entry in every):
                break
        return found

    def _delete(self, key: str, version: dict[str, str]) -> None:
        try:
            with translated(self.what(key)):
                self.client.delete_object(**self.address(key), **version)
        except NotFound:
            pass  # as good as deleted (D19)

    def hide(self, key: str) -> None:
        """Put a marker over *key*: it is not listed any more, and stays."""
        self._delete(key, {})

    def _kept(self, key: str, version: dict[str, str], error: AccessDenied) -> AccessDenied:
        """*error*, or what it means where the object is locked: some stores say no more than that it is denied."""
        try:
            found = self.head(key, **version)
        except (AccessDenied, NotFound, NotSupported):
            return error
        if found.on_hold:
            return KeptByLock(f"{self.what(key)} is kept by a legal hold", "Ask who put it on hold.")
        if found.kept_until is not None and found.kept_until > datetime.now(UTC):
            until = found.kept_until.astimezone(UTC)
            return KeptByLock(
                f"{self.what(key)} is kept by its object lock until {until:%Y-%m-%d %H:%M} UTC",
                "It is deleted by a later run, once that time has come.",
            )
        return error
