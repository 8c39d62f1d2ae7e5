"""A policy: rules that say which backups of one app and type stay at a destination; ``vault.plan`` makes a plan of it.

Each rule looks at the whole history by itself, and a backup stays when any rule keeps it, so that adding a rule never
drops more. The calendar rules keep the *newest* backup of a period (as restic and borg do): once the period is over no
later backup can displace it, so what was kept stays kept until its whole period leaves the window. Periods without a
backup do not count, so failures never use up the window.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from vault.errors import ConfigError, printable
from vault.record import BackupId

_CENTURY = timedelta(days=36525)
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def _duration(value: object) -> object:
    """``36h``, ``7d``, ``2w`` as a timedelta; ISO 8601 goes on to pydantic; a bare number is refused."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and (match := re.fullmatch(r"([0-9]{1,6})([hdw])", value)):
        return int(match[1]) * _UNITS[match[2]]
    if isinstance(value, str) and value.startswith("P"):
        return value
    raise ValueError("give a time such as 36h, 7d, 2w or P7D")


Count = Annotated[int, Field(ge=0)]
Within = Annotated[timedelta, BeforeValidator(_duration), Field(strict=False, ge=timedelta(0))]


class RetentionPolicy(BaseModel):
    """Which backups of one app and type stay at a destination. At least one ``keep_*`` must be given."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    keep_last: Count = Field(default=0, description="Keep this many of the newest backups.")
    keep_within: Within = Field(
        default=timedelta(0),
        description="Keep every backup made within this time before the newest one: 36h, 7d, 2w or P7D.",
    )
    keep_daily: Count = Field(default=0, description="Keep the last backup of each of this many days.")
    keep_weekly: Count = Field(default=0, description="Keep the last backup of each of this many ISO weeks.")
    keep_monthly: Count = Field(default=0, description="Keep the last backup of each of this many months.")
    keep_yearly: Count = Field(default=0, description="Keep the last backup of each of this many years.")
    min_keep: int = Field(default=1, ge=1, description="Never keep fewer than this many, whatever the rules say.")
    timezone: str = Field(default="UTC", description="IANA zone in which days, weeks, months and years are counted.")

    @model_validator(mode="wrap")
    @classmethod
    def _or_config_error(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            first = error.errors()[0]
            place = printable(".".join(str(part) for part in first["loc"]))[:80] or "it"
            raise ConfigError(
                f"the retention policy cannot be used: {place}: {first['msg'].removeprefix('Value error, ')}",
                "An example: keep_last=7, keep_monthly=6, timezone='Europe/Paris'.",
            ) from error

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        if self.keep_within > _CENTURY:
            raise ConfigError("the retention policy cannot be used: keep_within exceeds 100 years")
        zone(self.timezone)
        rules = (self.keep_last, self.keep_daily, self.keep_weekly, self.keep_monthly)
        if not (any(rules) or self.keep_yearly or self.keep_within):
            raise ConfigError(
                "the retention policy keeps nothing",
                "Set at least one of keep_last, keep_within, keep_daily, …; with no policy nothing goes.",
            )
        return self

    def spelled(self) -> dict[str, Any]:
        """How it is written in a schedule's parameters: without what it does not say."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def reasons(self, newest_first: list[BackupId]) -> list[list[str]]:
        """Why each of *newest_first* (the newest first) stays, in their order; empty where no rule keeps it."""
        reasons: list[list[str]] = [[] for _ in newest_first]
        for position, why in enumerate(reasons[: self.min_keep], 1):
            why.append(f"floor {position} of {self.min_keep}")
        for position, why in enumerate(reasons[: self.keep_last], 1):
            why.append(f"last {position} of {self.keep_last}")
        # Before the newest backup, not before now: ten days of failures must not leave "7 days" empty (Z09).
        for backup_id, why in zip(newest_first, reasons, strict=True) if self.keep_within else ():
            if backup_id.created_at < newest_first[0].created_at - self.keep_within:
                break
            why.append(f"within {spell(self.keep_within)}")
        for name, count, period, spelled in self._calendar():
            for position, day in _newest_of_each(count, period, newest_first, zone(self.timezone)):
                reasons[position].append(f"{name} {spelled(day)}")
        return reasons

    def _calendar(self) -> tuple[tuple[str, int, Callable[[datetime], object], Callable[[datetime], str]], ...]:
        """Each rule: its name, of how many periods, the period of a day, and how a person writes that."""
        return (
            ("daily", self.keep_daily, datetime.toordinal, lambda day: f"{day:%Y-%m-%d}"),
            ("weekly", self.keep_weekly, lambda day: day.isocalendar()[:2], _week),
            ("monthly", self.keep_monthly, lambda day: (day.year, day.month), lambda day: f"{day:%Y-%m}"),
            ("yearly", self.keep_yearly, lambda day: day.year, lambda day: f"{day:%Y}"),
        )


def _week(day: datetime) -> str:
    year, week, _ = day.isocalendar()
    return f"{year}-W{week:02}"


def _newest_of_each(
    count: int, period: Callable[[datetime], object], newest_first: list[BackupId], zone: ZoneInfo
) -> Iterator[tuple[int, datetime]]:
    """The position of the newest one of each of *count* periods, and when it was made there."""
    seen: set[object] = set()
    for position, backup_id in enumerate(newest_first):
        if len(seen) == count:
            return
        day = backup_id.created_at.astimezone(zone)
        if (bucket := period(day)) not in seen:
            seen.add(bucket)
            yield position, day


def zone(name: str) -> ZoneInfo:
    """The IANA time zone *name*, or ``ConfigError``."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"{printable(name)[:80]!r} is not a known time zone", "Use one such as Europe/Paris or UTC."
        ) from error


def spell(time: timedelta) -> str:
    """For a person: without what is nought."""
    return str(time).removesuffix(", 0:00:00")
