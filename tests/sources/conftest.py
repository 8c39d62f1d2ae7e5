"""What the tests of sources share."""

from __future__ import annotations

import pytest

from blocks.sources import postgres_dump
from tests.peers.docker import docker, docker_engine
from tests.peers.mariadb import mariadb_server
from tests.peers.postgres import postgres_server


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are counted, however busy the machine is: a dump waits for that as long as it takes."""
    monkeypatch.setattr(postgres_dump, "GRACE", 300.0)


__all__ = ["docker", "docker_engine", "mariadb_server", "postgres_server"]
