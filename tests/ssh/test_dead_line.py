"""A line that dies without a word, as when a cable is pulled: nothing arrives any more, and nobody is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from blocks.ssh import login
from blocks.ssh_server import SshServer
from tests.peers.network import Cable, cable
from tests.peers.ssh_host import left_on, over, ssh_host
from tests.peers.sshd import SshServer as Sshd
from tests.ssh.test_server import gone, running, until
from vault.errors import SourceUnavailable
from vault.process import Command

WORD = "9123457"
"""Found in a list of processes."""
MB = 1_000_000
BOUND = 30.0
"""Seconds of silence after which a tool would be given up for that, which is another error."""


@pytest.fixture(scope="module")
def line() -> Iterator[Cable]:
    with cable() as made:
        yield made


@pytest.fixture(scope="module")
def host(line: Cable) -> Iterator[Sshd]:
    """It looks after its clients, as docs/sources.md asks for; in seconds instead of minutes."""
    with ExitStack() as stack:
        with line.there.entered():
            settings = ("ClientAliveInterval 1", "ClientAliveCountMax 2")
            found = stack.enter_context(ssh_host(*settings, address=line.address))
        yield found


@pytest.fixture
def server(line: Cable, host: Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    monkeypatch.setattr(login, "_ALIVE", 1)
    with line.here.entered():
        yield over(host, idle_timeout=2.0)


def reading(server: SshServer, pull: Callable[[], None]) -> None:
    """As of a dump."""
    with server.stream(Command(("sh", "-c", f"cat /dev/zero & sleep {WORD}; :"), idle_timeout=BOUND)) as tool:
        tool.stdout.read(MB)
        pull()
        while tool.stdout.read(MB):
            pass


def writing(server: SshServer, pull: Callable[[], None]) -> None:
    """As to a restore."""
    with server.feed(Command(("sh", "-c", "cat >/dev/null; :", WORD), idle_timeout=BOUND)) as tool:
        tool.stdin.write(bytes(MB))
        pull()
        while True:
            tool.stdin.write(bytes(MB))


def waiting(server: SshServer, pull: Callable[[], None]) -> None:
    """As for a database that works, or a session that holds a lock."""
    with server.session(Command(("sleep", WORD), idle_timeout=BOUND)) as tool:
        pull()
        tool.stdout.read()


@pytest.mark.fault("T01", "T20", "K02")
@pytest.mark.parametrize("act", [reading, writing, waiting])
def test_both_sides_notice_a_line_that_died_without_a_word(
    act: Callable[[SshServer, Callable[[], None]], None], server: SshServer, host: Sshd, line: Cable
) -> None:
    def pull() -> None:
        until(lambda: running(WORD))
        line.pull()

    with pytest.raises(SourceUnavailable, match=r"connection to .* was lost"), server.private_directory():
        act(server, pull)
    gone(WORD)
    until(lambda: not left_on(host))
    line.plug()
    server.run(Command(("true",)))  # by a new connection
