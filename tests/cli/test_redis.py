"""Redis from the command line: saved with its password, backed up, restored to a file that a new server reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.peers.redis import PASSWORD, running_redis


@pytest.mark.law(8, 10)
def test_a_server_is_saved_backed_up_and_restored_to_a_file(command: Command, tmp_path: Path) -> None:
    secret, disk, target = tmp_path / "secret", tmp_path / "disk", tmp_path / "dump.rdb"
    secret.write_text(PASSWORD)
    with running_redis(password=PASSWORD) as server:
        server.ask("SET", "key", "value")
        where = ("--host", server.host, "--port", server.port)
        refused = command("source", "add", "redis", "cli-cache", *where, "--no-password", code=1)
        assert "NOAUTH" in refused.err
        command("source", "add", "redis", "cli-cache", *where, "--password-file", secret)
        assert PASSWORD not in command("source", "show", "cli-cache", "--json").out
        command("run", "--app", "cli-redis", "--source", "cli-cache", "--to", disk)
        content = server.content()
        restore = ("restore", "cli-redis", "latest", "--from", disk)
        live = f"redis://{server.host}:{server.port}"
        assert "running server" in command(*restore, "--to", live, code=1).err
        command(*restore, "--to", target)
        assert server.content() == content
    assert "exists already" in command(*restore, "--to", target, code=1).err
    with running_redis(dump=target) as server:
        assert server.content() == content
