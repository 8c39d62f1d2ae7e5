"""``backups server`` as a person or a script uses it, and whole backups of what lies there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.loading import load
from blocks.sources import Directory
from blocks.ssh_server import SshServer
from tests.cli.conftest import Command
from tests.contract.source import CANARY
from tests.peers.ssh_host import ssh_host
from tests.peers.sshd import SshServer as Sshd
from tests.sources.test_sqlite import rows, shop
from tests.sources.test_sqlite import run as sqlite

__all__ = ["shop"]


@pytest.fixture(scope="module")
def host() -> Iterator[Sshd]:
    with ssh_host() as server:
        yield server


@pytest.fixture
def key(host: Sshd, tmp_path: Path) -> Path:
    path = tmp_path / "id"
    path.write_text(host.key(CANARY))
    (tmp_path / "passphrase").write_text(CANARY + "\n")
    return path


def add(command: Command, host: Sshd, name: str, key: Path, *more: str, code: int = 0):
    way = ("--host", host.host, "--port", str(host.port), "--user", host.user, "--key", str(key))
    opened = ("--passphrase-file", str(key.with_name("passphrase")))
    return command("server", "add", "ssh", name, *way, *opened, *more, code=code)


def test_what_lies_on_a_server_is_backed_up_and_restored_by_name(
    command: Command,
    host: Sshd,
    key: Path,
    tmp_path: Path,
    shop: Path,
) -> None:
    added = add(command, host, "web1", key, "--host-key", host.host_key, "--max-runs", "1")
    url = f"ssh://{host.user}@{host.host}:{host.port}"
    assert f"Saved server web1: {url}" in added.err
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "a.txt").write_text("a")
    command("source", "add", "directory", "crm-uploads", str(tmp_path / "uploads"), "--server", "web1")
    said = command("source", "add", "sqlite", "crm-db", str(shop), "--server", "web1")
    assert f"Saved source crm-db: {shop} on {url}" in said.err
    assert command("source", "show", "crm-db", "--json").json["server"] == url
    place = tmp_path / "backups"
    command("destination", "add", "local", "nearby", str(place))
    command("app", "add", "crm", "--source", "crm-db", "--source", "crm-uploads", "--to", "nearby")
    made = command("run", "crm", "--json").json
    assert [landing["status"] for landing in made["destinations"]] == ["committed"]
    assert {artifact["source"] for artifact in made["artifacts"]} == {"crm-db", "crm-uploads"}
    command("restore", "crm", made["id"], "--from", "nearby", "--to", str(tmp_path / "restored"))
    assert (tmp_path / "restored" / "crm-uploads" / "a.txt").read_text() == "a"
    assert rows(tmp_path / "restored" / "crm-db.sqlite") == rows(shop)
    sqlite(shop, "DELETE FROM orders")
    command("run", "crm")


def test_a_source_of_this_machine_gives_way_where_that_is_said(command: Command, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    command("source", "add", "directory", "giving-files", tmp_path, "--priority", "low")
    command("source", "add", "directory", "usual-files", tmp_path)
    assert [load(f"directory/{name}-files", Directory).server.is_low for name in ("giving", "usual")] == [True, False]
    both = ("--server", "web9", "--priority", "low")
    assert "server update web9" in command("source", "add", "directory", "x", tmp_path, *both, code=2).err


def test_what_changes_about_a_server_changes_for_its_sources(
    command: Command, host: Sshd, key: Path, tmp_path: Path
) -> None:
    add(command, host, "moving", key, "--host-key", host.host_key)
    (tmp_path / "file").touch()
    command("source", "add", "directory", "moving-files", str(tmp_path), "--server", "moving")
    assert "is saved already" in add(command, host, "moving", key, "--host-key", host.host_key, code=2).err
    refused = command("server", "update", "moving", "--port", "1", code=1).err
    assert "nothing was saved" in refused
    command("server", "update", "moving", "--compress-at", "source", "--temp-directory", str(tmp_path))
    shown = command("server", "show", "moving", "--json").json
    assert (shown["compress_at"], shown["temp_directory"], shown["port"]) == ("source", str(tmp_path), host.port)
    from blocks.sources.directory import Directory

    server = load("directory/moving-files", Directory).server
    assert isinstance(server, SshServer)
    assert (server.compress_at, server.passphrase.get_secret_value()) == ("source", CANARY)
    command("source", "test", "moving-files")


@pytest.mark.law(10)
@pytest.mark.fault("O12", "T15")
def test_a_server_is_shown_without_its_secrets_and_kept_while_it_is_used(
    command: Command, host: Sshd, key: Path, tmp_path: Path
) -> None:
    unpinned = add(command, host, "kept", key, code=2)
    assert f"--host-key '{host.host_key}'" in unpinned.err
    add(command, host, "kept", key, "--host-key", host.host_key)
    (tmp_path / "file").touch()
    command("source", "add", "directory", "kept-files", str(tmp_path), "--server", "kept")
    command("server", "test", "kept")
    assert {"name": "kept", "kind": "ssh-server"} in command("server", "list", "--json").json
    body = key.read_text().splitlines()[1]
    for said in (command("server", "show", "kept"), command("source", "show", "kept-files")):
        assert CANARY not in said.out
        assert body not in said.out
    refused = command("server", "remove", "kept", code=2).err
    assert "used by source kept-files" in refused
    command("source", "remove", "kept-files")
    add(command, host, "inner", key, "--host-key", host.host_key, "--jump", "kept")
    command("server", "test", "inner")
    assert "reached through kept" in command("server", "remove", "kept", code=2).err
    command("server", "remove", "inner")
    command("server", "remove", "kept")
    assert "no server 'kept'" in command("server", "show", "kept", code=2).err


def test_a_path_on_a_server_says_where_it_begins(command: Command, host: Sshd, key: Path) -> None:
    add(command, host, "rooted", key, "--host-key", host.host_key)
    for path in ("uploads", "~/uploads"):
        said = command("source", "add", "directory", "rooted-files", path, "--server", "rooted", code=2).err
        assert "does not say where" in said
    assert "no server 'nosuch'" in command("source", "add", "sqlite", "x", "/x", "--server", "nosuch", code=2).err


@pytest.mark.fault("X01")
def test_no_more_dumps_run_on_a_server_at_once_than_it_may_have(command: Command, host: Sshd, key: Path) -> None:
    add(command, host, "narrow", key, "--host-key", host.host_key, "--max-runs", "1")
    server = load("ssh-server/narrow", SshServer)
    entered = threading.Event()

    def second() -> None:
        with server.turn():
            entered.set()

    with server.turn():
        waiting = threading.Thread(target=second)
        waiting.start()
        assert not entered.wait(1.0)
    assert entered.wait(60)
    waiting.join()
    server.drop_limit()
    with server.turn():  # where nobody has set one, it just runs
        pass
