"""Schedules: what they name is there, they are not overdue, and the server plans their runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType

from blocks.app import APP_SLUG
from deployments.checks.apps import Inventory
from deployments.checks.finding import Finding, ok, warning, wrong
from deployments.checks.work import deployments_of
from tasks.schedules import FLOW, Schedule
from vault.record import utc

_PLANNED = timedelta(days=90)
"""So far ahead Prefect's scheduler plans at least one run."""
_NEW = timedelta(minutes=3)
"""A schedule that was changed so lately may not be planned yet."""
_PAGE = 200


def schedules(inventory: Inventory, now: datetime) -> Iterator[Finding]:
    """Each schedule names what exists, is not overdue, and Prefect has planned its next run."""
    active = [schedule for schedule in inventory.schedules if schedule.active]
    found: list[Finding] = []
    for schedule in active:
        again = f"backups schedule update {schedule.name} …, or backups schedule remove {schedule.name}"
        if f"{APP_SLUG}/{schedule.app}" not in inventory.apps:
            found.append(wrong("schedules", f"schedule {schedule.name}: there is no app {schedule.app}", again))
        for gone in sorted(inventory.lacks(schedule.destinations)):
            found.append(wrong("schedules", f"schedule {schedule.name} names {gone}, which is not saved", again))
        if schedule.period(now) is None or any(isinstance(when, str) for when in schedule.when):
            found.append(
                wrong(
                    "schedules",
                    f"schedule {schedule.name} ({'; '.join(map(str, schedule.when))}) comes to an end, or cannot be"
                    " counted out: nobody is told when it leaves no backup",
                    "Give it a cron expression, an interval or an RRule without an end, where it was made",
                )
            )
        if schedule.overdue:
            found.append(
                wrong(
                    "schedules",
                    f"schedule {schedule.name} is overdue since {utc(schedule.overdue)}",
                    "backups up; or, at a server of your own: backups worker",
                )
            )
    yield from found
    for schedule in inventory.schedules:
        if schedule.paused:
            again = f"backups schedule resume {schedule.name}, or: backups schedule remove {schedule.name}"
            yield warning("schedules", schedule.paused, again)
    if not found:
        yield ok("schedules", f"{len(active)} active, none overdue")


def scheduler(inventory: Inventory, now: datetime, new: timedelta = _NEW) -> Iterator[Finding]:
    """The server plans the runs of each active schedule, but for those that were changed since *new*.

    Where it does not, nothing says so: there are no runs any more.
    """
    active = [schedule for schedule in inventory.schedules if schedule.active]
    unplanned = _unplanned(active, now, new)
    if unplanned:
        yield wrong(
            "scheduler",
            f"Prefect has planned no run of {', '.join(unplanned[:5])} ({len(unplanned)} of {len(active)} active"
            " schedules): its scheduler does not work",
            "See the server's log; it needs SQLAlchemy below 2.1: pip install 'sqlalchemy<2.1', and restart it",
        )
    else:
        yield ok("scheduler", "it has planned the next runs")


def _unplanned(active: list[Schedule], now: datetime, new: timedelta) -> list[str]:
    due = {f"{FLOW}/{one.name}" for one in active if [time for time in one.next(1, now) if time < now + _PLANNED]}
    with get_client(sync_client=True) as client:
        every = deployments_of(client)
        names = {
            one.id: one.name for name, one in every.items() if name in due and one.updated and one.updated <= now - new
        }
        ids = [*names]
        for begin in range(0, len(ids), _PAGE):
            for planned in _planned(client, ids[begin : begin + _PAGE], now):
                names.pop(planned, None)
    return sorted(names.values())


def _planned(client: SyncPrefectClient, deployments: list[UUID], now: datetime) -> set[UUID]:
    """Those of *deployments* that have a run planned after *now*."""
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=deployments),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime(after_=now),
    )
    found: set[UUID] = set()
    offset = 0
    while found < {*deployments} and (
        page := client.read_flow_runs(flow_run_filter=wanted, limit=_PAGE, offset=offset)
    ):
        offset += len(page)
        found |= {run.deployment_id for run in page if run.deployment_id}
    return found
