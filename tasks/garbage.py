"""Garbage: what dead runs left at a destination goes, after retention has judged that nothing there looks odd."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import httpx
from prefect.exceptions import PrefectException

from blocks.destinations.base import Destination
from tasks.living import Living, living_runs
from tasks.log import run_log
from tasks.seen import Spot, recall_orphans, remember_orphans
from vault.catalog import Catalog, History
from vault.errors import AccessDenied, BackupError, KeptByLock, NotFound, RetentionRefused
from vault.garbage import GRACE, Orphan, Verdict, grouped, judge
from vault.plan import MAX_DELETES
from vault.record import BackupId, BackupType, record_key


class _NotAsked(BackupError):
    """Prefect does not say what was seen, or which runs still go on."""


@dataclass(frozen=True)
class Collected:
    """What was found at a destination without a record, and what was done of it. *kept*: why one that may go did not.

    *trouble* is what went wrong, or looked odd, while it was removed; else it is empty.
    """

    destination: str
    verdicts: tuple[Verdict, ...] = ()
    removed: frozenset[BackupId] = frozenset()
    kept: dict[BackupId, str] = field(default_factory=dict)
    trouble: str = ""

    @property
    def going(self) -> int:
        """How many may go."""
        return sum(verdict.goes for verdict in self.verdicts)

    def rows(self) -> Iterator[dict[str, Any]]:
        """For a table, newest first, as those of ``tasks.retain.Judged``."""
        for verdict in reversed(self.verdicts):
            found = verdict.orphan.backup_id
            yield {
                "destination": self.destination,
                "backup": str(found),
                "size": verdict.orphan.size,
                "stays": not verdict.goes or found in self.kept,
                "why": self.kept.get(found) or verdict.why,
            }


@dataclass(frozen=True)
class Garbage:
    """What has no record among the backups of one type in *history*, at the destination that is named."""

    catalog: Catalog
    history: History
    type: BackupType
    destination: str

    @cached_property
    def orphans(self) -> tuple[Orphan, ...]:
        """Of that type, by backup."""
        return tuple(one for one in grouped(self.history.orphans) if one.backup_id.type == self.type)

    def hold(self, why: str, *, forget: bool = True) -> Collected:
        """Nothing goes, because of *why*; with *forget* the grace begins anew afterwards."""
        if forget:
            self._note({})
        held = f"no record; nothing is removed: {why}"
        return Collected(self.destination, tuple(Verdict(orphan, held) for orphan in self.orphans))

    def look(self, now: datetime, most: int | None = MAX_DELETES) -> Collected:
        """What ``collect`` would do; nothing is removed or remembered."""
        try:
            return Collected(self.destination, self._judged((now, now), _living(), self._before(), most))
        except _NotAsked as error:
            return self._unasked(error)

    def collect(self, now: datetime, clock: datetime, most: int | None = MAX_DELETES) -> Collected:
        """Remove unfinished uploads, and what has had no record for 24 hours by both clocks, *now* and *clock* there.

        Whoever calls this says that retention has judged *history*, and that nothing looked odd.
        """
        clocks = min(now, clock), max(now, clock)
        try:
            living, before = _living(), self._before()
            verdicts = self._judged(clocks, living, before, most)
        except _NotAsked as error:
            return self._unasked(error)
        removed, kept, trouble = set[BackupId](), dict[BackupId, str](), ""
        going, said = [verdict.orphan for verdict in verdicts if verdict.goes], ""
        try:
            self._clean(clocks[0], living)
            for orphan in going:
                self._remove(orphan, removed, kept)
        except AccessDenied as error:  # the account may only add: asking for each one would change nothing
            said = f"no record; may not be removed: {error.message}"
        except BackupError as error:
            trouble = error.message
            said = f"no record; nothing more was removed: {trouble}"
        kept |= {one.backup_id: said for one in going if one.backup_id not in removed | kept.keys()}
        since = {verdict.orphan.backup_id: verdict.since for verdict in verdicts if verdict.since and not trouble}
        self._note({found: first for found, first in since.items() if found not in removed}, before)
        return Collected(self.destination, verdicts, frozenset(removed), kept, trouble)

    def _judged(
        self,
        clocks: tuple[datetime, datetime],
        living: tuple[Living, ...],
        before: dict[BackupId, datetime] | None,
        most: int | None,
    ) -> tuple[Verdict, ...]:
        def owner(backup_id: BackupId) -> str:
            return next((run.name for run in living if run.may_own(self.catalog.app, backup_id)), "")

        return judge(self.orphans, before or {}, clocks, owner, most)

    def _clean(self, now: datetime, living: tuple[Living, ...]) -> None:
        """What nobody has written to for a day may still be that of a run which is older than that."""
        if not any(run.since < now - GRACE for run in living):
            for name in self._store.clean(now):
                run_log().info("removed %s, an unfinished upload", name)

    def _remove(self, orphan: Orphan, removed: set[BackupId], kept: dict[BackupId, str]) -> None:
        """Each object, after the destination was asked for the record itself: its listing may have missed it (T14)."""
        for stored in orphan.objects:
            self._refuse_recorded(orphan.backup_id)
            try:
                self._store.remove(stored.key)
            except KeptByLock as error:
                kept[orphan.backup_id] = f"no record; kept by a lock: {error.message}"
                return
            run_log().info("removed %s, %d bytes: it had no record", stored.key, stored.size)
        removed.add(orphan.backup_id)

    def _refuse_recorded(self, backup_id: BackupId) -> None:
        key = record_key(self.catalog.app, backup_id)
        try:
            self._store.stat(key)
        except NotFound:
            return
        raise RetentionRefused(f"{self._store.location} has {key}, which it did not list: its listing is not whole")

    def _unasked(self, error: _NotAsked) -> Collected:
        said = f"no record; nothing is removed: {error.message}"
        return Collected(self.destination, tuple(Verdict(orphan, said) for orphan in self.orphans))

    def _recall(self) -> dict[BackupId, datetime]:
        with _asking():
            return recall_orphans(self._spot)

    def _before(self) -> dict[BackupId, datetime] | None:
        """What is remembered of the orphans; None, and not asked for, where there are none."""
        return self._recall() if self.orphans else None

    def _note(self, since: dict[BackupId, datetime], before: dict[BackupId, datetime] | None = None) -> None:
        """Remember *since*, in place of *before* (None: whatever that is).

        Where that fails the grace begins anew, or is that of what is no orphan any more.
        """
        try:
            if since != (self._recall() if before is None else before):
                with _asking():
                    remember_orphans(self._spot, since)
        except _NotAsked as error:
            run_log().warning("%s", error.message)

    @property
    def _spot(self) -> Spot:
        return Spot(self.catalog.app, self.type, self.destination, self._store.location)

    @property
    def _store(self) -> Destination:
        store = self.catalog.store
        if not isinstance(store, Destination):
            raise AssertionError("garbage is collected at destinations")
        return store


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except (PrefectException, httpx.HTTPError) as error:
        raise _NotAsked(f"Prefect does not say what was seen and which runs go on ({error})") from None


def _living() -> tuple[Living, ...]:
    with _asking():
        return living_runs()
