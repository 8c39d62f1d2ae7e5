"""A schedule at a real server, and a real worker that comes back after a downtime."""

# ruff: noqa: S608  # the SQL is made of our own words

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.peers.command import TIMEOUT, Machine
from tests.peers.prefect_server import prefect_server

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a").write_text("a")
    (tmp_path / "home").mkdir()
    with prefect_server(tmp_path / "server") as url:
        machine = Machine(tmp_path / "home", url)
        machine.run("app", "add", "shop", "--source", str(tmp_path / "data"), "--to", str(tmp_path / "disk"))
        yield machine


def planned(database: Path) -> list[tuple[str, str]]:
    """State and message of the runs that the schedule planned, the earliest first."""
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        return connection.execute(
            "SELECT s.name, coalesce(s.message, '') FROM flow_run r JOIN flow_run_state s ON s.id = r.state_id"
            " WHERE r.auto_scheduled ORDER BY r.expected_start_time"
        ).fetchall()


def let_pass(database: Path, count: int, time: datetime) -> None:
    """Have the first *count* planned runs be planned for *time*."""
    first = "(SELECT id FROM flow_run WHERE auto_scheduled ORDER BY expected_start_time LIMIT ?)"
    changes = (
        f"UPDATE flow_run_state SET state_details = json_set(state_details, '$.scheduled_time', ?)"
        f" WHERE flow_run_id IN {first}",
        f"UPDATE flow_run SET next_scheduled_start_time = ? WHERE id IN {first}",
        f"UPDATE flow_run SET expected_start_time = ? WHERE id IN {first}",
    )
    written = f"{time:%Y-%m-%d %H:%M:%S.000000}"
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        for change, value in zip(changes, (time.isoformat(), written, written), strict=True):
            assert connection.execute(change, (value, count)).rowcount == count


@pytest.mark.fault("Z08", "X01")
def test_after_a_downtime_a_schedule_runs_once_and_the_other_late_runs_say_why_not(
    machine: Machine, tmp_path: Path
) -> None:
    database = tmp_path / "server/prefect.db"
    machine.run("schedule", "add", "shop", "--cron", "30 2 * * *", "--name", "nightly", "--keep-last", "2")
    tick = threading.Event()
    while len(planned(database)) < 3:  # the server plans them by itself
        tick.wait(0.1)
    now = datetime.now(UTC)
    past = now - timedelta(hours=1)  # as if no worker had run for two nights
    let_pass(database, 2, past)
    shown = machine.json("schedule", "list")[0]
    assert shown["overdue_since"] == f"{past:%Y-%m-%dT%H:%M:%SZ}"
    worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "backups", "--type", "process"]
    environment = machine.environment(PYTHONPATH=os.environ.get("PYTHONPATH", ""))
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        subprocess.run(
            [*worker, "--run-once"],
            env=environment,
            cwd=ROOT,
            timeout=TIMEOUT,
            check=True,
            stdout=output,
            stderr=output,
        )
    states = planned(database)
    assert sorted(name for name, _ in states[:2]) == ["Cancelled", "Completed"], log.read_text()
    (reason,) = [message for name, message in states[:2] if name == "Cancelled"]
    # Said by the run that makes up for it, or by Prefect, where its worker comes to it while that run goes on.
    assert "of the same schedule makes up for it" in reason or "concurrency limit" in reason
    assert {name for name, _ in states[2:]} == {"Scheduled"}
    assert len(machine.json("list", "shop", "--from", str(tmp_path / "disk"))) == 1
    assert machine.json("schedule", "list")[0]["overdue_since"] is None
