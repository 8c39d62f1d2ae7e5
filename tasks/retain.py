"""Retain: delete what newer verified backups replace; in a run never without a commit at that destination before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

import httpx
from prefect import task
from prefect.exceptions import PrefectException

from tasks.bound import locks_of, refuse_too_many
from tasks.garbage import Collected, Garbage
from tasks.keepers import Policies, policies_of
from tasks.log import run_log
from tasks.policy import STEP
from tasks.run import Run
from tasks.seen import Spot, recall, recall_removed, remember
from vault.catalog import Catalog, History
from vault.errors import AccessDenied, KeptByLock, RetentionRefused
from vault.milestone import milestone
from vault.plan import MAX_DELETES, Keeper, Plan, make_plan
from vault.record import BackupId, BackupRecord, BackupType
from vault.retention import RetentionPolicy
from vault.sizes import Small, small_ones, suspiciously_small

T = TypeVar("T")


@dataclass(frozen=True)
class Judged:
    """What the policies say of the backups of one app and type at one destination, and what was done of it.

    *left* are those that stay although no policy keeps them, and why: what the destination does not let go, and what is
    more than *most*, so many as go at once. *refused* is why a run would delete nothing, where one has only looked.
    """

    destination: str
    type: BackupType
    plan: Plan
    records: dict[BackupId, BackupRecord]
    most: int | None = None
    dropped: tuple[BackupId, ...] = ()
    left: dict[BackupId, str] = field(default_factory=dict)
    refused: str = ""

    @property
    def go(self) -> frozenset[BackupId]:
        """Those that go, or would."""
        return frozenset(self.plan.drop).difference(self.left)

    def rows(self) -> Iterator[dict[str, Any]]:
        """For a table, newest first: a reason for each."""
        go = self.go
        for backup_id in sorted(self.records, reverse=True):
            yield {
                "destination": self.destination,
                "backup": str(backup_id),
                "size": self.records[backup_id].size,
                "stays": backup_id not in go,
                "why": self.left.get(backup_id) or self.plan.reason(backup_id),
            }


@dataclass(frozen=True)
class Retained:
    """What was judged, where there is a policy; and what a person should know."""

    judged: Judged | None = None
    warnings: tuple[str, ...] = ()
    small: tuple[Small, ...] = ()
    """What is suspicious about the new backup, where no policy would refuse because of it."""
    garbage: Collected | None = None


def others_of(run: Run) -> Policies | RetentionRefused | None:
    """What the schedules of the run's app keep, asked for once for all destinations, or why that is not known.

    None where the run has no policy itself, so that it deletes nothing.
    """
    if run.saved is None or (run.keep is None and not run.keep_at):
        return None
    try:
        return policies_of(run.app, run.saved)
    except RetentionRefused as error:
        return error


def apply_retention(run: Run, destination: str, others: Policies | RetentionRefused | None) -> Retained:
    """Delete what newer verified backups replace and no policy keeps, neither the run's nor *others*; then garbage.

    Raises ``RetentionRefused`` before anything is deleted when anything looks odd. Without a policy of the run's own
    only what is suspicious about the new backup is said, and garbage goes where retention would not refuse.
    """
    now = datetime.now(UTC)
    store, own = run.destinations[destination], run.committed[destination]
    catalog = Catalog(store, run.app, run.keyring.trust)
    history = catalog.history()
    garbage = Garbage(catalog, history, run.id.type, destination)
    keep = run.keep_at.get(destination, run.keep)
    deletes = keep is not None and others is not None
    small = () if deletes else tuple(small_ones(history, run.id.type, now))
    warnings = tuple(map(str, small))
    try:
        if run.id not in {record.backup_id for record in history.records}:
            raise RetentionRefused(f"{destination} does not list the backup that was committed just now")
        keepers = _keepers(others, destination, run.id.type, keep) if deletes else ()
        judged = judge(catalog, history, keepers, run.id.type, destination, now=now, clock=own.clock)
    except RetentionRefused as refused:
        held = garbage.hold(refused.message)
        if deletes:
            raise
        return Retained(None, warnings, small, held)
    done = carry_out(catalog, judged) if deletes else None
    collected = garbage.collect(now, own.clock)
    if collected.trouble:
        warnings += (f"garbage at {destination}: {collected.trouble}",)
    return Retained(done, warnings, small, collected)


def _keepers(
    others: Policies | RetentionRefused | None, destination: str, kind: BackupType, keep: RetentionPolicy | None
) -> tuple[Keeper, ...]:
    if isinstance(others, RetentionRefused):
        raise others
    return others.at(destination, kind, keep) if others else ()


def judge(
    catalog: Catalog,
    history: History,
    keepers: Sequence[Keeper],
    backup_type: BackupType,
    destination: str,
    *,
    now: datetime,
    clock: datetime | None,
    max_deletes: int | None = MAX_DELETES,
    accept_missing: bool = False,
    only_look: bool = False,
) -> Judged:
    """What *keepers* say of the backups of that type in *history*. Raises ``RetentionRefused`` when anything looks odd.

    *clock* as in ``make_plan``. *max_deletes* bounds one run, None is no bound; with *only_look* more than that is no
    refusal, and is told. With *accept_missing* what was there the last time does not count.
    """
    spot = Spot(catalog.app, backup_type, destination, catalog.store.location)
    records = {record.backup_id: record for record in history.records if record.type == backup_type}
    _refuse_untrusted(history)
    _refuse_small(history, backup_type)
    seen = _asked(lambda: recall(spot))
    plan = make_plan(
        keepers,
        [*records],
        now,
        damaged=[damaged.key for damaged in history.damaged],
        pinned=history.pinned,
        sources={found: _set_of(tuple([a.source for a in record.artifacts])) for found, record in records.items()},
        seen=() if accept_missing else _asked(lambda: _not_removed(spot, seen.ids, records)),
        destination_clock=clock,
    )
    judged = Judged(destination, backup_type, plan, records, max_deletes, left=locks_of(catalog, plan.drop, now))
    if max_deletes is not None:
        try:
            _asked(lambda: refuse_too_many(spot, seen, judged.go, max_deletes))
        except RetentionRefused as error:
            if not only_look:
                raise
            return replace(judged, refused=f"{error.message}. {error.remedy.rpartition(chr(10))[2]}")
    return judged


@cache  # one for all backups that have the same: a hundred thousand of them take their time
def _set_of(sources: tuple[str, ...]) -> frozenset[str]:
    return frozenset(sources)


def carry_out(catalog: Catalog, judged: Judged) -> Judged:
    """Delete what the plan drops, the oldest first. What a lock keeps, or what we may not delete, stays (D16)."""
    dropped: list[BackupId] = []
    left, denied, go = dict(judged.left), False, judged.go
    for backup_id in filter(go.__contains__, judged.plan.drop):
        if judged.most is not None and len(dropped) >= judged.most:
            left[backup_id] = f"goes with one of the next runs: {judged.most} at once"
            continue
        try:
            catalog.remove(backup_id)
        except KeptByLock as error:
            left[backup_id] = f"kept by a lock: {error.message}"
        except AccessDenied as error:  # the account may only add: asking for each one would change nothing
            rest = go.difference(dropped, left)
            left |= dict.fromkeys(rest, f"may not be deleted: {error.message}")
            denied = True
            break
        else:
            dropped.append(backup_id)
            milestone("retain:removed")
    if left:
        run_log().info("%d old backups at %s could not be deleted: see the table", len(left), judged.destination)
    done = replace(judged, dropped=tuple(dropped), left=left)
    _remember(catalog, done, denied)
    return done


def _small(history: History, backup_type: BackupType) -> list[Small]:
    return suspiciously_small((r for r in history.records if r.type == backup_type), history.confirmed)


def _refuse_small(history: History, backup_type: BackupType) -> None:
    small = _small(history, backup_type)
    if small:
        newest = small[0].backup_id
        raise RetentionRefused(
            f"nothing is deleted: {'; '.join(map(str, small))}",
            f"Look at what is in it: backups show {newest}. If that is right, say so: backups confirm {newest}",
        )


def _refuse_untrusted(history: History) -> None:
    for damaged in history.damaged:
        if damaged.status == "untrusted":
            raise RetentionRefused(f"nothing was deleted: {damaged.error.message}", damaged.error.remedy)


def _not_removed(spot: Spot, seen: frozenset[BackupId], there: Collection[BackupId]) -> frozenset[BackupId]:
    """*seen*, without what somebody has removed on purpose since; asked for only where something is not there."""
    return seen - recall_removed(spot) if seen.difference(there) else seen


def _asked(ask: Callable[[], T]) -> T:
    """What Prefect says of the last time; ``RetentionRefused`` where it does not answer."""
    try:
        return ask()
    except (PrefectException, httpx.HTTPError) as error:
        raise RetentionRefused(
            f"nothing is deleted: Prefect does not say what was there the last time ({error})"
        ) from None


def _remember(catalog: Catalog, done: Judged, denied: bool) -> None:
    spot = Spot(catalog.app, done.type, done.destination, catalog.store.location)
    try:
        remember(spot, set(done.records).difference(done.dropped), denied, done.left)
    except (PrefectException, httpx.HTTPError) as error:
        run_log().warning("Prefect could not be told what is left at %s: %s", done.destination, error)


@task(name="retain", task_run_name="retain at {destination}", **STEP)
def retain(run: Run, destination: str, others: Policies | RetentionRefused | None) -> Retained:
    """See ``apply_retention``."""
    return apply_retention(run, destination, others)
