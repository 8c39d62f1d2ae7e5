"""Prefect's own database is an app like any other, and a lost machine is set up again from its backup."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.peers.command import Machine
from tests.peers.postgres import PostgresServer, postgres_server
from tests.peers.prefect_server import prefect_server

__all__ = ["postgres_server"]


@pytest.mark.fault("O09")
def test_a_lost_server_is_set_up_again_from_the_backup_of_its_database_and_its_key(tmp_path: Path) -> None:
    disk, data = str(tmp_path / "disk"), tmp_path / "data"
    data.mkdir()
    (data / "a").write_text("a")
    with prefect_server(tmp_path / "old") as url:
        machine = Machine(tmp_path / "home", url)
        machine.home.mkdir()
        machine.run("app", "add", "shop", "--source", str(data), "--to", disk)
        machine.run("schedule", "add", "shop", "--cron", "30 2 * * *", "--name", "nightly")
        variable = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{tmp_path}/old/prefect.db"}
        machine.run("app", "add", "prefect", "--self", "--to", disk, **variable)
        machine.run("run", "prefect")
        signer = machine.json("keys", "show")["id"]
    kept = shutil.copy(tmp_path / "old/backups/encryption.key", tmp_path / "kept.key")
    shutil.rmtree(tmp_path / "old")
    shutil.rmtree(machine.home)

    machine = Machine(tmp_path / "home", None)
    (tmp_path / "new/backups").mkdir(parents=True, mode=0o700)
    machine.home.mkdir()
    to = ("--source", "prefect-db", "--to", str(tmp_path / "new/prefect.db"), "--trust", signer)
    machine.run("restore", "prefect", "latest", "--from", disk, *to)
    shutil.move(kept, tmp_path / "new/backups/encryption.key")
    with prefect_server(tmp_path / "new") as url:
        machine.api_url = url
        assert [one["name"] for one in machine.json("schedule", "list")] == ["nightly"]
        machine.run("run", "shop")
        assert machine.json("keys", "show")["id"] == signer
    assert len(machine.json("list", "shop", "--from", disk)) == 1


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        yield Machine(tmp_path_factory.mktemp("home"), url)


def test_a_database_in_postgresql_is_read_with_what_the_server_is_given(
    machine: Machine, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with postgres_server.database("CREATE TABLE flow_run (id int); INSERT INTO flow_run VALUES (7)") as name:
        login = f"{quote(postgres_server.admin)}:{quote(postgres_server.password, safe='')}"
        url = f"postgresql+asyncpg://{login}@127.0.0.1:{postgres_server.port}/{name}"
        variable = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url}
        added = machine.run("app", "add", "prefect", "--self", "--to", str(tmp_path / "disk"), **variable)
        assert "Keep a copy of PREFECT_SERVER_ENCRYPTION_KEY elsewhere" in added.stderr
        assert postgres_server.password not in added.stdout + added.stderr
        machine.run("run", "prefect")
    assert [one["type"] for one in machine.json("list", "prefect", "--from", str(tmp_path / "disk"))] == ["database"]


def test_a_database_that_cannot_be_known_here_is_not_guessed(machine: Machine, tmp_path: Path) -> None:
    refused = machine.run("app", "add", "own", "--self", "--to", str(tmp_path / "disk"), ok=False)
    assert refused.returncode == 2
    assert "PREFECT_SERVER_DATABASE_CONNECTION_URL as the server has it" in refused.stderr
