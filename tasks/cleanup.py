"""Cleanup: whatever happened, leave nothing behind but committed backups."""

from __future__ import annotations

from prefect import task

from tasks.log import run_log
from tasks.policy import ONCE
from tasks.run import Run
from vault.catalog import Catalog
from vault.errors import BackupError
from vault.milestone import milestone


def clean_up(run: Run) -> list[str]:
    """Remove the run's directory, and its artifacts where no record was written. Returns what could not be.

    Idempotent. It never raises: what it leaves is invisible, and goes when it is a day old (``tasks.retain``).
    """
    problems: list[str] = []
    milestone("cleanup:begun")
    for name in set(run.destinations) - set(run.committed) - run.committing:
        try:
            if run.begun:  # a record whose commit only seemed to fail goes first (law 3)
                Catalog(run.destinations[name], run.app, run.keyring.trust).remove(run.id)
        except BackupError as error:
            problems.append(f"parts of {run.id} may be left at {name}: {error.message}")
    try:
        run.close()
    except BackupError as error:
        problems.append(error.message)
    for problem in problems:
        run_log().warning("%s", problem)
    return problems


@task(name="cleanup", **ONCE)
def cleanup(run: Run) -> list[str]:
    """See ``clean_up``."""
    return clean_up(run)
