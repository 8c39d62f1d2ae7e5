"""``backups app`` and ``backups hook``: an app is described, and changed without being removed."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.peers.command import TIMEOUT, Machine


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    (root / "etc/shop").mkdir(parents=True)
    (root / "etc/shop/app.conf").write_text("a")
    (root / "uploads").mkdir()
    (root / "uploads/a.txt").write_text("a")
    with closing(sqlite3.connect(root / "shop.sqlite")) as database, database:
        database.execute("CREATE TABLE t AS SELECT 42 AS x")
    return root


def test_an_app_of_saved_sources_and_a_path_is_added_changed_and_run(
    command: Command, data: Path, tmp_path: Path
) -> None:
    command("source", "add", "sqlite", "a-db", data / "shop.sqlite")
    command("destination", "add", "local", "a-disk", tmp_path / "disk")
    added = command("app", "add", "shop", "--source", "a-db", "--source", data / "etc/shop", "--to", "a-disk")
    assert "Saved source shop-files" in added.err
    record = command("run", "shop", "--json").json
    assert [artifact["source"] for artifact in record["artifacts"]] == ["a-db", "shop-files"]
    command("app", "update", "shop", "--parallel", "1", "--keep-last", "3")
    shown = command("app", "show", "shop", "--json").json
    assert (shown["parallel"], shown["keep_last"]) == (1, 3)
    assert len(shown["sources"]) == 2, "what is not given stays"
    more = ("--source", "a-db", "--source", "shop-files", "--source", data / "uploads")
    command("app", "update", "shop", *more)
    assert len(command("run", "shop", "--json").json["artifacts"]) == 3
    assert "nothing is to be changed" in command("app", "update", "shop", code=2).err
    assert "parallel" in command("app", "update", "shop", "--parallel", "0", code=2).err
    assert "nosuch" in command("app", "update", "nosuch", "--parallel", "1", code=2).err
    for noun, name in (("app", "shop"), *(("source", name) for name in ("a-db", "shop-files", "shop-uploads"))):
        command(noun, "remove", name)
    command("destination", "remove", "a-disk")


def test_hooks_are_added_named_in_an_app_and_taken_away(command: Command, data: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command("hook", "add", "h-on", "--command", f"echo on >> {log}", "--directory", tmp_path)
    command("hook", "add", "h-off", "--command", f"echo off >> {log}")
    assert "saved already" in command("hook", "add", "h-on", "--command", "true", code=2).err
    assert {"name": "h-on", "kind": "shell-operation"} in command("hook", "list", "--json").json
    assert command("hook", "show", "h-off", "--json").json["commands"] == [f"echo off >> {log}"]
    disk = ("--to", tmp_path / "disk")
    assert "nosuch" in command("app", "add", "hooked", "--source", data / "etc", *disk, "--after", "nosuch", code=2).err
    hooks = ("--before", "h-on", "--after", "shell-operation/h-off", "--after-timeout", "5")
    command("app", "add", "hooked", "--source", data / "etc", *disk, *hooks)
    command("run", "hooked")
    assert log.read_text().split() == ["on", "off"]
    assert "used by app hooked" in command("hook", "remove", "h-off", code=2).err
    command("app", "update", "hooked", "--after", "")
    command("hook", "remove", "h-off")
    command("run", "hooked")
    assert log.read_text().split() == ["on", "off", "on"]
    command("app", "update", "hooked", "--before", "", "--before-on-error", "continue")
    command("hook", "remove", "h-on")
    shown = command("app", "show", "hooked", "--json").json
    assert (shown["before"], shown["before_on_error"], shown["after_timeout"]) == ("", "continue", 5)
    command("app", "remove", "hooked")
    command("source", "remove", "hooked-etc")


_LOAD = """
import sys
import blocks
from blocks.loading import load
from blocks.sources import Source
assert load("directory/slim", Source).path.name == "data"
print([name for name in ("prefect_aws", "prefect_redis") if name in sys.modules])
"""


def test_what_is_saved_is_loaded_without_importing_every_package_that_has_blocks(
    command: Command, tmp_path: Path
) -> None:
    """That took each run half a second, and a sixth of its memory."""
    from prefect.settings import PREFECT_API_URL

    (tmp_path / "data").mkdir()
    command("source", "add", "directory", "slim", tmp_path / "data", "--no-test")
    machine = Machine(tmp_path, str(PREFECT_API_URL.value()))
    argv = [sys.executable, "-c", _LOAD]
    done = subprocess.run(argv, env=machine.environment(), capture_output=True, text=True, timeout=TIMEOUT, check=True)
    assert done.stdout == "[]\n"
    command("source", "remove", "slim")
