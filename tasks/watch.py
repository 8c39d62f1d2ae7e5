"""Watch: whether each schedule has left, where it should, the backup that was due. It reads the destinations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from tasks.newest import Newest, newest_of
from tasks.schedules import GRACE, Schedule
from tasks.schedules import found as schedules
from vault.errors import BackupError
from vault.record import BackupRecord, utc
from vault.units import age, human

_EARLY = timedelta(minutes=1)  # so much may clocks differ


@dataclass(frozen=True)
class Watched:
    """What a destination holds of a schedule. *problem* is empty where that is as it should be."""

    schedule: str
    app: str
    destination: str
    newest: str = ""
    due: str = ""
    problem: str = ""
    record: BackupRecord | None = None
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        """For ``--json``, and for Prefect's table."""
        return {name: value or None for name, value in vars(self).items() if name != "record"}

    def cells(self) -> tuple[str, ...]:
        """For a table."""
        own = (self.schedule, self.app, self.destination, self.newest, self.due, self.problem)
        return tuple(value or "-" for value in own)


def look(now: datetime, grace: timedelta = GRACE, whole: bool = False) -> list[Watched]:
    """Every active schedule at each of its destinations. What cannot be read is a problem too, never an error.

    With *whole*, also whether the newest backup is suspiciously small: that takes all records there.
    """
    watched: list[Watched] = []
    for schedule in schedules(late=False):
        if schedule.active:
            try:
                watched += _watched(schedule, now, grace, whole)
            except BackupError as error:
                watched.append(Watched(schedule.name, schedule.app, "", problem=error.message))
    return watched


def paused() -> list[str]:
    """A sentence for each schedule that is paused, or of which a time is."""
    return [schedule.paused for schedule in schedules(late=False) if schedule.paused]


def lines(watched: list[Watched], now: datetime) -> list[str]:
    """A line for each app: its newest backups, their age and size, where they lie, and how that was verified."""
    apps = groupby(sorted(watched, key=lambda one: one.app), lambda one: one.app)
    return [f"{app}: {'; '.join(_told([*those], now))}" for app, those in apps]


def _told(watched: list[Watched], now: datetime) -> Iterator[str]:
    by_id = sorted((one for one in watched if one.record), key=lambda one: one.newest, reverse=True)
    for newest, those in groupby(by_id, lambda one: one.newest):
        places = {one.destination: one.record for one in those}
        record = next(filter(None, places.values()))
        where = ", ".join(f"{name} ({there.verified})" for name, there in places.items() if there)
        yield f"{newest}, {age(now - record.backup_id.created_at)} old, {human(record.size)}, at {where}"
    yield from dict.fromkeys(f"PROBLEM at {one.destination or 'all'}: {one.problem}" for one in watched if one.problem)


def _watched(schedule: Schedule, now: datetime, grace: timedelta, whole: bool) -> list[Watched]:
    _, found = newest_of(schedule.app, schedule.parameters.get("type"), schedule.destinations, now, whole)
    if not found:
        return [Watched(schedule.name, schedule.app, "", problem="it has no destination")]
    due = schedule.due(now - schedule.grace(grace))
    return [
        Watched(
            schedule.name,
            schedule.app,
            newest.destination,
            newest.record.id if newest.record else "",
            utc(due) if due else "",
            "; ".join(_problems(newest, due)),
            newest.record,
            " ".join(newest.remedies),
        )
        for newest in found
    ]


def _problems(newest: Newest, due: datetime | None) -> Iterator[str]:
    if newest.error:
        yield newest.error.message
    elif due and not (newest.record and newest.record.backup_id.created_at >= due - _EARLY):
        what = "the newest valid backup is older" if newest.record else "no valid backup is there"
        yield f"{what}: one was due at {utc(due)}"
    yield from newest.passed_over
    yield from map(str, newest.small)
