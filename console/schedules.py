"""Schedules: shown with their next runs, added, changed, paused and removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from blocks.app import APP_SLUG, App, load_destinations
from blocks.destinations import DESTINATIONS
from blocks.loading import block_name, find, load
from blocks.ping import PING_SLUG, Ping
from console.apps import app_ref
from console.etags import etag, refuse_stale
from console.fields import confirmed, in_field, wrong
from console.models.schedules import AddSchedule, ChangeSchedule, NextRuns, Schedule
from console.problems import Problem, not_found
from console.status import SCHEDULES
from console.words import words
from deployments import POOL
from deployments import schedules as kept
from deployments.saved import Taken
from tasks.schedules import Schedule as Kept
from tasks.schedules import When, deployment, found, one
from vault.record import utc
from vault.retention import RetentionPolicy, zone
from vault.store import check_name

_SHOWN = 5  # next times
_HELD = ("cron", "timezone", "active")
"""What a schedule always has."""


def list_schedules(app: str | None = None) -> list[Schedule]:
    """Every schedule, or those of *app*, by name; ``Problem`` 404 where there is no such app."""
    if app is not None:
        app_ref(app)
    now = datetime.now(UTC)
    return [_shown(schedule, now) for schedule in found(app=app)]


def get_schedule(name: str) -> Schedule:
    """The schedule *name*; ``Problem`` 404 where there is none."""
    return _shown(_kept(name), datetime.now(UTC))


def add_schedule(app: str, given: AddSchedule) -> Schedule:
    """Have an app backed up by itself. ``Problem`` 422 names the field that does not fit; 409: the name is taken."""
    app_ref(app)
    when = _when(given.cron, given.timezone)
    parameters = kept.parameters({"app": app}, _changes(given, when.timezone))
    name = given.name or f"{app}-{given.type or 'backup'}"
    with in_field("name"):
        check_name(name, "schedule")
    with in_field("grace_hours"):
        schedule = Kept(name, (when,), parameters, active=given.active, grace_hours=given.grace_hours)
    _check(schedule)
    try:
        kept.add(schedule, POOL)
    except Taken as error:
        remedy = f"Change it: PUT /api/backup-schedules/{name}; or give another name."
        raise Problem(HTTPStatus.CONFLICT, error.message, remedy) from None
    SCHEDULES.changed()
    return get_schedule(name)


def change_schedule(name: str, given: ChangeSchedule, if_match: str | None = None) -> Schedule:
    """Change what was sent; null takes it away. ``Problem`` 412 where *if_match* is outdated."""
    old = _kept(name)
    refuse_stale(if_match, _etag(old))
    sent = given.model_fields_set
    for field in _HELD:
        if field in sent and getattr(given, field) is None:
            raise wrong(field, "a schedule cannot be without")
    if not sent:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "nothing is to be changed", "Send what is to be changed.")
    if sent == {"active"}:
        kept.pause(name, paused=not given.active)
    else:
        _change(old, given)
    SCHEDULES.changed()
    return get_schedule(name)


def remove_schedule(name: str, confirm: str | None) -> None:
    """Have Prefect forget it. No backup is touched."""
    _kept(name)
    confirmed(name, confirm)
    kept.remove(name)
    SCHEDULES.changed()


def next_runs(cron: str, timezone: str) -> NextRuns:
    """What *cron* means in *timezone*: in words, and the next five times. ``Problem`` 422 names which is wrong."""
    when = _when(cron, timezone)
    times = when.next(_SHOWN, datetime.now(UTC))
    return NextRuns(words=words(cron), local=[time.isoformat() for time in times], utc=[utc(time) for time in times])


def _change(old: Kept, given: ChangeSchedule) -> None:
    if len(old.when) != 1 or not isinstance(old.when[0], When):
        raise Problem(
            HTTPStatus.CONFLICT,
            f"schedule {old.name} has other times than one cron expression",
            "Change it where it was made, such as Prefect's UI; here it can be paused, resumed and removed.",
        )
    at, sent = old.when[0], given.model_fields_set
    when = _when(given.cron or at.cron, given.timezone or at.timezone)
    before = _moved({name: value for name, value in old.parameters.items() if name not in sent}, at, when)
    grace = given.grace_hours if "grace_hours" in sent else old.grace_hours
    active = old.active if given.active is None else given.active
    with in_field("grace_hours"):
        parameters = kept.parameters(before, _changes(given, when.timezone))
        schedule = replace(old, when=(when,), parameters=parameters, grace_hours=grace, active=active)
    _check(schedule)
    kept.change(schedule)


def _changes(given: AddSchedule | ChangeSchedule, timezone: str) -> dict[str, Any]:
    """The parameters of the flow that were sent."""
    with in_field("destinations"):
        to = [find(name, DESTINATIONS, "destination") for name in given.destinations or []]
    return {
        "type": given.type,
        "destinations": to or None,
        "keep": _counted(given.keep, timezone).spelled() if given.keep else None,
        "keep_at": {name: _counted(keep, timezone).spelled() for name, keep in (given.keep_at or {}).items()} or None,
        "ping": given.ping,
    }


def _counted(keep: RetentionPolicy, timezone: str) -> RetentionPolicy:
    """Days count in the schedule's time zone, where the policy names none."""
    return keep if "timezone" in keep.model_fields_set else keep.model_copy(update={"timezone": timezone})


def _moved(parameters: Mapping[str, Any], at: When, to: When) -> dict[str, Any]:
    """Policies that counted in the time zone of the schedule move with it."""

    def moved(rules: dict[str, Any]) -> dict[str, Any]:
        return {**rules, "timezone": to.timezone} if rules.get("timezone", "UTC") == at.timezone else rules

    keep, keep_at = parameters.get("keep"), parameters.get("keep_at")
    return {
        **parameters,
        **({"keep": moved(keep)} if keep else {}),
        **({"keep_at": {name: moved(rules) for name, rules in keep_at.items()}} if keep_at else {}),
    }


def _check(schedule: Kept) -> None:
    """As ``deployments.schedules.check``, and says which field names what is not there."""
    app = load(f"{APP_SLUG}/{schedule.app}", App)
    with in_field("type"):
        app.load_sources(schedule.parameters.get("type"))
    with in_field("destinations"):
        load_destinations(schedule.destinations or app.destinations)
    if schedule.ping is not None:
        with in_field("ping"):
            load(f"{PING_SLUG}/{schedule.ping}", Ping)
    with in_field("keep_at"):
        kept.check(schedule)


def _when(cron: str, timezone: str) -> When:
    with in_field("timezone"):
        zone(timezone)
    with in_field("cron"):
        return When(cron, timezone)


def _kept(name: str) -> Kept:
    check_name(name, "schedule")
    there = deployment(name)
    if there is None or not there.schedules:
        raise not_found(f"schedule {name}", "See GET /api/backup-schedules.")
    return one(name)


def _shown(schedule: Kept, now: datetime) -> Schedule:
    only = schedule.when[0] if len(schedule.when) == 1 and isinstance(schedule.when[0], When) else None
    document = {**schedule.as_json(now), "destinations": [*map(block_name, schedule.destinations)]}
    return Schedule(
        **document,
        cron=only.cron if only else None,
        timezone=only.timezone if only else None,
        etag=_etag(schedule),
    )


def _etag(schedule: Kept) -> str:
    when = [str(when) for when in schedule.when]
    return etag(str(schedule.id), when, schedule.parameters, schedule.active, schedule.grace_hours)
