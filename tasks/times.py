"""When a schedule runs: a cron expression, or whatever else Prefect counts out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from typing import TYPE_CHECKING, TypeAlias

from prefect.client.schemas.schedules import CronSchedule as ClientCron
from prefect.client.schemas.schedules import IntervalSchedule, NoSchedule, RRuleSchedule
from pydantic import TypeAdapter

from vault.errors import ConfigError, printable
from vault.retention import zone

if TYPE_CHECKING:
    from prefect.server.schemas.schedules import SCHEDULE_TYPES, CronSchedule

MOST = 1000
"""Times of a schedule that Prefect counts out at once."""
_YEARS = timedelta(days=10 * 366)
_EXAMPLE = 'An example, at half past two each night: --cron "30 2 * * *" --timezone Europe/Paris'
_FIELDS = 5

Kept: TypeAlias = ClientCron | IntervalSchedule | RRuleSchedule
"""A time as Prefect's client has it."""


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
        if len(self.cron.split()) != _FIELDS:
            raise ConfigError(f"{printable(self.cron)[:80]!r} is not a cron expression of five fields", _EXAMPLE)
        zone(self.timezone)
        if not self.next(1, datetime.now(UTC)):
            raise ConfigError(f"the cron expression {printable(self.cron)[:80]!r} never comes true", _EXAMPLE)

    def __str__(self) -> str:
        return f"{self.cron} {self.timezone}"

    @property
    def kept(self) -> Kept:
        """The same for Prefect's client."""
        return ClientCron(cron=self.cron, timezone=self.timezone)

    def latest(self, before: datetime) -> datetime | None:
        """Its latest time before *before*, in its own zone; None where there was none for years."""
        return _latest(self, before)

    def next(self, count: int, after: datetime) -> list[datetime]:
        """The next *count* times after *after*, in its own zone."""
        try:
            return _dates(_cron(self.cron, self.timezone), self.timezone, count, after)
        except ValueError:
            raise ConfigError(f"{printable(self.cron)[:80]!r} is not a cron expression", _EXAMPLE) from None


@dataclass(frozen=True)
class Counted:
    """What is no cron expression of five fields: an interval, an RRule, ``@daily``. It may come to an end."""

    kept: Kept

    def __str__(self) -> str:
        timezone = self.kept.timezone or "UTC"
        if isinstance(self.kept, IntervalSchedule):
            return printable(f"every {self.kept.interval} from {self.kept.anchor_date:%Y-%m-%d %H:%M:%S} on {timezone}")
        text = self.kept.cron if isinstance(self.kept, ClientCron) else " ".join(self.kept.rrule.split())
        return printable(f"{text} {timezone}")

    def latest(self, before: datetime) -> datetime | None:
        """As of ``When``."""
        return _latest(self, before)

    def next(self, count: int, after: datetime) -> list[datetime]:
        """The next *count* times after *after*; fewer where it comes to an end."""
        return _dates(self._counting, self.kept.timezone or "UTC", count, after)

    @cached_property
    def _counting(self) -> SCHEDULE_TYPES:
        from prefect.server.schemas.schedules import SCHEDULE_TYPES

        adapter: TypeAdapter[SCHEDULE_TYPES] = TypeAdapter(SCHEDULE_TYPES)
        return adapter.validate_python(self.kept.model_dump())


def time_of(kept: Kept | NoSchedule) -> When | Counted | str:
    """When that is; only as a text where not even Prefect's own code can count it out."""
    if isinstance(kept, NoSchedule):
        return "never"
    if isinstance(kept, ClientCron) and kept.day_or:
        try:
            return When(kept.cron, kept.timezone or "UTC")
        except ConfigError:
            pass  # such as @daily
    counted, now = Counted(kept), datetime.now(UTC)
    try:
        counted.next(1, now)
        counted.latest(now)
    except Exception:  # noqa: BLE001 - whatever its libraries say of it: the other schedules are listed
        return printable(repr(kept))
    return counted


def _dates(counting: SCHEDULE_TYPES, timezone: str, count: int, after: datetime) -> list[datetime]:
    found = asyncio.run(counting.get_dates(count, after + timedelta(seconds=1)))
    return [datetime.fromisoformat(time.isoformat()).astimezone(zone(timezone)) for time in found]


def _latest(when: When | Counted, before: datetime) -> datetime | None:
    ahead = when.next(2, before)
    window = ahead[1] - ahead[0] if len(ahead) > 1 else timedelta(days=1)
    while window < _YEARS:
        times = [time for time in when.next(MOST, before - window) if time < before]
        while len(times) == MOST and (later := [time for time in when.next(MOST, times[-1]) if time < before]):
            times = later
        if times:
            return times[-1]
        window *= 2
    return None
