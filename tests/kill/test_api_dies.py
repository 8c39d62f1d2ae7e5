"""Prefect's API dies in the middle of a run: the records at the destination stay the truth (O02)."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from blocks.destinations.local import LocalDestination
from tests.peers.command import TIMEOUT, Machine
from tests.peers.prefect_server import prefect_server
from tests.peers.processes import descendants_gone
from vault import known_signers
from vault.catalog import Catalog
from vault.signing import Trust
from vault.workspace import leftovers


@pytest.mark.fault("O02")
def test_a_run_whose_api_dies_commits_or_leaves_nothing_and_never_hangs(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a").write_text("a")
    (tmp_path / "home").mkdir()
    with prefect_server(tmp_path / "server") as url:
        machine = Machine(tmp_path / "home", url, {"PREFECT_CLIENT_MAX_RETRIES": "1"})
        source = f"api-files={tmp_path / 'data'}"
        machine.run("destination", "add", "local", "disk", str(tmp_path / "disk"), "--max-runs", "1")
        machine.run("run", "--app", "api", "--source", source, "--to", "disk")
        run = machine.stop_at("dump:begun", "run", "api")
    run.send_signal(signal.SIGCONT)  # the server is gone by now
    run.wait(timeout=TIMEOUT)
    descendants_gone(run.pid)
    trust = Trust(known_signers.read(machine.home / "prefect/backups/known-signers"))
    history = Catalog(LocalDestination(root=tmp_path / "disk"), "api", trust).history()
    assert run.returncode == 1, "the run could not tell Prefect how it ended"
    assert "Prefect's API was lost" in (machine.home / "output").read_text()
    assert len(history.records) == 2, "the backup itself does not need the API"
    assert not history.damaged
    assert not history.orphans
    assert leftovers(machine.work) == []
