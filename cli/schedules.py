"""``backups schedule``: which app is backed up when, where to, and how much of it stays."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App

from cli.api import POOL, prefect_api
from cli.keep import Keep
from cli.output import note, show_json, show_table
from cli.saved import Flag
from cli.schedule_import import import_schedules
from cli.schedule_options import Options
from vault.errors import ConfigError
from vault.record import utc

if TYPE_CHECKING:
    from tasks.schedules import Schedule

schedule_app = App(
    name="schedule", help="Which app is backed up when, where to, and how much of it stays.", version_flags=[]
)
schedule_app.command(import_schedules, name="import")


@schedule_app.command(name="add")
def add_schedule(
    app: str,
    /,
    *,
    cron: str,
    timezone: str = "UTC",
    name: str | None = None,
    pool: str = POOL,
    options: Options | None = None,
    keep: Keep | None = None,
) -> None:
    """Back up an app by itself, at certain times.

    Example: backups schedule add shop --type full --cron "30 2 * * *" --timezone Europe/Paris --keep-last 7

    Parameters
    ----------
    app
        A saved app.
    cron
        When: minute, hour, day of the month, month, day of the week.
    timezone
        The zone in which that is meant, such as Europe/Paris.
    name
        The name of the schedule; at first APP-TYPE.
    pool
        The work pool whose workers run it; it is made where there is none.
    """
    given, rules = options or Options(), _rules(keep or Keep(), timezone)
    with prefect_api():
        from deployments.schedules import add, check
        from tasks.schedules import Schedule, When

        when = When(cron, timezone)
        own = name or f"{app}-{given.type or 'backup'}"
        parameters = _parameters({"app": app}, given, rules)
        schedule = Schedule(own, (when,), parameters, grace_hours=given.grace_hours)
        check(schedule)
        add(schedule, pool)
        _tell(schedule)
        _advise(pool)


@schedule_app.command(name="update")
def update_schedule(
    name: str,
    /,
    *,
    cron: str | None = None,
    timezone: str | None = None,
    no_ping: Annotated[bool, Flag] = False,
    options: Options | None = None,
    keep: Keep | None = None,
) -> None:
    """Change a schedule. What is not given stays as it is; one --keep-… or more replace all of them.

    Of --keep-at, the one for the same destination is replaced.

    Example: backups schedule update shop-full --cron "0 4 * * 0"

    Parameters
    ----------
    name
        The name of the schedule.
    cron
        When: minute, hour, day of the month, month, day of the week.
    timezone
        The zone in which that is meant, such as Europe/Paris.
    no_ping
        No ping is told any more.
    """
    given, kept = options or Options(), keep or Keep()
    if not no_ping and cron is None and timezone is None and given == Options() and kept == Keep():
        raise ConfigError("nothing is to be changed", "Give an option: see `backups schedule update --help`.")
    with prefect_api():
        from deployments.schedules import change, check
        from tasks.schedules import When, one

        old = one(name)
        if len(old.when) != 1 or not isinstance(old.when[0], When):
            raise ConfigError(
                f"schedule {name} has other times than one cron expression",
                "Change it where it was made, such as Prefect's UI.",
            )
        at = old.when[0]
        when = When(cron or at.cron, timezone or at.timezone)
        rules = _rules(kept, when.timezone, old.parameters)
        before = {name: value for name, value in old.parameters.items() if name != "ping" or not no_ping}
        grace = old.grace_hours if given.grace_hours is None else given.grace_hours
        schedule = replace(old, when=(when,), parameters=_parameters(before, given, rules), grace_hours=grace)
        check(schedule)
        change(schedule)
        _tell(schedule)


@schedule_app.command(name="list")
def list_schedules(*, json: Annotated[bool, Flag] = False) -> None:
    """List every schedule: when it runs next, and what is overdue.

    Example: backups schedule list
    """
    now = datetime.now(UTC)
    with prefect_api():
        from tasks.schedules import found

        schedules = found()
        if json:
            show_json([schedule.as_json(now) for schedule in schedules])
        elif schedules:
            heads = ("NAME", "APP", "TYPE", "TO", "CRON", "NEXT RUN", "UTC", "STATE")
            show_table(heads, [_row(schedule, now) for schedule in schedules])
        else:
            note("There is no schedule yet; see `backups schedule add --help`.")
    for schedule in schedules:
        if schedule.overdue:
            note(
                f"{schedule.name} is overdue: it should have run at {schedule.overdue:%Y-%m-%d %H:%M} UTC."
                " Does a worker run? Start one: `backups up`, or `backups worker`."
            )


@schedule_app.command(name="show")
def show_schedule(name: str, /, *, json: Annotated[bool, Flag] = False) -> None:
    """Show a schedule, with its next five runs.

    Example: backups schedule show shop-full
    """
    now = datetime.now(UTC)
    with prefect_api():
        from tasks.schedules import one

        schedule = one(name)
        shown = schedule.as_json(now)
        times = schedule.next(5, now)
    if json:
        show_json({**shown, "next_runs": [utc(time) for time in times]})
        return
    show_table(("FIELD", "VALUE"), [(field, str(value)) for field, value in shown.items()])
    for time in times:
        print(f"  {time:%a %Y-%m-%d %H:%M %Z}  {time.astimezone(UTC):%Y-%m-%d %H:%M} UTC")


@schedule_app.command(name="pause")
def pause_schedule(name: str, /) -> None:
    """Have a schedule run no more until it is resumed.

    Example: backups schedule pause shop-full
    """
    with prefect_api():
        from deployments.schedules import pause

        pause(name, paused=True)
    note(f"Paused schedule {name}. Nothing of it is backed up until: backups schedule resume {name}")


@schedule_app.command(name="resume")
def resume_schedule(name: str, /) -> None:
    """Have a paused schedule run again.

    Example: backups schedule resume shop-full
    """
    with prefect_api():
        from deployments.schedules import pause

        _tell(pause(name, paused=False), "Resumed")


@schedule_app.command(name="remove")
def remove_schedule(name: str, /) -> None:
    """Remove a schedule.

    Example: backups schedule remove shop-full
    """
    with prefect_api():
        from deployments.schedules import remove

        remove(name)
    note(f"Removed schedule {name}. Its backups were not touched.")


def _rules(keep: Keep, timezone: str, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """The parameters that say what stays: what is given, else what was said *before*."""
    old = before or {}
    policy, others = keep.policy(timezone, old.get("keep")), keep.policies_at(timezone, old.get("keep_at"))
    return {
        "keep": policy.spelled() if policy else None,
        "keep_at": {name: other.spelled() for name, other in others.items()} or None,
    }


def _parameters(before: dict[str, Any], given: Options, rules: dict[str, Any]) -> dict[str, Any]:
    from cli.adhoc import destinations_for
    from deployments.schedules import parameters

    to = destinations_for(given.to) if given.to else None
    return parameters(before, {"type": given.type, "destinations": to, "ping": given.ping, **rules})


def _tell(schedule: Schedule, done: str = "Saved") -> None:
    when = [
        f"{time:%a %Y-%m-%d at %H:%M %Z} ({time.astimezone(UTC):%H:%M} UTC)"
        for time in schedule.next(1, datetime.now(UTC))
    ]
    note(f"{done} schedule {schedule.name}" + "".join(f": it runs next on {time}." for time in when))


def _advise(pool: str) -> None:
    of = "" if pool == POOL else f" --pool {pool}"
    note(f"It runs while a worker does: `backups up`, or `backups worker{of}` at a server of your own.")


def _row(schedule: Schedule, now: datetime) -> tuple[str, ...]:
    from blocks.loading import block_name

    time = next(iter(schedule.next(1, now)), None)
    return (
        schedule.name,
        schedule.app,
        schedule.parameters.get("type") or "all",
        ", ".join(map(block_name, schedule.destinations)) or "the app's",
        "; ".join(str(when) for when in schedule.when),
        f"{time:%Y-%m-%d %H:%M %Z}" if time else "-",
        f"{time.astimezone(UTC):%Y-%m-%d %H:%M}" if time else "-",
        "overdue" if schedule.overdue else "active" if schedule.active else "paused",
    )
