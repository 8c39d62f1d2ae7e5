"""Schedules as Prefect keeps them: deployments of the backup flow that run by themselves.

What was made by command, in the UI, through the API or from ``prefect.yaml`` is the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.sorting import DeploymentSort
from prefect.exceptions import ObjectNotFound

from blocks.app import APP_SLUG
from blocks.ping import PING_SLUG
from tasks.catch_up import late_runs
from tasks.times import MOST, Counted, time_of
from tasks.times import When as When
from vault.errors import ConfigError
from vault.record import utc
from vault.store import check_name

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse

FLOW = "backup"
GRACE = timedelta(hours=3)
"""How long after its time a backup may take to be committed, where its schedule does not say."""
OVERDUE = timedelta(minutes=2)
"""A run that should have begun so long ago, and has not, is overdue."""

_PAGE = 200
_GRACE_TAG, _MOST_HOURS = "grace-hours:", 366 * 24
PARAMETERS = ("app", "type", "destinations", "keep", "keep_at", "ping", "encrypt_to", "consistent")
"""The parameters of the flow, in the order in which a person is told them."""
_ENOUGH, _FORTNIGHT = 24, timedelta(days=14)  # runs, or time, in which each gap of a schedule shows
_PLENTY = 25_000  # runs: one each minute of a fortnight


@dataclass(frozen=True)
class Schedule:
    """A deployment of the backup flow that runs by itself.

    *parameters* are those of the flow. *overdue* is when a run should have begun that has not, if there is one.
    *since* is when it was made, *id* that of its deployment.
    *grace_hours* is how long after its time a backup may take to be committed; a tag of the deployment says it.
    *pool* is the work pool whose workers run it.
    *off* are those of its times that are switched off, and *off_since* when the last of them was, as far as is known.
    """

    name: str
    when: tuple[When | Counted | str, ...]
    parameters: dict[str, Any] = field(default_factory=dict)
    active: bool = True
    overdue: datetime | None = None
    since: datetime | None = None
    id: UUID | None = None
    grace_hours: float | None = None
    pool: str | None = None
    off: tuple[When | Counted | str, ...] = ()
    off_since: datetime | None = None

    @property
    def app(self) -> str:
        """The saved app that it backs up."""
        return _app(self)

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
    def _countable(self) -> list[When | Counted]:
        return [when for when in self.when if not isinstance(when, str) and (when not in self.off or not self.active)]

    @property
    def paused(self) -> str:
        """What of it does not run, and since when, in a sentence; empty where all of it does."""
        since = f"since {utc(self.off_since)}" if self.off_since else "since when Prefect does not say"
        if not self.active:
            return f"Schedule {self.name} of app {self.app} is paused, {since}."
        if self.off:
            return f"Schedule {self.name} of app {self.app} does not run at {'; '.join(map(str, self.off))}, {since}."
        return ""

    @property
    def ping(self) -> str | None:
        """The saved ping that hears how it goes."""
        return self.parameters.get("ping")

    @property
    def uses(self) -> list[str]:
        """What it names, as block references."""
        return [f"{APP_SLUG}/{self.app}", *self.destinations, *([f"{PING_SLUG}/{self.ping}"] if self.ping else [])]

    def next(self, count: int, after: datetime) -> list[datetime]:
        """Its next *count* times after *after*; none while it is paused, fewer where it comes to an end."""
        times = [time for when in self._countable for time in when.next(count, after)]
        return sorted(times)[:count] if self.active else []

    def due(self, before: datetime) -> datetime | None:
        """When a run of it should have begun last, before *before*; None where none should have."""
        times = [when.latest(before) for when in self._countable] if self.active else []
        latest = max((time for time in times if time is not None), default=None)
        return latest if latest and (self.since is None or latest > self.since) else None

    def period(self, now: datetime) -> timedelta | None:
        """The longest time from one run to the next; None while it is paused, or where it comes to an end.

        Looked at are the next two weeks, or the next 24 runs where these take longer.
        """
        times = self.next(2, now)
        while times and len(times) < _PLENTY and (len(times) < _ENOUGH or times[-1] - times[0] < _FORTNIGHT):
            more = self.next(MOST if len(times) > _ENOUGH else _ENOUGH, times[-1])
            if not more:
                break
            times += more
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


def found(late: bool = True, app: str | None = None) -> list[Schedule]:
    """Every schedule, or those of *app*, by name; without *late*, whether one is overdue is not asked.

    To understand when one runs takes a millisecond: of many, who asks for an app pays for its own alone.
    """
    with get_client(sync_client=True) as client:
        theirs = [one for one in _deployments(client) if one.schedules and app in (None, _app(one))]
        kept = _schedules(client, theirs, late)
    return sorted(kept, key=lambda schedule: schedule.name)


def _deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """All of the backup flow, by name. Pages overlap by one: where that is another one by now, it begins again."""
    found: list[DeploymentResponse] = []
    page_is_full = True
    while page_is_full:
        last = found[-1:]
        page = client.read_deployments(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
            limit=_PAGE,
            offset=len(found) - len(last),
            sort=DeploymentSort.NAME_ASC,
        )
        fits = [one.id for one in last] == [one.id for one in page[: len(last)]]
        found = [*found, *page[len(last) :]] if fits else []
        page_is_full = not fits or len(page) == _PAGE
    return found


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
            **_off(one),
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


def _app(of: DeploymentResponse | Schedule) -> str:
    return str(of.parameters.get("app", ""))


def _is_active(deployment: DeploymentResponse) -> bool:
    return not deployment.paused and any(part.active for part in deployment.schedules)


def _off(deployment: DeploymentResponse) -> dict[str, Any]:
    """A deployment that was paused as a whole says nowhere since when; a time that was switched off does."""
    parts = [part for part in deployment.schedules if not part.active]
    since = max((part.updated for part in parts if part.updated), default=None)
    return {"off": tuple(time_of(part.schedule) for part in parts), "off_since": since}


def _when(deployment: DeploymentResponse) -> tuple[When | Counted | str, ...]:
    return tuple(time_of(part.schedule) for part in deployment.schedules)
