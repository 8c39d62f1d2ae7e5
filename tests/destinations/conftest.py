"""Servers that the tests of destinations share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import botocore.endpoint
import pytest

from tests.destinations.b2 import Place, place_at
from tests.peers.s3 import S3Server, running_moto, running_rclone


@pytest.fixture(scope="session")
def rclone() -> Iterator[S3Server]:
    """One S3 server that checks signatures and keeps no versions, for all tests of a session."""
    with running_rclone() as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """One S3 server with versions and object lock, for all tests of a session."""
    with running_moto() as server:
        yield server


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


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that boto3 would have waited between its tries: it does not."""
    seconds: list[float] = []
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=seconds.append, time=time.time))
    return seconds
