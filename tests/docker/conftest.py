"""What the tests of Docker share."""

from __future__ import annotations

from tests.peers.docker import docker, docker_engine

__all__ = ["docker", "docker_engine"]
