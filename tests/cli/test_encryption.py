"""The key of Prefect's blocks: never in the database that it protects, changed without losing a block, at any kill."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet, MultiFernet
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from blocks import PostgresDatabase
from cli.encryption_key import VARIABLES, advice, key_file, lease, rotate
from cli.reencrypt_sqlite import SqliteFile
from tests.cli.conftest import Command
from tests.peers.command import Machine
from tests.peers.prefect_server import prefect_server
from vault.errors import ConfigError

CANARY = "canary-Pa55w0rd"
NAMES = ("one-db", "two-db", "three-db")


@dataclass(frozen=True)
class Home:
    """A PREFECT_HOME whose database has blocks with canary secrets; no server runs on it."""

    path: Path

    @property
    def database(self) -> Path:
        return self.path / "prefect.db"

    @property
    def key(self) -> str:
        return (self.path / "backups/encryption.key").read_text().strip()

    def passwords(self, *keys: str) -> dict[str, str]:
        """The password of each block, decrypted with one of *keys*; default: with the key in the file."""
        ring = MultiFernet([Fernet(key) for key in keys or (self.key,)])
        documents = {
            block.name: json.loads(ring.decrypt(block.token)) for block in SqliteFile(self.database).contents().blocks
        }
        return {name: str(document["password"]) for name, document in documents.items()}

    def keep_key_in_database(self) -> str:
        """As Prefect leaves it where nobody gives it a key: all under one that it made, which lies beside them."""
        with self.changed() as database:
            key, before = Fernet.generate_key().decode(), self.key
            ring = MultiFernet([Fernet(key), Fernet(before)])
            for block in SqliteFile(self.database).contents().blocks:
                data = json.dumps(ring.rotate(block.token).decode())
                database.execute("UPDATE block_document SET data = ? WHERE id = ?", (data, block.id))
            value = json.dumps({"fernet_key": key})
            database.execute("INSERT INTO configuration (key, value) VALUES ('ENCRYPTION_KEY', ?)", (value,))
        (self.path / "backups/encryption.key").unlink()
        return key

    def changed(self) -> Any:
        """A transaction on the database, closed at its end."""
        return _transaction(self.database)

    def files_with(self, text: str) -> list[str]:
        """What holds *text*, of all files but the one that the key belongs into."""
        files = [path for path in self.path.rglob("*") if path.is_file() and path.name != "encryption.key"]
        return [path.name for path in files if text.encode() in path.read_bytes()]


class _transaction:
    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path)

    def __enter__(self) -> sqlite3.Connection:
        return self._database

    def __exit__(self, *_: object) -> None:
        self._database.commit()
        self._database.close()


def put_key(key: str) -> None:
    key_file().touch(mode=0o600)
    key_file().write_text(key)


EXPECTED = {name: f"{CANARY}-{name}" for name in NAMES}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home as a real server that was killed has left it, write-ahead log and all."""
    home = tmp_path_factory.mktemp("made")
    with prefect_server(home) as url, temporary_settings({PREFECT_API_URL: url}):
        for name, password in EXPECTED.items():
            PostgresDatabase(database="d", username="u", password=SecretStr(password)).save(name)
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    shutil.copytree(made, tmp_path / "home/prefect")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home/prefect"))
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    return Home(tmp_path / "home/prefect")


@pytest.fixture
def machine(home: Home) -> Machine:
    return Machine(home.path.parent, None)


@pytest.mark.law(10)
@pytest.mark.fault("O12")
def test_neither_a_secret_nor_the_key_lies_in_the_raw_database(made: Path) -> None:
    home = Home(made)
    assert {path.name for path in made.glob("prefect.db*")} >= {"prefect.db", "prefect.db-wal"}
    assert home.files_with("one-db"), "the search finds what is there"
    assert home.files_with(CANARY) == []
    assert home.files_with(home.key) == []
    assert (made / "backups/encryption.key").stat().st_mode & 0o777 == 0o600
    assert home.passwords() == EXPECTED


@pytest.mark.law(10)
@pytest.mark.fault("O12")
def test_an_installation_whose_key_lies_in_its_database_goes_on_working_with_the_key_outside(
    home: Home, machine: Machine
) -> None:
    old = home.keep_key_in_database()
    assert home.files_with(old) != []
    assert machine.json("source", "show", NAMES[0])["database"] == "d"
    assert home.passwords() == EXPECTED
    assert home.files_with(old) == home.files_with(home.key) == home.files_with(CANARY) == []


def test_blocks_of_others_in_the_same_database_are_left_as_they_are_and_that_is_said(home: Home) -> None:
    old = home.keep_key_in_database()
    with home.changed() as database:
        database.execute("UPDATE block_document SET block_type_name = 'S3 Bucket' WHERE name = 'one-db'")
    with_it = lease()
    with_it.close()
    assert with_it.environment == {}
    assert not key_file().exists()
    assert home.passwords(old) == EXPECTED
    assert "keys rotate" in str(advice())
    assert rotate() == len(NAMES)
    assert home.passwords() == EXPECTED
    assert advice() is None


