"""A bucket at Backblaze B2, or at any other store that speaks S3, as a destination.

An object is sent in parts that nobody sees, and appears whole when the store is told to complete it. Every part goes
with its MD5, so that the store refuses what was damaged on the way. Nothing here needs a file system or our own memory.

There is no marker as a local directory has one (D05): a bucket is not mounted, so no empty place can be where it was.
Its name and our key lead to it or to an error, and a missing one is never made by us.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any, BinaryIO, ClassVar
from urllib.parse import urlsplit

from pydantic import Field, HttpUrl, PrivateAttr, SecretStr, field_validator, model_validator

from blocks.destinations.b2_body import Reader
from blocks.destinations.b2_bucket import Bucket, is_probe
from blocks.destinations.b2_clean import drop_uploads, remove_probes
from blocks.destinations.b2_errors import NotSupported, translated
from blocks.destinations.b2_store import Preset, Provider, connect, preset_of, region_of
from blocks.destinations.b2_upload import B2Upload
from blocks.destinations.base import Destination, Upload
from blocks.look import DOCUMENTATION_URL, LOGO_URL
from vault.errors import ConfigError, KeptByLock, NotFound
from vault.store import Digest, StoredObject, check_key, check_prefix, is_key

GRACE = timedelta(hours=24)
_BUFFER = 256 * 1024
_OTHER_CALLS = 8
"""Connections beside those of the parts: the catalog reads so many records at once."""
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_connecting = Lock()


class B2Destination(Destination):
    """A bucket at Backblaze B2, or at any other store that speaks S3, to which backups go.

    Attributes:
        bucket: The bucket's name.
        endpoint: The store's URL; empty for AWS.
        key_id: The id of the key.
        secret_key: The key itself.
        provider: Whose store it is, where the endpoint does not say it.
        region: The region, where the endpoint does not say it.
        prefix: Where in the bucket the backups are.
        parallel_parts: How many parts are sent at once.
        object_lock_days: For how many days nobody can delete what is written.
        ca_file: The certificate of the authority that signed the endpoint's.
        max_runs: How many runs may upload there at once; 0: no limit.
        max_wait: Seconds that a run waits for its turn there, then goes on without it; 0: for as long as it takes.
        bandwidth: Bytes a second that a run sends there and reads from there; 0: no limit.

    Example:
        Load a B2 destination:
        ```python
        from blocks import B2Destination

        destination = B2Destination.load("BLOCK_NAME")
        ```
    """

    _block_type_name: ClassVar[str | None] = "B2 Destination"
    _block_type_slug: ClassVar[str | None] = "b2-destination"
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL

    bucket: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{1,61}[A-Za-z0-9]$", description="The bucket's name; it has to exist."
    )
    endpoint: str = Field(
        default="",
        description="The store's URL, such as https://s3.us-west-000.backblazeb2.com; empty for AWS.",
    )
    key_id: str = Field(min_length=1, description="The id of the key: B2's keyID, or AWS's access key id.")
    secret_key: SecretStr = Field(description="The key itself: B2's applicationKey, or AWS's secret access key.")
    provider: Provider = Field(
        default="auto", description="Whose store it is, which decides what is relied on; auto: as the endpoint says."
    )
    region: str = Field(
        default="", pattern=r"^[a-z0-9-]*$", description="The bucket's region, where the endpoint does not name it."
    )
    prefix: str = Field(
        default="", description="Where in the bucket the backups are, such as backups/office; empty for its root."
    )
    parallel_parts: int = Field(default=4, ge=1, le=32, description="How many parts of an object are sent at once.")
    object_lock_days: int = Field(
        default=0,
        ge=0,
        le=3650,
        description="For so many days nobody, not even the account's owner, can delete a backup; 0 for no lock.",
    )
    ca_file: str = Field(
        default="",
        description="A file with the certificate of the authority behind the endpoint's; empty for the usual ones.",
    )
    _client: Any = PrivateAttr(default=None)

    @field_validator("secret_key")
    @classmethod
    def _is_a_key(cls, key: SecretStr) -> SecretStr:
        if not key.get_secret_value().strip():
            raise ValueError("is empty")
        return SecretStr(key.get_secret_value().strip())

    @field_validator("prefix")
    @classmethod
    def _is_a_path(cls, prefix: str) -> str:
        prefix = prefix.strip("/")
        if prefix and not re.fullmatch(rf"{_NAME}(/{_NAME})*", prefix):
            raise ValueError("must be names of A-Z, a-z, 0-9, '.', '_' and '-', with '/' between them")
        return prefix

    @field_validator("endpoint")
    @classmethod
    def _is_safe(cls, endpoint: str) -> str:
        text = endpoint.strip()
        if not text:
            return ""
        url = urlsplit(text if "://" in text else f"https://{text}")
        local = url.hostname in ("localhost", "127.0.0.1", "::1")
        if url.port == 0 or not url.hostname or url.path not in ("", "/") or url.query or "@" in url.netloc:
            raise ValueError("must be the URL of the store only, such as https://s3.us-west-000.backblazeb2.com")
        if url.scheme != "https" and not (url.scheme == "http" and local):
            raise ValueError("must begin with https://: without TLS others on the way could read the backups")
        return f"{url.scheme}://{url.netloc}"

    @model_validator(mode="after")
    def _has_a_place(self) -> B2Destination:
        if not self.endpoint and self.provider not in ("auto", "aws"):
            raise ValueError("endpoint: the store's URL is needed")
        return self

    @property
    def location(self) -> str:
        """The bucket and its store."""
        return f"s3://{'/'.join(filter(None, (self.bucket, self.prefix)))} at {self._host}"

    @property
    def _host(self) -> str:
        return urlsplit(self.endpoint).netloc or "AWS"

    @property
    def parallel(self) -> int:
        """As many parts as were asked for."""
        return self.parallel_parts

    @property
    def wants_md5(self) -> bool:
        """Where the store's ETag is made of MD5s."""
        return self._preset.etag_is_md5

    @property
    def _preset(self) -> Preset:
        return preset_of(self.provider, self.endpoint)

    @property
    def _place(self) -> Bucket:
        """The bucket, with the one client of this process to it."""
        with _connecting, translated(self.location):
            if self._client is None:
                self._client = connect(
                    endpoint=self.endpoint,
                    region=self.region or region_of(self.endpoint, self._preset),
                    key_id=self.key_id,
                    secret=self.secret_key.get_secret_value(),
                    preset=self._preset,
                    ca_file=self.ca_file,
                    connections=self.parallel_parts + _OTHER_CALLS,
                )
        prefix = f"{self.prefix}/" if self.prefix else ""
        return Bucket(self._client, self.bucket, prefix, self._preset, self.location, self.object_lock_days)

    def prepare(self) -> None:
        """See that the bucket is there, and can lock where it shall; it is never made by us (D05)."""
        place = self._place
        place.must_be_there()
        if self.object_lock_days:
            self._must_lock(place)

    def _must_lock(self, place: Bucket) -> None:
        try:
            with translated(self.location):
                answer = place.client.get_object_lock_configuration(Bucket=place.name)
        except (NotFound, NotSupported):
            answer = {}
        if answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") != "Enabled":
            raise ConfigError(
                f"{self.location} has no object lock, and object_lock_days asks for it",
                "Make a bucket with object lock enabled, or set object_lock_days to 0.",
            )

    def check(self) -> None:
        """As every destination; and what ``prepare`` looks at."""
        self.prepare()
        super().check()

    def _begin(self, key: str, resume: str | None) -> Upload:
        """Begin *key*, or go on with *resume*; ``NotFound`` when nothing is left of that."""
        check_key(key)
        return B2Upload(self._place, key) if resume is None else B2Upload.resume(self._place, key, resume)

    @contextmanager
    def _read(self, key: str, offset: int) -> Iterator[BinaryIO]:
        """The bytes of *key* from *offset* on."""
        check_key(key)
        with io.BufferedReader(Reader(self._place, key, offset), _BUFFER) as reader:
            yield reader

    def stat(self, key: str) -> StoredObject:
        """Size and time of *key*."""
        check_key(key)
        place = self._place
        found = place.find(key)
        if found is None:
            place.must_be_there()
            raise NotFound(f"{place.what(key)}: there is no such object")
        return found.stored

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object below *prefix*, a call for each 1 000, read to the end before the first is given out (T13)."""
        place, found = self._place, []
        for page in place.pages("list_objects_v2", Prefix=place.prefix + check_prefix(prefix)):
            for entry in page.get("Contents", []):
                key = str(entry["Key"]).removeprefix(place.prefix)
                if is_key(key):
                    found.append(StoredObject(key, int(entry["Size"]), entry["LastModified"].astimezone(UTC)))
        return iter(found)

    def remove(self, key: str) -> None:
        """Remove *key* with all its versions; ``KeptByLock`` where a lock forbids it (D16, D17)."""
        check_key(key)
        try:
            self._place.remove(key)
        except KeptByLock:
            if not is_probe(key):
                raise
            self._place.hide(key)  # the bucket locks whatever is written: `clean` removes it when the lock has ended

    def digest(self, key: str) -> Digest | None:
        """The ETag, where the store computes it from the bytes."""
        check_key(key)
        return self._place.head(key).digest if self._preset.etag_is_md5 else None

    def kept_until(self, key: str) -> datetime | None:
        """The end of its object lock, as the store says."""
        found = self._place.find(check_key(key))
        return found.kept_until.astimezone(UTC) if found and found.kept_until else None

    def clean(self, now: datetime) -> tuple[str, ...]:
        """Drop multipart uploads, under keys of ours, that nobody has sent a part to for 24 hours; and old probes."""
        return (*drop_uploads(self._place, now - GRACE), *remove_probes(self._place, now - GRACE))
