"""The whole set-up of docs/production.md; an API server, a worker and a run are killed while backups run."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from blocks.destinations.local import LocalDestination
from tests.peers.command import Machine
from tests.peers.prefect_worker import begin, client, ended, state, until
from tests.peers.production import Production, production
from vault import known_signers
from vault.catalog import Catalog
from vault.signing import Trust

_MINUTES = 60.0
# All in one process, since each begins with the import of Prefect.
_COMMANDS = """
import json, sys, cli
for line in json.loads(sys.argv[1]):
    command, bound, _ = cli.app.parse_args(line)
    command(*bound.args, **bound.kwargs)
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Production]:
    (tmp_path / "hold").touch()
    with production(tmp_path) as site:
        site.machine.run("register")
        yield site


def save(site: Production, apps: list[str]) -> None:
    """Save the apps, each with a schedule, of which one run goes at a time. Their runs wait for the file ``hold``."""
    disk = str(site.place / "disk")
    hook = f'touch "{site.place}/begun-$$"; while test -e "{site.place}/hold"; do sleep 0.1; done'
    lines = [["hook", "add", "wait", "--command", hook], ["destination", "add", "local", "disk", disk]]
    for app in apps:
        (site.place / app).mkdir()
        (site.place / app / "a").write_text(app * 1000)
        lines.append(["app", "add", app, "--source", str(site.place / app), "--to", "disk", "--before", "wait"])
        lines.append(["schedule", "add", app, "--cron", "0 0 1 1 *", "--name", app])
    argv = [sys.executable, "-c", _COMMANDS, json.dumps(lines)]
    done = subprocess.run(argv, env=site.machine.environment(), cwd=site.place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def runs_of(worker: subprocess.Popen[bytes]) -> dict[UUID, int]:
    """The processes of the runs that *worker* has begun."""
    threads = Path(f"/proc/{worker.pid}/task").iterdir()
    children = [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]
    found = {}
    for pid in children:
        environ = dict(part.split(b"=", 1) for part in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if part)
        found[UUID(environ[b"PREFECT__FLOW_RUN_ID"].decode())] = pid
    return found


def answers(machine: Machine) -> bool:
    """Whether Prefect can say something that is in its database."""
    user, _, password = machine.extra["PREFECT_API_AUTH_STRING"].partition(":")
    try:
        return httpx.post(f"{machine.api_url}/flows/count", json={}, auth=(user, password), timeout=10).is_success
    except httpx.HTTPError:
        return False


def end_of(site: Production, run: UUID) -> str:
    """How the run ended, where what has ended of the set-up is started again, as systemd does."""

    def is_final() -> bool:
        site.revive()
        return answers(site.machine) and state(site.machine, run) in ("Completed", "Failed", "Crashed", "Cancelled")

    until(is_final, 10 * _MINUTES)
    return state(site.machine, run)


def slots_taken(machine: Machine) -> dict[str, int]:
    """For each schedule that has one, how many of its slots are taken."""
    with client(machine) as prefect:
        limits = [(one.name, one.global_concurrency_limit) for one in prefect.read_deployments()]
    return {name: limit.active_slots for name, limit in limits if limit is not None and limit.active_slots}


def backups(site: Production, app: str) -> int:
    """How many there are of *app*; each is whole."""
    trust = Trust(known_signers.read(site.place / "home/second/backups/known-signers"))
    history = Catalog(LocalDestination(root=site.place / "disk"), app, trust).history()
    assert not history.damaged
    for artifact in (artifact for record in history.records for artifact in record.artifacts):
        assert hashlib.sha256((site.place / "disk" / artifact.key).read_bytes()).hexdigest() == artifact.sha256
    return len(history.records)


@pytest.mark.law(1, 2, 11)
@pytest.mark.fault("O02", "O03", "X05")
@pytest.mark.parametrize(
    ("count", "machine_too"),
    [
        pytest.param(6, False, id="six"),
        pytest.param(20, True, id="twenty", marks=pytest.mark.slow),  # a lost machine is noticed after four minutes
    ],
)
def test_an_api_server_a_worker_and_a_run_are_killed_while_backups_run_and_nothing_is_lost(
    site: Production, count: int, machine_too: bool
) -> None:
    apps = [f"app{number}" for number in range(count)]
    save(site, apps)
    first, second = (
        site.start("backups-worker@.service", "backups", PREFECT_HOME=f"{site.place}/home/{name}")
        for name in ("first", "second")
    )
    runs = {app: begin(site.machine, f"backup/{app}") for app in apps}
    until(lambda: len(list(site.place.glob("begun-*"))) == min(count, 8))
    (lost, process), *_ = runs_of(second).items()
    with_first = runs_of(first)
    assert with_first

    site.kill(f"prefect-api@{site.servers[0]}")
    first.kill()
    for child in with_first.values() if machine_too else ():
        os.killpg(child, signal.SIGKILL)
    os.kill(process, signal.SIGKILL)
    (site.place / "hold").unlink()
    ends = {app: ended(site.machine, run, seconds=10 * _MINUTES) for app, run in runs.items()}

    dead = {lost, *(with_first if machine_too else ())}
    assert {app for app, end in ends.items() if end == "Crashed"} == {app for app, run in runs.items() if run in dead}
    assert set(ends.values()) == {"Completed", "Crashed"}
    assert slots_taken(site.machine) == {}
    for app in apps:
        assert backups(site, app) == (ends[app] == "Completed")
    again = {app: begin(site.machine, f"backup/{app}") for app, end in ends.items() if end != "Completed"}
    for app, run in again.items():
        assert ended(site.machine, run, seconds=10 * _MINUTES) == "Completed"
        assert backups(site, app) == 1
    assert slots_taken(site.machine) == {}


@pytest.mark.law(1, 2, 11)
@pytest.mark.fault("O02", "X05")
def test_postgresql_and_redis_are_killed_while_backups_run_and_nothing_is_lost(site: Production) -> None:
    apps = [f"app{number}" for number in range(3)]
    save(site, apps)
    site.start("backups-worker@.service", "backups", PREFECT_HOME=f"{site.place}/home/second")
    runs = {app: begin(site.machine, f"backup/{app}") for app in apps}
    until(lambda: len(list(site.place.glob("begun-*"))) == len(apps))

    site.kill_state()
    until(lambda: not answers(site.machine))  # the servers have noticed
    (site.place / "hold").unlink()
    until(lambda: any((site.place / "disk").glob("*/*.json")))  # a backup is committed meanwhile
    site.start_state()
    ends = {app: end_of(site, run) for app, run in runs.items()}

    for app in apps:
        assert backups(site, app) == 1, ends
    assert set(ends.values()) == {"Completed"}
    again = {app: begin(site.machine, f"backup/{app}") for app in apps}
    assert {end_of(site, run) for run in again.values()} == {"Completed"}
    assert {backups(site, app) for app in apps} == {2}
    assert slots_taken(site.machine) == {}
