"""Retain: delete what newer verified backups replace; never without a commit at that destination before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from prefect import task

from tasks.policy import STEP
from tasks.run import Run
from vault.catalog import Catalog
from vault.errors import RetentionRefused
from vault.milestone import milestone
from vault.record import BackupId
from vault.retention import RetentionPolicy


@dataclass(frozen=True)
class Retained:
    """What stays and what went, by id; each with its reasons."""

    kept: dict[str, tuple[str, ...]]
    dropped: tuple[str, ...]


def apply_retention(run: Run, destination: str, keep_last: int, clock: datetime) -> Retained:
    """Raises ``RetentionRefused`` before anything is deleted when anything looks odd.

    *clock* is the time that the destination gave the record which was committed just now.
    """
    catalog = Catalog(run.destinations[destination], run.app, run.keyring.trust)
    history = catalog.history()
    same_type = [record.backup_id for record in history.records if record.type == run.id.type]
    if run.id not in same_type:
        raise RetentionRefused(f"{destination} does not list the backup that was committed just now")
    plan = RetentionPolicy(keep_last=keep_last).plan(
        same_type,
        datetime.now(UTC),
        damaged=[damaged.key for damaged in history.damaged],
        destination_clock=clock,
    )
    for dropped in plan.drop:
        catalog.remove(dropped)
        milestone("retain:removed")
    return Retained(_texts(plan.keep), tuple(map(str, plan.drop)))


def _texts(kept: dict[BackupId, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {str(backup_id): reasons for backup_id, reasons in kept.items()}


@task(name="retain", task_run_name="retain at {destination}", **STEP)
def retain(run: Run, destination: str, keep_last: int, clock: datetime) -> Retained:
    """See ``apply_retention``."""
    return apply_retention(run, destination, keep_last, clock)
