"""Servers, places and helpers that the tests of destinations share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import botocore.endpoint
import pytest

from tests.destinations.b2 import locked, moto_plain, plain, versioned
from tests.peers.rclone_sftp import SftpOfRclone, running_rclone_sftp
from tests.peers.s3 import moto, rclone
from tests.peers.sshd import SshServer, running_sshd

__all__ = ["locked", "moto", "moto_plain", "plain", "rclone", "versioned"]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that boto3 would have waited between its tries: it does not."""
    seconds: list[float] = []
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=seconds.append, time=time.time))
    return seconds


@pytest.fixture(scope="session")
def sshd() -> Iterator[SshServer]:
    """OpenSSH, for an account with a shell."""
    with running_sshd() as server:
        yield server


@pytest.fixture(scope="session")
def sshd_chroot() -> Iterator[SshServer]:
    """OpenSSH, for an account that can do nothing but SFTP, in a chroot."""
    with running_sshd("chroot") as server:
        yield server


@pytest.fixture(scope="session")
def sshd_bare() -> Iterator[SshServer]:
    """OpenSSH with none of its extensions."""
    with running_sshd("bare") as server:
        yield server


@pytest.fixture(scope="session")
def rclone_sftp() -> Iterator[SftpOfRclone]:
    """The SFTP server of rclone."""
    with running_rclone_sftp() as server:
        yield server
