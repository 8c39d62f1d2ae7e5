"""``backups console user`` and ``token``: who may use the console, and where none of it is found in clear."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks import console_accounts
from blocks.passwords import digest
from cli.reencrypt_sqlite import SqliteFile
from tests.cli.conftest import Command
from tests.peers.command import Machine
from tests.peers.prefect_server import prefect_server

PASSWORD = "canary-horse-battery"


def test_accounts_and_tokens_are_added_listed_changed_and_removed(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    assert "login is off" in command("console", "user", "list").err
    command("console", "user", "add", "anna", "--scope", "operate", "--password-file", file)
    assert "already" in command("console", "user", "add", "anna", "--password-file", file, code=2).err
    assert "two" not in command("console", "user", "password", "anna", "--password-file", file).err
    file.write_text("short")
    assert "12 to 1024" in command("console", "user", "add", "ben", "--password-file", file, code=2).err
    listed = command("console", "user", "list", "--json").json
    assert [(one["name"], one["scope"]) for one in listed] == [("anna", "operate")]
    assert "no terminal" in command("console", "user", "add", "ben", code=2).err

    made = command("console", "token", "add", "cron", "--expires", "8w", "--json").json
    assert (made["token"].startswith("backups_"), made["expires_at"][-1]) == (True, "Z")
    assert command("console", "token", "add", "ever", "--scope", "admin", "--expires", "never").out.strip() != ""
    for bad in ("soon", "90", "-1d", "0d", "99999w"):
        command("console", "token", "add", "bad", f"--expires={bad}", code=2)
    listed = command("console", "token", "list").out
    assert made["token"] not in listed
    assert "never" in listed
    for name in ("cron", "ever"):
        command("console", "token", "revoke", name)
    assert "there is no token" in command("console", "token", "revoke", "cron", code=2).err
    assert "no login any more" in command("console", "user", "remove", "anna").err
    assert "there is no account" in command("console", "user", "remove", "anna", code=2).err
    console_accounts.ConsoleAccounts.delete(console_accounts.DOCUMENT)


@pytest.mark.law(10)
@pytest.mark.fault("O12")
def test_the_raw_database_holds_none_of_it_in_clear_and_takes_a_new_key(tmp_path: Path) -> None:
    home = tmp_path / "home/prefect"
    (tmp_path / "password").write_text(PASSWORD)
    with prefect_server(home) as url:
        machine = Machine(tmp_path / "home", url)
        machine.run("console", "user", "add", "findme-anna", "--password-file", str(tmp_path / "password"))
        token = machine.json("console", "token", "add", "findme-cron")["token"]
        with temporary_settings({PREFECT_API_URL: url}):
            key, before = console_accounts.read()

    def files_with(text: str) -> list[str]:
        return [path.name for path in home.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]

    secrets = [PASSWORD, before.accounts["findme-anna"].password, token, digest(token), key]
    assert files_with("backup-console"), "the search finds what is there"
    assert [secret for secret in secrets if files_with(secret)] == []
    assert Machine(tmp_path / "home", None).json("keys", "rotate")["blocks"] == 1
    ring = Fernet((home / "backups/encryption.key").read_text().strip())
    (block,) = SqliteFile(home / "prefect.db").contents().blocks
    assert json.loads(ring.decrypt(block.token))["session_key"] == key
