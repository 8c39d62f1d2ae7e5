"""``backups destination add | update b2``, with a real store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.contract.source import CANARY
from tests.peers.s3 import KEY_ID, SECRET, S3Server, rclone

__all__ = ["rclone"]


@pytest.fixture
def options(rclone: S3Server, tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    return ("--bucket", rclone.new_bucket(), "--endpoint", rclone.endpoint, "--key-id", KEY_ID)


@pytest.mark.law(10)
@pytest.mark.fault("O12")
def test_a_bucket_is_tested_saved_shown_without_its_secret_and_used(
    command: Command, options: tuple[str, ...], tmp_path: Path
) -> None:
    secret = ("--secret-file", tmp_path / "secret")
    command("destination", "add", "b2", "cli-b2", *options, *secret)
    shown = command("destination", "show", "cli-b2", "--json")
    assert shown.json["key_id"] == KEY_ID
    assert CANARY not in shown.out + shown.err
    steps = command("destination", "test", "cli-b2", "--json").json["steps"]
    assert [step["step"] for step in steps] == ["write", "list", "read back", "compare", "delete"]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("content")
    command("run", "--app", "cli-b2-app", "--source", f"cli-b2-files={tmp_path / 'data'}", "--to", "cli-b2")
    command("restore", "cli-b2-app", "latest", "--from", "cli-b2", "--to", tmp_path / "restored")
    assert (tmp_path / "restored/file").read_text() == "content"


@pytest.mark.fault("T06")
def test_a_wrong_key_is_told_with_the_remedy_and_changes_nothing(
    command: Command, options: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "wrong").write_text("wrong")
    failed = command("destination", "add", "b2", "cli-wrong", *options, "--secret-file", tmp_path / "wrong", code=1)
    assert "nothing was saved" in failed.err
    assert "Check the key" in failed.err
    assert "cli-wrong" not in command("destination", "list").out
    command("destination", "add", "b2", "cli-wrong", *options, "--secret-file", tmp_path / "secret")
    command("destination", "update", "cli-wrong", "--secret-file", tmp_path / "wrong", code=1)
    command("destination", "test", "cli-wrong")
    command("destination", "update", "cli-wrong", "--parallel-parts", "2")
    assert command("destination", "show", "cli-wrong", "--json").json["parallel_parts"] == 2


def test_the_key_is_never_an_argument(command: Command, options: tuple[str, ...]) -> None:
    assert "--secret-file" in command("destination", "add", "b2", "cli-none", *options, code=2).err
