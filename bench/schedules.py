"""Many schedules on one machine: how long they take to register, the server's memory, and how many runs a worker does.

Each app is a directory with one small file, so that what is measured is all but the backups. Runs are planned all at
once, as if it were night; the rate is that of the runs between the first and the last to end.

.venv/bin/python bench/schedules.py --schedules 1000 --runs 120 --limits 2 4 6
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.scheduled import installation, worker
from tests.peers.command import Machine

WINDOW = 240  # minutes of a night
_IDLE = 60  # seconds
_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=120)
    parser.add_argument("--limits", type=int, nargs="+", default=[2, 4, 6])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, installation(Path(directory)) as machine:
        os.environ.update(machine.environment())
        names = [f"app-{number:04}" for number in range(options.schedules)]
        began = time.monotonic()
        save(names)
        saved = time.monotonic()
        print(f"{len(names)} apps saved in {saved - began:.0f} s", flush=True)
        own, server = time.process_time(), cpu_of_server(directory)
        register(names)
        print(
            f"{len(names)} schedules registered in {time.monotonic() - saved:.0f} s:"
            f" {time.process_time() - own:.0f} CPU-s here, {cpu_of_server(directory) - server:.0f} of the server",
            flush=True,
        )
        planned = wait_until_planned(len(names))
        after = time.monotonic() - saved
        print(f"{planned} runs planned {after:.0f} s after the first; server: {memory(directory)} MiB", flush=True)
        server = cpu_of_server(directory)
        time.sleep(_IDLE)
        print(
            f"nothing to do: the server takes {(cpu_of_server(directory) - server) / _IDLE:.0%} of a core", flush=True
        )
        for limit in options.limits:
            server = cpu_of_server(directory)
            rate, cpu = drain(machine, names[: options.runs], limit)
            server = (cpu_of_server(directory) - server) / options.runs
            print(
                f"{options.runs} runs, {limit} at once: {rate:.1f} runs a minute, {int(rate * WINDOW)} in four hours;"
                f" {cpu:.1f} CPU-s a run, and {server:.1f} of the server, which has {memory(directory)} MiB",
                flush=True,
            )


def save(names: list[str]) -> None:
    """An app for each of *names*."""
    from blocks import App
    from blocks.loading import load
    from tasks.again import one_client

    shop = load("backup-app/shop", App)
    with one_client():
        for name in names:
            App(sources=shop.sources, destinations=shop.destinations).save(name)


def register(names: list[str]) -> None:
    """A schedule for each of *names*: the runs of a night are spread over four hours."""
    from deployments.schedules import add_all
    from tasks.schedules import Schedule, When

    add_all(
        [
            Schedule(name, (When(f"{number % 60} {2 + number // 60 % 4} * * *"),), {"app": name}, pool="backups")
            for number, name in enumerate(names)
        ]
    )


def wait_until_planned(count: int) -> int:
    """Until the server's scheduler has planned a run of each."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        while True:
            answer = client.request(
                "POST", "/flow_runs/count", json={"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
            )
            if (found := int(answer.json())) >= count:
                return found
            time.sleep(1)


def drain(machine: Machine, names: list[str], limit: int) -> tuple[float, float]:
    """Runs a minute, and CPU seconds of the worker and its children for each."""
    from prefect.client.orchestration import get_client
    from prefect.deployments import run_deployment

    runs = [run_deployment(f"backup/{name}", timeout=0, as_subflow=False).id for name in names]  # type: ignore[union-attr]
    ends: list[datetime] = []
    before = os.times()
    with get_client(sync_client=True) as client, worker(machine, limit):
        for run in runs:
            while (found := client.read_flow_run(run)).state is None or found.state.type.name not in _ENDED:
                time.sleep(0.5)
            if found.state.type.name != "COMPLETED":
                raise RuntimeError(f"{found.name}: {found.state.name}: {found.state.message}")
            ends.append(found.state.timestamp)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return 60 * (len(ends) - 1) / (max(ends) - min(ends)).total_seconds(), cpu / len(runs)


def memory(directory: str) -> int:
    """MiB of the server."""
    lines = (_server(directory) / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) // 1024


def cpu_of_server(directory: str) -> float:
    """CPU seconds that it has taken."""
    fields = (_server(directory) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _server(directory: str) -> Path:
    """In /proc, the process that has this installation's database open."""
    from cli.reencrypt_sqlite import SqliteFile

    (pid,) = SqliteFile(Path(directory) / "server/prefect.db").users()
    return Path(f"/proc/{pid}")


if __name__ == "__main__":
    main()
