"""The flow ``test-destination``: the check of ``backups destination test``, from Prefect's UI, with its steps kept."""

from __future__ import annotations

import re
import time

from prefect import flow
from prefect.artifacts import TableArtifact

from blocks.destinations import Place, destination_from
from blocks.destinations.probe import Step, failure, probe
from blocks.loading import block_name
from flows.report import best_effort
from vault.errors import BackupError

KEY = "test-"
"""How the keys of its artifacts begin."""


@flow(name="test-destination", flow_run_name="test {destination}", persist_result=False)
def check_destination(destination: Place) -> None:
    """Test a destination: really write, list, read back, compare and delete a probe.

    Args:
        destination: A saved destination, by its name or as block-type-slug/name; or a path.
    """
    began = time.monotonic()
    try:
        door = destination_from(destination)
    except BackupError as error:  # Prefect's UI saves blocks without a look at them: here is where they are read
        _publish(destination, destination, (Step("load", time.monotonic() - began, error),))
        raise
    steps = probe(door)
    _publish(destination, door.location, steps)
    problem = failure(steps)
    if problem is not None:
        raise problem


def key_of(destination: str) -> str:
    """The key of the artifact that has the last test of a destination, by its name, reference or path."""
    return KEY + re.sub(r"[^a-z0-9]+", "-", block_name(destination).lower()).strip("-")


def report(destination: str, location: str, steps: tuple[Step, ...]) -> TableArtifact:
    """The table artifact: a row for each step, with the remedy where it failed."""
    result = "failed" if failure(steps) else "works"
    return TableArtifact(
        key=key_of(destination), table=[step.as_row() for step in steps], description=f"{location}: {result}"
    )


def _publish(destination: str, location: str, steps: tuple[Step, ...]) -> None:
    best_effort(lambda: report(destination, location, steps).create())
