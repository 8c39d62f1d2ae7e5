"""The servers that the tests of SSH share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blocks.ssh_server import SshServer
from tests.peers.ssh_host import left_on, over, ssh_host
from tests.peers.sshd import SshServer as Sshd


@pytest.fixture(scope="session")
def host() -> Iterator[Sshd]:
    """An account with a shell."""
    with ssh_host() as server:
        yield server


@pytest.fixture
def server(host: Sshd) -> Iterator[SshServer]:
    """The way to it; afterwards nothing private is left there."""
    yield over(host)
    assert left_on(host) == []
