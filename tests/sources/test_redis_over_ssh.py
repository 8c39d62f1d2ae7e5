"""Redis on a server that is reached through a real sshd: what is its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.sources.base import RestoreOptions
from blocks.sources.redis_file import RedisFile
from blocks.ssh_server import SshServer
from tests.contract.source import drain, take
from tests.peers.redis import PASSWORD, RedisServer
from tests.peers.ssh_host import left_on, over, ssh_host
from tests.peers.sshd import SshServer as Sshd
from tests.sources.test_redis import door, filled, redis_server
from vault.errors import RestoreRefused

__all__ = ["filled", "redis_server"]


@pytest.fixture(scope="module")
def host() -> Iterator[Sshd]:
    with ssh_host() as server:
        yield server


@pytest.fixture
def server(host: Sshd) -> Iterator[SshServer]:
    """The way there; afterwards nothing private is left."""
    yield over(host)
    assert left_on(host) == []


@pytest.mark.law(10)
@pytest.mark.fault("N08")
def test_the_password_is_in_no_process_on_the_way(filled: RedisServer, server: SshServer, tmp_path: Path) -> None:
    seen: list[bytes] = []
    with door(filled).model_copy(update={"server": server}).dump() as dump:
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    seen.append((process / name).read_bytes())
                except OSError:
                    continue  # it has ended
        drain(dump.stream)
    assert any(b"redis-cli" in text for text in seen)
    assert not [text for text in seen if PASSWORD.encode() in text]


@pytest.mark.law(8)
def test_a_file_there_is_replaced_only_where_that_is_allowed(
    filled: RedisServer, server: SshServer, tmp_path: Path
) -> None:
    content = take(door(filled).model_copy(update={"server": server}), tmp_path)
    target = RedisFile(path=tmp_path / "x.rdb", server=server)
    target.restore(content, RestoreOptions())
    assert target.paths == ()
    before = target.path.read_bytes()
    with pytest.raises(RestoreRefused, match="exists already"):
        target.restore(content, RestoreOptions())
    target.restore(content, RestoreOptions(overwrite=True))
    assert target.path.read_bytes() == before
