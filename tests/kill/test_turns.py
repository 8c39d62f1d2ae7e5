"""A run is killed while it has its turn at a destination: the turn is free when its lease ends (X05)."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blocks.destinations.local import LocalDestination
from tests.peers.command import TIMEOUT, Machine
from tests.peers.prefect_server import prefect_server
from vault import known_signers
from vault.catalog import Catalog
from vault.signing import Trust


def end_leases(leases: Path) -> None:
    """Let so much time pass for the server that every lease has ended."""
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    names = [path for path in leases.glob("*.json") if path.name != "expirations.json"]
    assert names
    for path in names:
        path.write_text(json.dumps({**json.loads(path.read_text()), "expiration": past}))
    (leases / "expirations.json").write_text(json.dumps({path.stem: past for path in names}))


@pytest.mark.fault("X05")
def test_the_turn_of_a_run_that_was_killed_is_free_when_its_lease_ends(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a").write_text("a")
    (tmp_path / "home").mkdir()
    settings = {
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "1",
        "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
    }
    with prefect_server(tmp_path / "server", settings) as url:
        machine = Machine(tmp_path / "home", url)
        machine.run("destination", "add", "local", "disk", str(tmp_path / "disk"), "--max-runs", "1")
        what = ("--source", f"files={tmp_path / 'data'}", "--to", "disk")
        dead = machine.stop_at("dump:begun", "run", "--app", "dead", *what)
        os.killpg(dead.pid, signal.SIGKILL)
        dead.wait()
        later = machine.stop_at("turn:waiting", "run", "--app", "next", *what)
        end_leases(tmp_path / "server/concurrency_leases")
        later.send_signal(signal.SIGCONT)
        assert later.wait(timeout=TIMEOUT) == 0
    trust = Trust(known_signers.read(machine.home / "prefect/backups/known-signers"))
    assert len(Catalog(LocalDestination(root=tmp_path / "disk"), "next", trust).history().records) == 1
    assert not Catalog(LocalDestination(root=tmp_path / "disk"), "dead", trust).history().records
