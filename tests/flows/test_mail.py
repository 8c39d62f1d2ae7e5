"""A run fails, and people are told by mail: a real Prefect server, a real mail server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.command import Machine
from tests.peers.prefect_server import prefect_server
from tests.peers.smtp import MailServer, mail_server


@pytest.fixture
def inbox() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.mark.fault("O03")
def test_a_backup_that_fails_is_mailed_with_what_failed_and_when_the_last_good_one_was(
    inbox: MailServer, tmp_path: Path
) -> None:
    data, disk = tmp_path / "data", tmp_path / "disk"
    data.mkdir()
    (data / "a").write_text("a")
    (tmp_path / "home").mkdir()
    with prefect_server(tmp_path / "server") as url:
        machine = Machine(tmp_path / "home", url)
        mail = ("--host", "127.0.0.1", "--port", str(inbox.port), "--security", "none")
        whom = ("--sender", "backups@example.org", "--to", "ops@example.org")
        machine.run("notify", "add", "email", "ops", *mail, *whom)
        assert inbox.mails()[0]["Subject"] == "Backups: this is a test"
        machine.run("app", "add", "shop", "--source", str(data), "--to", str(disk))
        good = machine.json("run", "shop")["id"]
        (data / "a").unlink()
        data.rmdir()
        failed = machine.run("run", "shop", ok=False)
        assert failed.returncode == 1
        told = inbox.mails(2)[1]
        text = told.get_content()
        assert told["To"] == "ops@example.org"
        assert told["Subject"].startswith("backup failed: shop")
        assert str(data) in text, "what failed"
        assert f"disk: {good}" in text, "the last good backup"
        assert "Flow run: " in text, "where to look"
        machine.run("notify", "remove", "ops")
        machine.run("run", "shop", ok=False)
    runs = {mail.get_content().partition("Flow run: ")[2].split()[0] for mail in inbox.mails()[1:]}
    assert len(runs) == 1, "nobody is told of what failed after that"
