"""A B2 destination keeps the contract at stores with and without versions, with and without conditional writes."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from prefect.blocks.core import Block

from blocks.destinations.b2 import B2Destination
from tests.contract.source import BlockSuite
from tests.destinations.b2 import B2Contract, FaultyB2Contract
from tests.peers.s3 import S3Server


class TestB2Destination(B2Contract):
    """As at Backblaze: every bucket keeps versions."""

    fields: ClassVar[dict[str, Any]] = {"provider": "b2"}
    versions = True

    @pytest.fixture
    def server(self, moto: S3Server) -> S3Server:
        return moto


class TestB2DestinationWithoutVersions(B2Contract):
    """As at AWS or MinIO: versions are off, keys have a prefix, writes may be conditional."""

    fields: ClassVar[dict[str, Any]] = {"provider": "minio", "prefix": "backups/office"}

    @pytest.fixture
    def server(self, moto: S3Server) -> S3Server:
        return moto


class TestB2DestinationAtAnyStore(B2Contract):
    """A store that knows no versions, checks signatures, and whose ETag is not to be relied on (D13)."""

    fields: ClassVar[dict[str, Any]] = {"provider": "other"}

    @pytest.fixture
    def server(self, rclone: S3Server) -> S3Server:
        return rclone


class TestFaultyB2Destination(FaultyB2Contract):
    fields: ClassVar[dict[str, Any]] = {"provider": "b2"}
    versions = True

    @pytest.fixture
    def server(self, moto: S3Server) -> S3Server:
        return moto


class TestB2DestinationBlock(BlockSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return B2Destination
