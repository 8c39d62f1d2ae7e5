"""The private directories of runs, and their turns."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vault.errors import ConfigError, SpoolError
from vault.workspace import Turn, Workspace, default_root, leftovers, sweep

_DIE = "import os, sys; from pathlib import Path; from vault.workspace import Workspace\n"
_DIE += "print(Workspace(Path(sys.argv[1]), 'run').path, flush=True); os.kill(os.getpid(), 9)"


@pytest.mark.fault("K03", "K09")
def test_what_a_killed_run_left_is_swept_and_a_living_one_is_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "work"
    dead = subprocess.run([sys.executable, "-c", _DIE, str(root)], capture_output=True, text=True).stdout.strip()
    living = Workspace(root, "living")
    assert Path(dead).stat().st_mode & 0o777 == 0o700
    assert sweep(root) == [Path(dead)]
    assert leftovers(root) == [living.path]
    living.remove()
    living.remove()
    assert leftovers(root) == []


@pytest.mark.fault("F06")
def test_the_work_directory_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKUPS_WORK_DIR", str(tmp_path / "elsewhere"))
    assert default_root() == tmp_path / "elsewhere"
    monkeypatch.delenv("BACKUPS_WORK_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == tmp_path / "prefect-backups"


def test_a_work_directory_that_cannot_be_made_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="BACKUPS_WORK_DIR"):
        Workspace(tmp_path / "file/work", "run")


def test_a_work_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 12345)
    with pytest.raises(ConfigError, match="somebody else"):
        Workspace(tmp_path, "run")


@pytest.mark.fault("X01")
def test_a_second_run_of_the_same_name_waits_says_so_and_goes_on(tmp_path: Path) -> None:
    first, second, waiting, gone_on = (
        Turn(tmp_path, "shop"),
        Turn(tmp_path, "shop"),
        threading.Event(),
        threading.Event(),
    )

    def run() -> None:
        second.take(waiting.set)
        gone_on.set()

    first.take(lambda: pytest.fail("nobody else has it"))
    thread = threading.Thread(target=run)
    thread.start()
    assert waiting.wait(60)
    assert not gone_on.is_set()
    other = Turn(tmp_path, "other")
    other.take(lambda: pytest.fail("another app does not wait"))
    first.end()
    assert gone_on.wait(60)
    thread.join()
    second.end()
    other.end()
