"""How all is: app by app the last backup, the next one, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from blocks.destinations import LocalDestination
from blocks.loading import block_name
from console.backups import backup_of
from console.entries import Entry
from console.kept import Kept
from console.listing import LISTING, PATIENCE, Look
from console.models.common import Trouble
from console.models.status import AppStatus, Status
from console.starting import ON_DEMAND, online
from tasks.schedules import FLOW, Schedule
from tasks.schedules import found as schedules
from tasks.seen import HeldSpot, held_spots
from vault.errors import printable
from vault.record import utc

_FRESH, _STALE, _HEALTHY = 15.0, 60.0, 5.0  # seconds
_EARLY = timedelta(minutes=1)  # so much may clocks differ


@dataclass(frozen=True)
class Timed:
    """A schedule, its next time, and the latest one whose backup should be committed by now."""

    schedule: Schedule
    next: datetime | None
    due: datetime | None


def _timed() -> list[Timed]:
    now = datetime.now(UTC)
    return [
        Timed(one, next(iter(one.next(1, now)), None), one.due(now - one.grace())) for one in schedules() if one.app
    ]


def _workers() -> int | None:
    """How many are online that take what is asked for here; None where nothing is registered."""
    with get_client(sync_client=True) as client:
        try:
            pool = client.read_deployment_by_name(f"{FLOW}/{ON_DEMAND}").work_pool_name
            return online(client, pool) if pool else 0
        except ObjectNotFound:
            return None


SCHEDULES = Kept(_timed, _FRESH, _STALE)
"""Whoever changes a schedule says ``SCHEDULES.changed()``."""
WORKERS = Kept(_workers, _FRESH, _STALE)
HELD = Kept(held_spots, _FRESH, _STALE)


def status() -> Status:
    """Every saved app, those in trouble first."""
    look, timed, workers = LISTING.look(), SCHEDULES.get(PATIENCE), WORKERS.get(PATIENCE)
    owing = owed(look, timed.value or [])
    held = HELD.get(PATIENCE).value or []
    apps = [_app(name, look, timed.value or [], owing, held) for name in sorted(look.apps)]
    troubles = list(look.troubles)
    if timed.problem:
        troubles.append(Trouble(name="schedules", detail=timed.problem.detail, remedy=timed.problem.remedy))
    return Status(
        apps=sorted(apps, key=lambda app: not app.problem),
        troubles=troubles,
        workers_online=workers.value,
        as_of=utc(look.as_of),
    )


def is_healthy() -> bool:
    """Whether Prefect's API answers."""
    with get_client(sync_client=True, httpx_settings={"timeout": _HEALTHY}) as client:
        return client.api_healthcheck() is None


def owed(look: Look, timed: list[Timed]) -> dict[tuple[str, str], datetime]:
    """Since when a backup is missing, by app and destination; by the empty name where its run has not begun."""
    owing: dict[tuple[str, str], datetime] = {}

    def note(app: str, destination: str, since: datetime) -> None:
        owing[app, destination] = min(since, owing.get((app, destination), since))

    for one in timed:
        app = one.schedule.app
        if app not in look.apps:
            continue
        if one.schedule.overdue:
            note(app, "", one.schedule.overdue)
        if one.due:
            kind = one.schedule.parameters.get("type") or look.apps[app].type
            newest = _newest(look.backups.by_app.get(app, ()), kind)
            for name in map(block_name, one.schedule.destinations or look.apps[app].destinations):
                if newest.get(name, "") < utc(one.due - _EARLY):
                    note(app, name, one.due)
    return owing


def _newest(entries: list[Entry] | tuple[()], kind: str) -> dict[str, str]:
    """When the newest good backup of that type began, by destination."""
    newest: dict[str, str] = {}
    for entry in entries:
        if entry.type == kind and not entry.from_the_future:
            for copy in entry.committed:
                newest.setdefault(copy.destination, copy.created_at)
    return newest


def _app(
    name: str, look: Look, timed: list[Timed], owing: dict[tuple[str, str], datetime], held: list[HeldSpot]
) -> AppStatus:
    entries = look.backups.by_app.get(name, [])
    stuck = [one for one in held if one.app == name and _newest(entries, one.type).get(one.destination, "") <= one.at]
    last = next((one for one in entries if one.committed and not one.is_live and not one.from_the_future), None)
    bad = next((entry for entry in entries if entry.status in ("failed", "partial")), None)
    times = [one.next for one in timed if one.schedule.app == name and one.next]
    missing = {place: since for (app, place), since in owing.items() if app == name}
    good = last.committed if last else ()
    return AppStatus(
        app=name,
        last_backup=backup_of(last) if last else None,
        next_run_at=utc(min(times)) if times else None,
        overdue_since=utc(min(missing.values())) if missing else None,
        running=any(entry.status == "running" for entry in entries),
        copies=len(good),
        off_site=any(_is_elsewhere(look, copy.destination) for copy in good),
        encrypted=bool(last) and all(copy.encrypted for copy in good),
        last_failure=bad.created_at if bad else None,
        problem="; ".join([*_problems(name, look, entries, missing), *map(_said, stuck)]),
    )


def _is_elsewhere(look: Look, destination: str) -> bool:
    return not look.destinations.get(destination, "").startswith(f"{LocalDestination.get_block_type_slug()}/")


def _said(held: HeldSpot) -> str:
    return (
        f"no old backup of type {held.type} was deleted at {held.destination}: {printable(' '.join(held.why.split()))}"
    )


def _problems(name: str, look: Look, entries: list[Entry], missing: dict[str, datetime]) -> Iterator[str]:
    for place, since in sorted(missing.items()):
        yield f"a backup was due at {utc(since)}" + (f", and {place} has none" if place else ", and has not begun")
    future = [found for entry in entries if (found := entry.from_the_future)]
    yield from (f"{one.message}. {one.remedy}" for one in future[:1])
    passed = [entry for entry in entries[len(future) :] if not entry.is_live and entry.status != "cancelled"]
    ended = next(iter(passed), None)
    if ended is None and not entries:
        yield "there is no backup yet"
    elif ended is None:
        pass  # the first one is on its way
    elif ended.status in ("failed", "partial"):
        yield "the last run failed: " + printable(ended.run.message if ended.run else "")
    elif ended.status == "damaged":
        yield f"backup {ended.id} is damaged at " + ", ".join(
            copy.destination for copy in ended.copies if copy.status != "committed"
        )
    unread = {trouble.name for trouble in look.troubles}
    for place in look.apps[name].destinations:
        if place in unread:
            yield f"{place} cannot be looked at"
        elif place not in look.destinations:
            yield f"its destination {place} is not saved any more"
