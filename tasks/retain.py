"""Retain: delete what newer verified backups replace; never without a commit at that destination before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from prefect import task

from blocks.destinations.base import Destination
from tasks.policy import STEP
from tasks.run import Run
from vault.catalog import Catalog, History
from vault.errors import RetentionRefused
from vault.milestone import milestone
from vault.record import BackupId, BackupRecord, backup_of
from vault.retention import MAX_DELETES, RetentionPolicy

ORPHAN_GRACE = timedelta(hours=24)


@dataclass(frozen=True)
class Retained:
    """What went, by id, and what a person should know."""

    dropped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def apply_retention(run: Run, destination: str, keep_last: int | None) -> Retained:
    """Delete what the policy and newer verified backups let go, at most ``MAX_DELETES`` a run, and old garbage.

    Raises ``RetentionRefused`` before anything is deleted when anything looks odd.
    """
    now = datetime.now(UTC)
    store, own = run.destinations[destination], run.committed[destination]
    catalog = Catalog(store, run.app, run.keyring.trust)
    history = catalog.history()
    remove_garbage(store, history, min(now, own.clock))
    if keep_last is None:
        return Retained()
    records = {record.backup_id: record for record in history.records if record.type == run.id.type}
    if run.id not in records:
        raise RetentionRefused(f"{destination} does not list the backup that was committed just now")
    _refuse_untrusted(history)
    plan = RetentionPolicy(keep_last=keep_last).plan(
        [*records],
        now,
        damaged=[damaged.key for damaged in history.damaged],
        destination_clock=own.clock,
        max_deletes=None,
    )
    covered = [dropped for dropped in plan.drop if _is_covered(records[dropped], records, plan.keep)]
    for dropped in covered[:MAX_DELETES]:
        catalog.remove(dropped)
        milestone("retain:removed")
    return Retained(tuple(map(str, covered[:MAX_DELETES])), _warnings(destination, len(covered)))


def remove_garbage(store: Destination, history: History, now: datetime) -> None:
    """Unfinished uploads, and artifacts without a record, of runs that began more than 24 hours before *now*.

    *now* is the earlier of our clock and the destination's: one that is ahead would make the living look old (D07,
    D10, Z02).
    """
    store.clean(now)
    for orphan in history.orphans:
        backup_id = backup_of(orphan.key)
        if backup_id and max(backup_id.created_at, orphan.modified) < now - ORPHAN_GRACE:
            store.remove(orphan.key)


def _is_covered(old: BackupRecord, records: dict[BackupId, BackupRecord], kept: Iterable[BackupId]) -> bool:
    """Whether a newer backup that stays has every source that *old* has."""
    sources = {artifact.source for artifact in old.artifacts}
    return any(
        backup_id > old.backup_id and sources <= {artifact.source for artifact in records[backup_id].artifacts}
        for backup_id in kept
    )


def _refuse_untrusted(history: History) -> None:
    for damaged in history.damaged:
        if damaged.status == "untrusted":
            raise RetentionRefused(f"nothing was deleted: {damaged.error.message}", damaged.error.remedy)


def _warnings(destination: str, count: int) -> tuple[str, ...]:
    left = count - MAX_DELETES
    return (f"{left} more old backups at {destination} go with the next runs, {MAX_DELETES} a run",) if left > 0 else ()


@task(name="retain", task_run_name="retain at {destination}", **STEP)
def retain(run: Run, destination: str, keep_last: int | None) -> Retained:
    """See ``apply_retention``."""
    return apply_retention(run, destination, keep_last)
