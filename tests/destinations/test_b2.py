"""A B2 destination keeps the contract at stores with and without versions, with and without conditional writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest
from prefect.blocks.core import Block
from pydantic import ValidationError

import cli.destinations
from blocks.destinations.b2 import B2Destination
from blocks.destinations.b2_store import PRESETS, Provider
from tests.contract.source import BlockSuite
from tests.destinations.b2 import B2Contract, FaultyB2Contract
from tests.peers.s3 import KEY_ID, SECRET, S3Server


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


@pytest.mark.slow  # the wrapper has the whole contract around a local one, in test_faulty.py
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


def block(**fields: Any) -> B2Destination:
    """One that needs no store."""
    given = {"bucket": "bucket", "key_id": KEY_ID, "secret_key": SECRET}
    return B2Destination(**{"endpoint": "https://s3.us-west-000.backblazeb2.com", **given, **fields})


@pytest.mark.parametrize(
    ("endpoint", "kept"),
    [
        ("https://s3.us-west-000.backblazeb2.com/", "https://s3.us-west-000.backblazeb2.com"),
        ("s3.eu-central-003.backblazeb2.com", "https://s3.eu-central-003.backblazeb2.com"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("http://localhost:9000", "http://localhost:9000"),
        ("", ""),
    ],
)
def test_an_endpoint_is_a_url_of_a_store(endpoint: str, kept: str) -> None:
    assert block(endpoint=endpoint).endpoint == kept


@pytest.mark.fault("T17")
@pytest.mark.parametrize(
    "endpoint",
    [
        "http://minio.example.com:9000",
        "http://127.0.0.1.example.com",
        "http://localhost@example.com",
        "https://key:secret@s3.example.com",
        "https://s3.example.com/bucket",
        "https://s3.example.com?x=1",
        "ftp://127.0.0.1",
        "https://",
        "https://s3.example.com:port",
    ],
)
def test_an_endpoint_without_tls_or_with_more_than_a_store_is_refused(endpoint: str) -> None:
    with pytest.raises(ValidationError):
        block(endpoint=endpoint)


@pytest.mark.parametrize(
    "fields",
    [
        {"bucket": "../x"},
        {"bucket": "a"},
        {"prefix": "../x"},
        {"prefix": "a//b"},
        {"prefix": "a b"},
        {"prefix": "-a"},
        {"secret_key": ""},
        {"secret_key": " \n"},
        {"key_id": ""},
        {"object_lock_days": -1},
        {"parallel_parts": 0},
        {"region": "us west"},
        {"provider": "minio", "endpoint": ""},
        {"provider": "nobody"},
    ],
)
def test_a_field_that_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        block(**fields)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "preset", "region"),
    [
        ({}, "b2", "us-west-000"),
        ({"endpoint": "https://s3.eu-central-003.backblazeb2.com"}, "b2", "eu-central-003"),
        ({"endpoint": ""}, "aws", "us-east-1"),
        ({"endpoint": "", "region": "eu-west-3"}, "aws", "eu-west-3"),
        ({"endpoint": "https://s3.eu-west-1.amazonaws.com"}, "aws", "eu-west-1"),
        ({"endpoint": "https://0123abcd.r2.cloudflarestorage.com"}, "r2", "auto"),
        ({"endpoint": "https://s3.eu-central-2.wasabisys.com"}, "wasabi", "eu-central-2"),
        ({"endpoint": "https://s3.wasabisys.com"}, "wasabi", "us-east-1"),
        ({"endpoint": "https://minio.example.com", "provider": "minio"}, "minio", "us-east-1"),
        ({"endpoint": "https://s3.example.com"}, "other", "us-east-1"),
        ({"endpoint": "https://notbackblazeb2.com"}, "other", "us-east-1"),
    ],
)
def test_the_store_and_its_region_are_told_by_the_endpoint(fields: dict[str, Any], preset: str, region: str) -> None:
    destination = block(**fields)
    assert destination.wants_md5 is PRESETS[preset].etag_is_md5
    client = destination._place.client
    assert client.meta.region_name == region
    assert destination._preset == PRESETS[preset]
    config = client.meta.config
    assert (config.request_checksum_calculation, config.response_checksum_validation) == ("when_required",) * 2


def test_a_key_pasted_with_a_newline_is_the_key() -> None:
    assert block(secret_key=f" {SECRET}\n").secret_key.get_secret_value() == SECRET


def test_the_command_knows_the_same_providers() -> None:
    assert cli.destinations.Provider == Provider
    assert set(PRESETS) | {"auto"} == set(get_args(Provider))


def test_boto3_is_imported_only_when_a_bucket_is_used() -> None:
    """Every start of the command would pay for it."""
    code = "import sys, blocks; sys.exit(any(name.partition('.')[0] in ('boto3', 'botocore') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


UPLOAD = """
import resource, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from blocks.destinations.b2 import B2Destination
from vault.spool import Segment

bucket, endpoint, key_id, secret, directory = sys.argv[1:]
destination = B2Destination(bucket=bucket, endpoint=endpoint, key_id=key_id, secret_key=secret, provider="other")
size, count = 32 << 20, 12

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def send(key, count):
    upload = destination.upload(key)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upload.append, [Segment(i, i * size, size, Path(directory) / str(i)) for i in range(count)]))
    upload.commit()

send("shop/warm", 1)
with destination.open("shop/warm") as stream:
    stream.read(1)
before = peak()
send("shop/large", count)
with destination.open("shop/large") as stream:
    read, buffer = 0, bytearray(1 << 20)
    while got := stream.readinto(buffer):
        read += got
assert read == size * count
print(peak() - before)
"""


@pytest.mark.fault("F05")
def test_memory_stays_the_same_whatever_the_size(rclone: S3Server, tmp_path: Path) -> None:
    for number in range(12):
        with (tmp_path / str(number)).open("wb") as file:
            file.truncate(32 << 20)
    argv = [sys.executable, "-c", UPLOAD, rclone.new_bucket(), rclone.endpoint, KEY_ID, SECRET, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 24, "MiB more for 384 MiB in four threads"
