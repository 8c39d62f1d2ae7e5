"""Schedules as Prefect keeps them: deployments of the backup flow that run by themselves.

What was made by command, in the UI, through the API or from ``prefect.yaml`` is the same.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.exceptions import ObjectNotFound

from blocks.app import APP_SLUG
from blocks.ping import PING_SLUG
from tasks.catch_up import late_runs
from vault.errors import ConfigError, printable
from vault.record import utc
from vault.retention import zone
from vault.store import check_name

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.server.schemas.schedules import CronSchedule

FLOW = "backup"
GRACE = timedelta(hours=3)
"""How long after its time a backup may take to be committed, where its schedule does not say."""
OVERDUE = timedelta(minutes=2)
"""A run that should have begun so long ago, and has not, is overdue."""

_PAGE = 200
_GRACE_TAG, _MOST_HOURS = "grace-hours:", 366 * 24
PARAMETERS = ("app", "type", "destinations", "keep", "keep_at", "ping", "encrypt_to", "consistent")
"""The parameters of the flow, in the order in which a person is told them."""
_MOST = 1000  # times of a schedule that Prefect counts out at once
_YEARS = timedelta(days=10 * 366)
_ENOUGH, _FORTNIGHT = 24, timedelta(days=14)  # runs, or time, in which each gap of a schedule shows
_EXAMPLE = 'An example, at half past two each night: --cron "30 2 * * *" --timezone Europe/Paris'


@cache  # Prefect reads a file for every time zone that there is to check one: 18 ms
def _cron(cron: str, timezone: str) -> CronSchedule:
    # The server's, for the client's has no times: these are the ones at which the server will run it.
    from prefect.server.schemas.schedules import CronSchedule

    return CronSchedule(cron=cron, timezone=timezone)


@dataclass(frozen=True)
class When:
    """A cron expression of five fields, and the IANA time zone in which it counts.

    On the day when clocks go forward, a time that does not exist runs one hour earlier; when they go back, one that
    occurs twice runs the first time: Prefect's rules, once a day in any case.
    """

    cron: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        if len(self.cron.split()) != 5:
            raise ConfigError(f"{printable(self.cron)[:80]!r} is not a cron expression of five fields", _EXAMPLE)
        zone(self.timezone)
        if not self.next(1, datetime.now(UTC)):
            raise ConfigError(f"the cron expression {printable(self.cron)[:80]!r} never comes true", _EXAMPLE)

    def __str__(self) -> str:
        return f"{self.cron} {self.timezone}"

    def latest(self, before: datetime) -> datetime | None:
        """Its latest time before *before*, in its own zone; None where there was none for years."""
        first, second = self.next(2, before)
        window = second - first
        while window < _YEARS:
            times = [time for time in self.next(_MOST, before - window) if time < before]
            if times:
                return times[-1]
            window *= 2
        return None

    def next(self, count: int, after: datetime) -> list[datetime]:
        """The next *count* times after *after*, in its own zone."""
        try:
            found = asyncio.run(_cron(self.cron, self.timezone).get_dates(count, after + timedelta(seconds=1)))
        except ValueError:
            raise ConfigError(f"{printable(self.cron)[:80]!r} is not a cron expression", _EXAMPLE) from None
        return [datetime.fromisoformat(time.isoformat()).astimezone(zone(self.timezone)) for time in found]


@dataclass(frozen=True)
class Schedule:
    """A deployment of the backup flow that runs by itself.

    *parameters* are those of the flow. *overdue* is when a run should have begun that has not, if there is one.
    *since* is when it was made, *id* that of its deployment.
    *grace_hours* is how long after its time a backup may take to be committed; a tag of the deployment says it.
    *pool* is the work pool whose workers run it.
    """

    name: str
    when: tuple[When | str, ...]
    parameters: dict[str, Any] = field(default_factory=dict)
    active: bool = True
    overdue: datetime | None = None
    since: datetime | None = None
    id: UUID | None = None
    grace_hours: float | None = None
    pool: str | None = None

    @property
    def app(self) -> str:
        """The saved app that it backs up."""
        return str(self.parameters.get("app", ""))

    @property
    def destinations(self) -> list[str]:
        """Where to, as block references; empty: those of the app."""
        return list(self.parameters.get("destinations") or [])

    def __post_init__(self) -> None:
        if self.grace_hours is not None and not 0 < self.grace_hours <= _MOST_HOURS:
            raise ConfigError(f"a grace of {self.grace_hours} hours cannot be", "Give more than 0, and a year at most.")

    def grace(self, default: timedelta = GRACE) -> timedelta:
        """How long after its time a backup may take to be committed; *default* where the schedule does not say."""
        return default if self.grace_hours is None else timedelta(hours=self.grace_hours)

    @property
    def tags(self) -> list[str]:
        """How Prefect keeps what is no parameter of a run."""
        return [] if self.grace_hours is None else [f"{_GRACE_TAG}{self.grace_hours:g}"]

    @property
    def ping(self) -> str | None:
        """The saved ping that hears how it goes."""
        return self.parameters.get("ping")

    @property
    def uses(self) -> list[str]:
        """What it names, as block references."""
        return [f"{APP_SLUG}/{self.app}", *self.destinations, *([f"{PING_SLUG}/{self.ping}"] if self.ping else [])]

    def next(self, count: int, after: datetime) -> list[datetime]:
        """Its next *count* times after *after*; none while it is paused, fewer where only Prefect can tell."""
        times = [time for when in self.when if isinstance(when, When) for time in when.next(count, after)]
        return sorted(times)[:count] if self.active else []

    def due(self, before: datetime) -> datetime | None:
        """When a run of it should have begun last, before *before*; None where none should have."""
        times = [when.latest(before) for when in self.when if isinstance(when, When)] if self.active else []
        latest = max((time for time in times if time is not None), default=None)
        return latest if latest and (self.since is None or latest > self.since) else None

    def period(self, now: datetime) -> timedelta | None:
        """The longest time from one run to the next; None while it is paused, or where only Prefect can tell.

        Looked at are the next two weeks, or the next 24 runs where these take longer.
        """
        times = self.next(2, now)
        while times and (len(times) < _ENOUGH or times[-1] - times[0] < _FORTNIGHT):
            times += self.next(_MOST if len(times) > _ENOUGH else _ENOUGH, times[-1])
        return max((later - earlier for earlier, later in pairwise(times)), default=None)

    def as_json(self, now: datetime) -> dict[str, Any]:
        """What a person or a program is to know of it."""
        time = next(iter(self.next(1, now)), None)
        return {
            "name": self.name,
            **{name: self.parameters.get(name) for name in PARAMETERS},
            "pool": self.pool,
            "when": [str(when) for when in self.when],
            "active": self.active,
            "next_run_at": utc(time) if time else None,
            "next_run_at_local": time.isoformat() if time else None,
            "grace_hours": self.grace_hours,
            "overdue_since": utc(self.overdue) if self.overdue else None,
        }


def found(late: bool = True) -> list[Schedule]:
    """Every schedule, by name; without *late*, whether one is overdue is not asked."""
    with get_client(sync_client=True) as client:
        deployments: list[DeploymentResponse] = []
        while page := client.read_deployments(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])), limit=_PAGE, offset=len(deployments)
        ):
            deployments += page
        kept = _schedules(client, [one for one in deployments if one.schedules], late)
    return sorted(kept, key=lambda schedule: schedule.name)


def one(name: str) -> Schedule:
    """The schedule *name*; ``ConfigError`` where there is none."""
    found = deployment(name)
    if found is None or not found.schedules:
        raise none_of(name)
    with get_client(sync_client=True) as client:
        return _schedules(client, [found], late=True)[0]


def deployment(name: str) -> DeploymentResponse | None:
    """The deployment of the backup flow of that name, if there is one."""
    with get_client(sync_client=True) as client:
        try:
            return client.read_deployment_by_name(f"{FLOW}/{check_name(name, 'schedule')}")
        except ObjectNotFound:
            return None


def none_of(name: str) -> ConfigError:
    """That there is no schedule *name*."""
    names = ", ".join(schedule.name for schedule in found(late=False))
    return ConfigError(
        f"there is no schedule {name}", f"There are: {names}" if names else "See `backups schedule add`."
    )


def _schedules(client: SyncPrefectClient, deployments: list[DeploymentResponse], late: bool) -> list[Schedule]:
    active = {one.id for one in deployments if _is_active(one)}
    overdue: dict[UUID | None, datetime] = {}
    for run in late_runs(client, [*active], datetime.now(UTC) - OVERDUE) if late else []:
        if run.expected_start_time:
            overdue.setdefault(run.deployment_id, run.expected_start_time)  # the oldest comes first
    return [
        Schedule(
            one.name,
            _when(one),
            dict(one.parameters),
            active=one.id in active,
            overdue=overdue.get(one.id),
            since=one.created,
            id=one.id,
            grace_hours=_grace(one),
            pool=one.work_pool_name,
        )
        for one in deployments
    ]


def _grace(deployment: DeploymentResponse) -> float | None:
    """What a tag says; None where none does, or nothing that can be."""
    for tag in deployment.tags:
        if found := re.fullmatch(rf"{_GRACE_TAG}(\d{{1,4}}(?:\.\d+)?)", tag):
            hours = float(found[1])
            return hours if 0 < hours <= _MOST_HOURS else None
    return None


def _is_active(deployment: DeploymentResponse) -> bool:
    return not deployment.paused and any(part.active for part in deployment.schedules)


def _when(deployment: DeploymentResponse) -> tuple[When | str, ...]:
    return tuple(_time(part.schedule) for part in deployment.schedules)


def _time(schedule: Any) -> When | str:
    """What is no cron expression of five fields, such as ``@daily`` or an interval, only Prefect can count out."""
    if not hasattr(schedule, "cron"):
        return printable(repr(schedule))
    try:
        return When(schedule.cron, schedule.timezone or "UTC")
    except ConfigError:
        return printable(f"{schedule.cron} {schedule.timezone or 'UTC'}")
