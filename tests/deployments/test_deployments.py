"""What is registered at a Prefect server of one's own, and a worker that is asked to end."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.command import TIMEOUT, Machine
from tests.peers.prefect_server import prefect_server
from tests.peers.prefect_worker import ask_to_end, begin, client, ended, said, state, until, worker
from tests.peers.smtp import mail_server

ROOT = Path(__file__).parents[2]
_EXAMPLE = ("--to", "disk", "--cron", "30 2 * * *", "--timezone", "Europe/Paris", "--keep-last", "7")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with a Prefect server, at which everything is registered, and an app ``shop``."""
    place = tmp_path_factory.mktemp("machine")
    (place / "data").mkdir()
    (place / "data/a").write_text("a")
    (place / "home").mkdir()
    hook = f"touch {place}/begun; while test -e {place}/hold; do sleep 0.1; done"
    with prefect_server(place / "server") as url:
        # What Prefect would take a version from, as in a clone that has a remote, or in a CI.
        clone = {"SHA": "0" * 40, "REF_NAME": "main", "REPOSITORY": "we/backups", "SERVER_URL": "https://github.com"}
        machine = Machine(place / "home", url, {f"GITHUB_{name}": value for name, value in clone.items()})
        machine.run("register")
        machine.run("hook", "add", "wait", "--command", hook)
        machine.run("destination", "add", "local", "disk", str(place / "disk"))
        machine.run("app", "add", "shop", "--source", str(place / "data"), "--to", "disk", "--before", "wait")
        yield machine


def deployments(machine: Machine) -> dict[str, dict[str, Any]]:
    """All deployments by their names, without what differs each time they are made."""

    def constant(value: Any) -> Any:
        if isinstance(value, dict):
            own = ("id", "name", "created", "updated", "flow_id", "deployment_id", "last_polled", "status", "labels")
            return {key: constant(part) for key, part in value.items() if key not in own}
        return [constant(part) for part in value] if isinstance(value, list) else value

    with client(machine) as prefect:
        flows = {one.id: one.name for one in prefect.read_flows()}
        found = prefect.read_deployments()
    return {f"{flows[one.flow_id]}/{one.name}": constant(one.model_dump(mode="json")) for one in found}


def deploy(machine: Machine, *options: str) -> None:
    argv = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", *options]
    done = subprocess.run(argv, env=machine.environment(), cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_file_makes_what_the_command_makes_and_a_second_time_changes_nothing(machine: Machine) -> None:
    registered = deployments(machine)
    assert {"backup/on-demand", "restore/on-demand", "copy/on-demand", "watch/daily"} < set(registered)
    for _ in range(2):
        deploy(machine)
        assert deployments(machine) == registered
    machine.run("register")
    assert deployments(machine) == registered


def test_the_example_in_the_file_is_what_schedule_add_makes(machine: Machine, tmp_path: Path) -> None:
    machine.run("schedule", "add", "shop", *_EXAMPLE, "--keep-monthly", "6", "--type", "full")
    made = deployments(machine)["backup/shop-full"]
    machine.run("schedule", "remove", "shop-full")
    text = (ROOT / "prefect.yaml").read_text()
    example = re.sub(r"^  # ?", "  ", text[text.index("  # - <<: *schedule") :], flags=re.MULTILINE)
    (tmp_path / "own.yaml").write_text(text[: text.index("  # - <<: *schedule")] + example)
    deploy(machine, "--prefect-file", str(tmp_path / "own.yaml"))
    assert deployments(machine)["backup/shop-full"] == made
    assert [one["name"] for one in machine.json("schedule", "list")] == ["shop-full"]
    machine.run("schedule", "remove", "shop-full")


@pytest.mark.fault("K13")
def test_a_worker_that_is_asked_to_end_waits_for_its_runs_and_one_that_is_asked_twice_ends_them(
    machine: Machine,
) -> None:
    place = machine.home.parent
    machine.run("schedule", "add", "shop", *_EXAMPLE, "--name", "nightly")  # one at a time: a slot to be freed
    (place / "hold").touch()
    with worker(machine, "first") as process:
        run = begin(machine, "backup/nightly")
        until((place / "begun").exists)
        ask_to_end(process, machine, "runs go on")
        other = begin(machine, "backup/on-demand", app="shop")
        (place / "hold").unlink()
        assert process.wait(timeout=TIMEOUT) == 0, said(machine)
    assert state(machine, run) == "Completed"
    assert state(machine, other) in ("Scheduled", "Late"), "a worker that is to end begins nothing"
    with client(machine) as prefect:
        prefect.delete_flow_run(other)

    (place / "begun").unlink()
    (place / "hold").touch()
    with mail_server() as inbox:
        mail = ("--host", "127.0.0.1", "--port", str(inbox.port), "--security", "none")
        machine.run("notify", "add", "email", "ops", *mail, "--sender", "a@example.org", "--to", "ops@example.org")
        with worker(machine, "second") as process:
            run = begin(machine, "backup/nightly")
            until((place / "begun").exists)
            ask_to_end(process, machine, "runs go on")
            ask_to_end(process, machine, "Interrupting 1 runs")
            assert process.wait(timeout=TIMEOUT) == 0, said(machine)
        assert state(machine, run) == "Crashed"
        assert inbox.mails(2, seconds=TIMEOUT)[1]["Subject"].startswith("backup crashed: shop")
    (place / "hold").unlink()
    with worker(machine, "third"):
        assert ended(machine, begin(machine, "backup/nightly")) == "Completed", "its slot was freed"
    assert len(machine.json("list", "shop", "--from", str(place / "disk"))) == 2
