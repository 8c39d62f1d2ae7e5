"""What the tests of Docker share."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.peers.docker import DockerEngine, docker, docker_engine
from tests.peers.ssh_host import ssh_host
from tests.peers.sshd import SshServer as Sshd

__all__ = ["docker", "docker_engine"]


@pytest.fixture
def host(docker: DockerEngine) -> Iterator[Sshd]:
    """A server whose account finds the tests' daemon by its own means."""
    with ssh_host() as server:
        environment = {"PATH": os.environ["PATH"], "HOME": str(server.served)}
        for words in (("create", "tests", "--docker", f"host={docker.host}"), ("use", "tests")):
            subprocess.run(["docker", "context", *words], env=environment, check=True, capture_output=True)
        yield server
