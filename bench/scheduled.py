"""What Prefect adds to a scheduled backup: from its time to the first byte of the dump, and from the last to Completed.

The app is a directory with one small file, so that what is measured is all but the backup. The time of each step is
what Prefect recorded of it.

.venv/bin/python bench/scheduled.py --rounds 7
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.peers.command import Machine
from tests.peers.prefect_server import prefect_server

ROOT = Path(__file__).resolve().parent.parent
_AHEAD = timedelta(seconds=15)
"""So long before its time a run is planned: a worker takes it ten seconds ahead, and its process waits."""
_ENDS = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@contextmanager
def worker(machine: Machine, limit: int) -> Iterator[subprocess.Popen[bytes]]:
    """One `backups worker`, ended at exit."""
    process = machine.start("worker", "--limit", str(limit), "--patience", "0", PYTHONPATH=str(ROOT))
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextmanager
def installation(directory: Path) -> Iterator[Machine]:
    """A server with an app `shop`, and nothing that runs."""
    (directory / "data").mkdir()
    (directory / "data/file").write_text("content")
    (directory / "home").mkdir()
    with prefect_server(directory / "server") as url:
        machine = Machine(directory / "home", url, {"PYTHONPATH": str(ROOT)})
        machine.run("register")
        save = ("--source", str(directory / "data"), "--to", str(directory / "disk"))
        machine.run("app", "add", "shop", *save)
        yield machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, installation(Path(directory)) as machine:
        os.environ.update(machine.environment())
        machine.run("schedule", "add", "shop", "--cron", "0 0 1 1 *", "--name", "shop", "--keep-last", "3")
        with worker(machine, 4):
            rows = [run() for _ in range(options.rounds)]
    print(f"{'':<44} {'median':>7} {'min':>7} {'max':>7}  seconds, {options.rounds} rounds")
    for name in rows[0]:
        values = [row[name] for row in rows]
        print(f"{name:<44} {statistics.median(values):7.2f} {min(values):7.2f} {max(values):7.2f}")


def run() -> dict[str, float]:
    """Plan a run ahead, as the scheduler does, and take it apart when it has ended."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.deployments import run_deployment

    due = datetime.now().astimezone() + _AHEAD
    planned: Any = run_deployment("backup/shop", scheduled_time=due, timeout=0, as_subflow=False)
    with get_client(sync_client=True) as client:
        while (found := client.read_flow_run(planned.id)).state is None or found.state.type.name not in _ENDS:
            time.sleep(0.2)
        time.sleep(3)  # the last task runs are written with a delay
        states = {state.name: state.timestamp for state in client.read_flow_run_states(planned.id)}
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[planned.id]))
        tasks = {
            task.name.rpartition("-")[0] or task.name: task for task in client.read_task_runs(flow_run_filter=wanted)
        }
    if found.state.type.name != "COMPLETED":
        raise RuntimeError(f"{found.state.name}: {found.state.message}")
    return _parts(due, states, {name.split()[0]: (task.start_time, task.end_time) for name, task in tasks.items()})


def _parts(due: datetime, states: dict[str, datetime], tasks: dict[str, tuple[datetime, datetime]]) -> dict[str, float]:
    first, last = tasks["dump"][0], max(tasks["dump"][1], tasks["upload"][1])
    ended = states["Completed"]
    parts = {
        "SCHEDULED TIME TO FIRST BYTE": first - due,
        "  until the worker takes it": states["Pending"] - due,
        "  until its process says that it runs": states["Running"] - states["Pending"],
        "  until preflight begins": tasks["preflight"][0] - states["Running"],
        "  preflight": tasks["preflight"][1] - tasks["preflight"][0],
        "  until the dump begins": first - tasks["preflight"][1],
        "LAST BYTE TO COMPLETED": ended - last,
        "  verify": tasks["verify"][1] - last,
        "  commit": tasks["commit"][1] - tasks["verify"][1],
        "  retain": tasks["retain"][1] - tasks["commit"][1],
        "  cleanup": tasks["cleanup"][1] - tasks["retain"][1],
        "  until Prefect has it as Completed": ended - tasks["cleanup"][1],
    }
    return {name: part.total_seconds() for name, part in parts.items()}


if __name__ == "__main__":
    main()
