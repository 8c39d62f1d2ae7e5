"""A run is killed with all that could have told so: Prefect's server notices, and people are told."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.peers.command import TIMEOUT, Machine
from tests.peers.prefect_server import prefect_server
from tests.peers.smtp import mail_server

ROOT = Path(__file__).parent.parent.parent
_INSTALL = """
from datetime import timedelta
from deployments.automations import crash_lost_runs
crash_lost_runs(timedelta(seconds=40))
"""


@pytest.mark.slow  # signs of life come every 30 seconds at most
@pytest.mark.law(12)
@pytest.mark.fault("K02", "M05", "O03")
def test_a_run_whose_process_was_killed_ends_as_crashed_and_is_mailed_and_a_living_one_does_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a").write_text("a")
    (tmp_path / "home").mkdir()
    with prefect_server(tmp_path / "server") as url, mail_server() as inbox:
        machine = Machine(tmp_path / "home", url, {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"})
        mail = ("--host", "127.0.0.1", "--port", str(inbox.port), "--security", "none")
        machine.run("notify", "add", "email", "ops", *mail, "--sender", "a@example.org", "--to", "ops@example.org")
        subprocess.run([sys.executable, "-c", _INSTALL], env=machine.environment(), cwd=ROOT, check=True)
        machine.run("hook", "add", "wait", "--command", "sleep 75")
        for name, hook in (("dead", ()), ("alive", ("--before", "wait"))):
            source = f"{name}-files={tmp_path / 'data'}"
            machine.run("app", "add", name, "--source", source, "--to", str(tmp_path / "disk"), *hook)
        alive = machine.start("run", "alive")
        dead = machine.stop_at("dump:begun", "run", "dead")
        os.killpg(dead.pid, signal.SIGKILL)
        dead.wait()
        told = inbox.mails(2, seconds=120)[1]
        assert told["Subject"].startswith("backup crashed: dead")
        assert "gave no sign of life for 40 s" in told.get_content()
        assert alive.wait(timeout=TIMEOUT) == 0
        with closing(sqlite3.connect(tmp_path / "server/prefect.db", timeout=30)) as database:
            states = database.execute("SELECT substr(name, 1, 4), state_name FROM flow_run").fetchall()
        assert sorted(states) == [("aliv", "Completed"), ("dead", "Crashed")]
    assert inbox.taken == 2
