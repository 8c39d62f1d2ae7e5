"""Servers that the tests of destinations share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
