"""What the tests of sources share."""

from __future__ import annotations

from tests.peers.docker import docker, docker_engine
from tests.peers.mariadb import mariadb_server
from tests.peers.postgres import postgres_server

__all__ = ["docker", "docker_engine", "mariadb_server", "postgres_server"]
