"""Servers, places and helpers that the tests of destinations share."""

from __future__ import annotations

import time
from types import SimpleNamespace

import botocore.endpoint
import pytest

from tests.destinations.b2 import locked, moto_plain, plain, versioned
from tests.peers.s3 import moto, rclone

__all__ = ["locked", "moto", "moto_plain", "plain", "rclone", "versioned"]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that boto3 would have waited between its tries: it does not."""
    seconds: list[float] = []
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=seconds.append, time=time.time))
    return seconds