def test_what_a_server_without_the_key_has_saved_is_brought_under_it(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    key = home.key
    foreign = home.keep_key_in_database()
    put_key(key)
    with home.changed() as database:  # two of them are still under our key
        for block in SqliteFile(home.database).contents().blocks[1:]:
            token = Fernet(key).encrypt(Fernet(foreign).decrypt(block.token)).decode()
            database.execute("UPDATE block_document SET data = ? WHERE id = ?", (json.dumps(token), block.id))
    lease().close()
    assert home.passwords(key) == EXPECTED
    assert home.files_with(foreign) == []
    assert "1 blocks that another Prefect server has saved" in capsys.readouterr().err


def test_a_key_that_the_user_keeps_wins_and_a_wrong_one_names_a_block(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = home.key
    key_file().unlink()
    monkeypatch.setenv(VARIABLES[0], key)
    lease().close()
    assert not key_file().exists()
    assert home.passwords(key) == EXPECTED
    with pytest.raises(ConfigError, match="you keep the key yourself"):
        rotate()
    monkeypatch.setenv(VARIABLES[0], Fernet.generate_key().decode())
    with pytest.raises(ConfigError, match=r"block (one|two|three)-db .* was not encrypted with the key in PREFECT_"):
        lease()
    monkeypatch.setenv(VARIABLES[0], "nonsense")
    with pytest.raises(ConfigError, match="no Fernet key"):
        lease()


def test_a_lost_or_open_key_file_is_an_error_that_says_what_to_do_and_changes_nothing(home: Home) -> None:
    key = home.key
    put_key(Fernet.generate_key().decode())
    with pytest.raises(ConfigError, match="Put the key back") as wrong:
        lease()
    assert key not in str(wrong.value)
    with pytest.raises(ConfigError, match="Put the key back"):
        rotate()
    key_file().unlink()
    with pytest.raises(ConfigError, match="Put the key back"):
        lease()
    with home.changed() as database:
        database.execute("UPDATE block_document SET block_type_name = 'S3 Bucket' WHERE name = 'one-db'")
    with pytest.raises(ConfigError, match="Put the key back"):
        lease()
    put_key(key)
    key_file().chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        lease()
    key_file().chmod(0o600)
    lease().close()
    assert home.passwords() == EXPECTED
    assert sorted(path.name for path in key_file().parent.glob("encryption.*")) == ["encryption.key", "encryption.lock"]


def test_rotate_brings_every_block_under_a_new_key_and_leaves_no_trace_of_the_old(home: Home, machine: Machine) -> None:
    old = home.key
    said = machine.json("keys", "rotate")
    assert said == {"blocks": len(NAMES), "database": str(home.database), "key_file": str(key_file())}
    assert home.key != old
    assert home.passwords() == EXPECTED
    with closing(sqlite3.connect(home.database)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert home.files_with(old) == home.files_with(home.key) == home.files_with(CANARY) == []


def test_rotate_is_refused_while_a_server_runs(home: Home, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    before = home.key
    assert "cannot restart it" in command("keys", "rotate", code=2).err
    monkeypatch.delenv("PREFECT_API_URL")
    running = lease()
    assert "another `backups` command is running" in command("keys", "rotate", code=2).err
    running.close()
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; f = open(sys.argv[1]); print(flush=True); input()", home.database],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert f"process {other.pid} uses" in command("keys", "rotate", code=2).err
        other.communicate(b"\n")
    assert home.key == before
    assert "3 blocks" in command("keys", "rotate").out
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "postgresql+asyncpg://h/d")
    assert "not an SQLite file" in command("keys", "rotate", code=2).err


@pytest.mark.fault("K15")
@pytest.mark.parametrize("then", ["rotate", "start"])
@pytest.mark.parametrize("milestone", ["rotate:written", "rotate:document", "rotate:committed", "rotate:switched"])
def test_rotate_that_is_killed_loses_nothing_and_the_next_command_finishes_it(
    home: Home, machine: Machine, milestone: str, then: str
) -> None:
    for _ in range(2):
        machine.kill_at(milestone, "keys", "rotate")
        keys = [path.read_text().strip() for path in key_file().parent.glob("encryption.key*")]
        assert home.passwords(*keys) == EXPECTED
    if then == "rotate":
        machine.run("keys", "rotate")
    else:
        lease().close()
    assert home.passwords() == EXPECTED
    assert not list(key_file().parent.glob("encryption.key.*"))


def test_each_database_has_a_key_of_its_own_so_that_to_rotate_one_does_not_lose_the_other(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Home(home.path.parent / "other")
    shutil.copytree(home.path, other.path)
    before = home.key
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", f"sqlite+aiosqlite:///{other.database}")
    put_key(before)
    assert rotate() == len(NAMES)
    assert other.passwords(key_file().read_text().strip()) == EXPECTED
    assert home.passwords(before) == EXPECTED
    assert home.key == before


def test_servers_that_start_at_once_for_the_first_time_agree_on_one_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from cli.encryption_key import lease; print(*lease().environment.values())"
    environment = {"PATH": os.environ["PATH"], "PREFECT_HOME": str(tmp_path)}
    starting = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    keys = {process.communicate(timeout=300)[0].strip() for process in starting}
    assert keys == {(tmp_path / "backups/encryption.key").read_text().strip()}
