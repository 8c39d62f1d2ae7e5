"""What the tests of a B2 destination share: places at real servers, behind a proxy that refuses as B2 does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from blocks.destinations.b2 import B2Destination
from blocks.destinations.base import Destination
from tests.contract.destination import DestinationContract
from tests.destinations.faulty import FaultyDestination
from tests.peers.s3 import KEY_ID, SECRET, S3Server
from tests.peers.s3_proxy import Proxy, running_proxy

MIB = 1024**2
PART = 5 * MIB


@dataclass(frozen=True)
class Place:
    """An empty bucket at *server*, and a destination that reaches it through *proxy*."""

    server: S3Server
    proxy: Proxy
    bucket: str

    def destination(self, **fields: Any) -> B2Destination:
        """Another destination for the same bucket."""
        given = {"bucket": self.bucket, "endpoint": self.proxy.endpoint, "key_id": KEY_ID, "secret_key": SECRET}
        return B2Destination(**{"provider": "b2", **given, **fields})

    @property
    def names(self) -> set[str]:
        """Of everything that takes space there."""
        kept = self.server.objects(self.bucket)
        if self.server.root is None:
            kept = [name for name, _ in self.server.versions(self.bucket)]
        return {*kept, *self.server.uploads(self.bucket)}


@contextmanager
def place_at(server: S3Server, *, versions: bool = False, lock: bool = False) -> Iterator[Place]:
    """A new bucket behind a proxy of its own."""
    with running_proxy(server.endpoint) as proxy:
        yield Place(server, proxy, server.new_bucket(versions=versions, lock=lock))


class B2Contract(DestinationContract):
    """The contract, for a subclass that says which store it is."""

    holds_back = PART - 1
    segment_size = PART
    passes = 2  # over plain HTTP, which only tests use, each request is signed with the digest of its body
    fields: dict[str, Any]
    versions = False

    @pytest.fixture
    def server(self) -> S3Server:
        """Override it."""
        raise NotImplementedError

    @pytest.fixture
    def place(self, server: S3Server) -> Iterator[Place]:
        with place_at(server, versions=self.versions) as place:
            self._place = place
            yield place

    @pytest.fixture
    def destination(self, place: Place, tmp_path: Path) -> Destination:
        return place.destination(**self.fields)

    @property
    def _prefix(self) -> str:
        prefix = self.fields.get("prefix", "")
        return f"{prefix}/" if prefix else ""

    def lies_there(self, destination: Destination) -> set[str]:
        names = self._place.names
        assert all(name.startswith(self._prefix) for name in names)
        return {name.removeprefix(self._prefix) for name in names}

    def plant(self, destination: Destination, name: str) -> None:
        self._place.server.client.put_object(Bucket=self._place.bucket, Key=self._prefix + name, Body=b"foreign")

    def put_small(self, destination: Destination, key: str) -> None:
        self.plant(destination, key)


class FaultyB2Contract(B2Contract):
    """The same behind the wrapper that fails on demand."""

    @pytest.fixture
    def destination(self, place: Place, tmp_path: Path) -> Destination:
        return FaultyDestination.around(place.destination(**self.fields))

    def again(self, destination: Destination) -> Destination:
        return FaultyDestination.around(self._place.destination(**self.fields))


@pytest.fixture
def versioned(moto: S3Server) -> Iterator[Place]:
    """A bucket as at Backblaze, with versions."""
    with place_at(moto, versions=True) as place:
        yield place


@pytest.fixture
def plain(rclone: S3Server) -> Iterator[Place]:
    """A bucket of a store that checks signatures and keeps no versions."""
    with place_at(rclone) as place:
        yield place


@pytest.fixture
def moto_plain(moto: S3Server) -> Iterator[Place]:
    """A bucket of a store that has versions, and here they are off."""
    with place_at(moto) as place:
        yield place


@pytest.fixture
def locked(moto: S3Server) -> Iterator[Place]:
    """A bucket with object lock."""
    with place_at(moto, lock=True) as place:
        yield place
