"""Prefect's own database is an app like any other, and a lost machine is set up again from its backup."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.peers.command import Machine
from tests.peers.postgres import PostgresServer, postgres_server
from tests.peers.prefect_server import prefect_server

__all__ = ["postgres_server"]


@dataclass(frozen=True)
class Database:
    """One of a Prefect server: the *url* that the server is given, and what the command is told to restore it *to*."""

    url: str
    to: str
    password: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """For the server, and for the command that makes it an app."""
        return {"PREFECT_SERVER_DATABASE_CONNECTION_URL": self.url}


@pytest.mark.fault("O09")
def test_a_lost_server_is_set_up_again_from_the_backup_of_its_database_and_its_key(tmp_path: Path) -> None:
    old, new = (tmp_path / name / "prefect.db" for name in ("old", "new"))
    lose_and_set_up_again(tmp_path, *(Database(f"sqlite+aiosqlite:///{file}", str(file)) for file in (old, new)))


@pytest.mark.fault("O09")
def test_a_lost_server_on_postgresql_is_set_up_again_too(tmp_path: Path, postgres_server: PostgresServer) -> None:
    login, place = quote(postgres_server.admin), f"127.0.0.1:{postgres_server.port}"
    password = quote(postgres_server.password, safe="")

    def database(name: str) -> Database:
        to = f"postgresql://{login}@{place}/{name}"
        return Database(f"postgresql+asyncpg://{login}:{password}@{place}/{name}", to, postgres_server.password)

    with postgres_server.database() as old, postgres_server.database() as new:
        lose_and_set_up_again(tmp_path, database(old), database(new), lambda: postgres_server.drop(old))


def lose_and_set_up_again(
    tmp_path: Path, old: Database, new: Database, lose: Callable[[], object] = lambda: None
) -> None:
    """A server on *old* is lost, all but a backup and the key; one on *new* has everything."""
    disk, data = str(tmp_path / "disk"), tmp_path / "data"
    data.mkdir()
    (data / "a").write_text("a")
    with prefect_server(tmp_path / "old", old.environment) as url:
        machine = Machine(tmp_path / "home", url)
        machine.home.mkdir()
        machine.run("app", "add", "shop", "--source", str(data), "--to", disk)
        machine.run("schedule", "add", "shop", "--cron", "30 2 * * *", "--name", "nightly")
        machine.run("app", "add", "prefect", "--self", "--to", disk, **old.environment)
        machine.run("run", "prefect")
        signer = machine.json("keys", "show")["id"]
    kept = shutil.copy(tmp_path / "old/backups/encryption.key", tmp_path / "kept.key")
    lose()
    shutil.rmtree(tmp_path / "old")
    shutil.rmtree(machine.home)

    machine = Machine(tmp_path / "home", None)
    (tmp_path / "new/backups").mkdir(parents=True, mode=0o700)
    machine.home.mkdir()
    to = ("--source", "prefect-db", "--to", new.to, "--trust", signer)
    machine.run("restore", "prefect", "latest", "--from", disk, *to, PGPASSWORD=new.password)
    shutil.move(kept, tmp_path / "new/backups/encryption.key")
    with prefect_server(tmp_path / "new", new.environment) as url:
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
