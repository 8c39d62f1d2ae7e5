"""``backups destination``: tested before it is saved, changed without a loss, shown without its secrets."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, ClassVar
from uuid import uuid4

import pytest
from cyclopts import App
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from pydantic import Field, SecretStr

from blocks.destinations import DESTINATIONS, Destination, LocalDestination, Upload
from cli import destinations
from cli.saved import SecretFile, new_secret, update
from tests.cli.conftest import Command
from vault.errors import AccessDenied
from vault.store import Digest, StoredObject

CANARY, OTHER = "canary-S3cret", "canary-0ther"


class Credentials(Block):
    """Another block, within a destination."""

    key_id: str
    key: SecretStr


class VaultDestination(Destination):
    """A directory that takes one password: what a remote driver is to the command."""

    _block_type_slug: ClassVar[str | None] = "vault-destination"

    root: Path
    password: SecretStr = Field(description="What it wants.")
    inside: Credentials = Field(description="Nested, with a secret of its own.")
    port: int = 22

    @property
    def _inner(self) -> LocalDestination:
        if self.password.get_secret_value() not in (CANARY, OTHER):
            raise AccessDenied(f"{self.location} refuses the password", "Give the right one: --password-file FILE.")
        return LocalDestination(root=self.root)

    @property
    def location(self) -> str:
        return f"vault:{self.port}{self.root}"

    def prepare(self) -> None:
        self._inner.prepare()

    def _begin(self, key: str, resume: str | None) -> Upload:
        return self._inner.upload(key, resume)

    def _read(self, key: str, offset: int) -> AbstractContextManager[BinaryIO]:
        return self._inner.open(key, offset)

    def stat(self, key: str) -> StoredObject:
        return self._inner.stat(key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        return self._inner.list(prefix)

    def remove(self, key: str) -> None:
        self._inner.remove(key)

    def digest(self, key: str) -> Digest | None:
        return None


@pytest.fixture
def vault(
    prefect_api: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, VaultDestination]]:
    """A saved destination with two secrets, of a kind that has joined the command."""
    monkeypatch.setitem(DESTINATIONS, "vault-destination", VaultDestination)  # whoever has imported it knows of it

    def update_vault(
        name: str, /, *, port: int | None = None, password_file: SecretFile = None, no_test: bool = False
    ) -> None:
        """Change a vault."""
        password = new_secret("Password", password_file)
        update("destination", name, VaultDestination, {"port": port, "password": password}, no_test)

    updates: App = destinations._update_destination
    updates.command(update_vault, name="vault")
    LocalDestination(root=tmp_path / "vault").prepare()
    saved = VaultDestination(
        root=tmp_path / "vault",
        password=SecretStr(CANARY),
        inside=Credentials(key_id="id", key=SecretStr(CANARY)),
    )
    name = f"vault-{uuid4().hex[:8]}"
    saved.save(name)
    yield name, saved
    del updates["vault"]


def stored(name: str) -> VaultDestination:
    found = VaultDestination.load(name)
    assert isinstance(found, VaultDestination)
    return found


def test_update_changes_what_is_given_and_keeps_the_rest_secrets_too(
    command: Command, vault: tuple[str, VaultDestination]
) -> None:
    name, _ = vault
    assert "Saved destination" in command("destination", "update", name, "--port", "23").err
    found = stored(name)
    assert (found.port, found.password.get_secret_value()) == (23, CANARY)
    assert found.inside.key.get_secret_value() == CANARY
    command("destination", "update", "vault", name, "--port", "24")
    assert stored(name).port == 24


def test_update_takes_a_new_secret_from_a_file_or_standard_input_only(
    command: Command, vault: tuple[str, VaultDestination], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text(f"{OTHER}\n")
    command("destination", "update", vault[0], "--password-file", tmp_path / "password")
    assert stored(vault[0]).password.get_secret_value() == OTHER
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{CANARY}\n"))
    command("destination", "update", vault[0], "--password-file", "-")
    assert stored(vault[0]).password.get_secret_value() == CANARY


def test_an_update_that_fails_its_test_saves_nothing_and_says_what_to_do(
    command: Command, vault: tuple[str, VaultDestination], tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("wrong")
    change = ("destination", "update", vault[0], "--password-file", tmp_path / "password")
    failed = command(*change, code=1)
    assert "Give the right one: --password-file FILE." in failed.err
    assert "nothing was saved" in failed.err
    assert stored(vault[0]).password.get_secret_value() == CANARY
    assert "(not tested)" in command(*change, "--no-test").err
    assert stored(vault[0]).password.get_secret_value() == "wrong"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((), "nothing is to be changed"), (("--port", "many"), "port"), (("--colour", "red"), "--colour")],
)
def test_an_update_that_cannot_be_is_refused(
    command: Command, vault: tuple[str, VaultDestination], arguments: tuple[str, ...], said: str
) -> None:
    assert said in command("destination", "update", vault[0], *arguments, code=2).err
    assert "nosuch" in command("destination", "update", "nosuch", "--port", "1", code=2).err


@pytest.mark.law(10)
@pytest.mark.fault("O12")
def test_show_never_prints_a_secret_not_even_of_a_block_within(
    command: Command, vault: tuple[str, VaultDestination]
) -> None:
    for arguments in (("show", vault[0]), ("show", vault[0], "--json"), ("list",), ("test", vault[0])):
        said = command("destination", *arguments)
        assert CANARY not in said.out + said.err
    shown = command("destination", "show", vault[0], "--json").json
    assert set(shown["password"]) == set(shown["inside"]["key"]) == {"*"}
    assert shown["port"] == 22


def test_test_shows_each_step_of_the_probe_with_its_time(command: Command, vault: tuple[str, VaultDestination]) -> None:
    shown = command("destination", "test", vault[0], "--json").json
    assert [step["step"] for step in shown["steps"]] == ["write", "list", "read back", "compare", "delete"]
    assert all(step["seconds"] >= 0 and step["result"] == "ok" for step in shown["steps"])
    assert shown["works"] is True
    assert "read back" in command("destination", "test", vault[0]).out


def test_test_says_which_step_failed_and_the_remedy(
    command: Command, vault: tuple[str, VaultDestination], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: VaultDestination, key: str, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        raise AccessDenied("it may not read", "Grant it: chmod u+r.")

    monkeypatch.setattr(VaultDestination, "open", refuse)
    failed = command("destination", "test", vault[0], "--json", code=1)
    assert [step["step"] for step in failed.json["steps"]] == ["write", "list", "read back"]
    assert failed.json["steps"][-1]["remedy"] == "Grant it: chmod u+r."
    assert "Grant it: chmod u+r." in failed.err
    assert list((vault[1].root / "probe").iterdir()) == [], "the probe is left"


@pytest.mark.fault("D05")
def test_a_local_destination_moves_with_its_marker_and_never_to_another_directory(
    command: Command, tmp_path: Path
) -> None:
    name = f"disk-{uuid4().hex[:8]}"
    command("destination", "add", "local", name, tmp_path / "old")
    LocalDestination(root=tmp_path / "other").prepare()
    assert "another marker" in command("destination", "update", name, "--root", tmp_path / "other", code=1).err
    assert "no marker" in command("destination", "update", name, "--root", tmp_path / "nosuch", code=1).err
    assert command("destination", "show", name, "--json").json["root"] == str(tmp_path / "old")
    os.rename(tmp_path / "old", tmp_path / "new")
    command("destination", "update", name, "--root", tmp_path / "new")
    assert command("destination", "show", name, "--json").json["root"] == str(tmp_path / "new")
    assert "reach" in command("destination", "test", name).out


def test_every_kind_of_destination_can_be_added_and_updated_by_command() -> None:
    wanted = {slug.removesuffix("-destination") for slug in DESTINATIONS}
    for commands in (destinations._add_destination, destinations._update_destination):
        assert wanted <= set(commands), f"a kind has no command in `backups destination {commands.name[0]}`"


def test_the_limits_of_a_destination_are_given_with_units_changed_and_forgotten_with_it(
    command: Command, tmp_path: Path
) -> None:
    def limit() -> int | None:
        with get_client(sync_client=True) as client:
            try:
                return client.read_global_concurrency_limit_by_name(f"backups-local-destination-{name}").limit
            except ObjectNotFound:
                return None

    def shown() -> tuple[int, int]:
        fields = command("destination", "show", name, "--json").json
        return fields["max_runs"], fields["bandwidth"]

    name = f"spared-{uuid4().hex[:8]}"
    command("destination", "add", "local", name, tmp_path / "disk", "--max-runs", "2", "--bandwidth", "10MB/s")
    assert (shown(), limit()) == ((2, 10_000_000), 2)
    command("destination", "update", name, "--max-runs", "3")
    assert (shown(), limit()) == ((3, 10_000_000), 3)
    for slip in ("10", "fast"):
        assert "such as 10MB/s" in command("destination", "update", name, "--bandwidth", slip, code=2).err
    command("destination", "update", name, "--max-runs", "0", "--bandwidth", "0")
    assert (shown(), limit()) == ((0, 0), None)
    command("destination", "update", name, "--max-runs", "1")
    command("destination", "remove", name)
    assert limit() is None
