"""The real ``backups worker``, and what a Prefect server says of its runs."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient

from tests.peers.command import TIMEOUT, Machine


@contextmanager
def worker(machine: Machine, name: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that has come to life; its output goes to ``output`` in the machine's home. Killed at the end."""
    process = machine.start("worker", "--name", name, *options)
    try:
        until(lambda: f"Worker '{name}' started" in said(machine) or process.poll() is not None)
        assert process.poll() is None, said(machine)
        yield process
    finally:
        process.kill()
        process.wait()


def said(machine: Machine) -> str:
    """What its commands that run beside the test have printed."""
    return (machine.home / "output").read_text(errors="replace")


def begin(machine: Machine, deployment: str, **parameters: Any) -> UUID:
    """Have Prefect run it as soon as a worker can; the id of the flow run."""
    with client(machine) as prefect:
        found = prefect.read_deployment_by_name(deployment)
        return prefect.create_flow_run_from_deployment(found.id, parameters=parameters).id


def state(machine: Machine, run: UUID) -> str:
    """The name of the run's state."""
    with client(machine) as prefect:
        found = prefect.read_flow_run(run).state
    return found.name if found and found.name else ""


def ended(machine: Machine, run: UUID, seconds: float = TIMEOUT) -> str:
    """How the run ended, once it has."""

    def is_final() -> bool:
        with client(machine) as prefect:
            found = prefect.read_flow_run(run).state
        return found is not None and found.is_final()

    until(is_final, seconds)
    return state(machine, run)


def client(machine: Machine) -> SyncPrefectClient:
    """Of the server that the machine knows; it asks again where a busy server says so."""
    assert machine.api_url is not None
    return SyncPrefectClient(machine.api_url, auth_string=machine.extra.get("PREFECT_API_AUTH_STRING"))


def until(holds: Callable[[], object], seconds: float = TIMEOUT) -> None:
    """Wait until *holds* does, with a generous bound."""
    tick = threading.Event()
    for _ in range(int(seconds / 0.1)):
        if holds():
            return
        tick.wait(0.1)
    assert holds()


def ask_to_end(process: subprocess.Popen[bytes], machine: Machine, answer: str) -> None:
    """Send SIGTERM, and wait until it says *answer* once more."""
    before = said(machine).count(answer)
    process.send_signal(signal.SIGTERM)
    until(lambda: said(machine).count(answer) > before or process.poll() is not None)
    assert said(machine).count(answer) > before, said(machine)
