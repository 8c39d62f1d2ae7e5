"""Which backups to keep: a pure plan, with a reason for every backup, or a refusal.

A plan is made for one app, one type and one destination. Each rule looks at the whole history by itself,
and a backup stays when any rule keeps it, so that adding a rule never drops more. The calendar rules keep the
*newest* backup of a period (as restic and borg do): once the period is over no later backup can displace it,
so what was kept stays kept until its whole period leaves the window. Periods without a backup do not count,
so failures never use up the window.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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

from vault.errors import ConfigError, RetentionRefused, printable
from vault.record import BackupId

MAX_DELETES = 10
MAX_SKEW = timedelta(minutes=5)
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


@dataclass(frozen=True)
class Plan:
    """What to do with each backup: *keep* (newest first) says why; *drop* is in order of deletion."""

    keep: dict[BackupId, tuple[str, ...]]
    drop: tuple[BackupId, ...]

    def reason(self, backup_id: BackupId) -> str:
        """Why *backup_id* stays or goes, for a table."""
        reasons = self.keep.get(backup_id)
        return ", ".join(reasons) if reasons else "no rule keeps it, newer backups replace it"


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

    def plan(
        self,
        history: Iterable[BackupId],
        now: datetime,
        *,
        damaged: Collection[str],
        pinned: Collection[BackupId] = (),
        sources: Mapping[BackupId, frozenset[str]] | None = None,
        seen: Collection[BackupId] = (),
        destination_clock: datetime | None = None,
        max_deletes: int | None = MAX_DELETES,
    ) -> Plan:
        """Judge *history*: the ids of all valid records of one app and one type at one destination.

        *damaged* are the keys there that could not be believed: one is enough to refuse. *sources* are what each
        backup holds: one that no newer kept one replaces whole stays. *seen* are those that were left there the last
        time: one that this policy keeps, and that is not listed any more, is enough to refuse. *destination_clock*
        is what the destination wrote as the time of the record committed just now. *max_deletes* bounds one
        run, so that a wrong policy or faked newer records cost little: a person who has read the plan may
        pass more; None shows the plan without the bound, for a dry run. Raises ``RetentionRefused``.
        """
        found = dict.fromkeys(history)  # not a set: a listing comes in order, and what is in order is sorted at once
        _refuse_odd(found, now, damaged, destination_clock)
        self._refuse_shrunk(found, seen)
        newest_first = sorted(found, key=BackupId.order, reverse=True)
        reasons = self._reasons(newest_first, frozenset(pinned))
        if sources is not None:
            _keep_last_of_each_source(reasons, [sources[backup_id] for backup_id in newest_first])
        judged = [*zip(newest_first, reasons, strict=True)]
        keep = {backup_id: tuple(why) for backup_id, why in judged if why}
        drop = tuple(backup_id for backup_id, why in reversed(judged) if not why)
        if max_deletes is not None and len(drop) > max_deletes:
            raise RetentionRefused(
                f"the policy would delete {len(drop)} backups at once, more than {max_deletes}",
                "Look at what it would delete: backups prune APP --dry-run"
                f"\nIf that is right: backups prune APP --max-deletes {len(drop)}",
            )
        return Plan(keep, drop)

    def _refuse_shrunk(self, found: Collection[BackupId], seen: Collection[BackupId]) -> None:
        gone = frozenset(seen).difference(found)
        if not gone:
            return
        all_of_them = sorted([*found, *gone], key=BackupId.order, reverse=True)
        kept = zip(all_of_them, self._reasons(all_of_them, frozenset()), strict=True)
        missed = sorted(backup_id for backup_id, why in kept if why and backup_id in gone)
        if missed:
            raise RetentionRefused(
                f"{len(missed)} backups that were there the last time, and that the policy keeps, are not listed any"
                f" more: {', '.join(map(str, missed[:3]))}",
                "Find out why. If somebody removed them on purpose: backups prune APP --accept-missing",
            )

    def _reasons(self, newest_first: list[BackupId], pinned: frozenset[BackupId]) -> list[list[str]]:
        """Why each of them stays, in their order; empty where nothing keeps it."""
        reasons: list[list[str]] = [["pinned"] if backup_id in pinned else [] for backup_id in newest_first]
        for position, why in enumerate(reasons[: self.min_keep], 1):
            why.append(f"floor {position} of {self.min_keep}")
        for position, why in enumerate(reasons[: self.keep_last], 1):
            why.append(f"last {position} of {self.keep_last}")
        # Before the newest backup, not before now: ten days of failures must not leave "7 days" empty (Z09).
        for backup_id, why in zip(newest_first, reasons, strict=True) if self.keep_within else ():
            if backup_id.created_at < newest_first[0].created_at - self.keep_within:
                break
            why.append(f"within {_spell(self.keep_within)}")
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


def _keep_last_of_each_source(reasons: list[list[str]], sources: list[frozenset[str]]) -> None:
    """What no newer one that stays holds whole stays too; both newest first."""
    newer: set[frozenset[str]] = set()
    for why, own in zip(reasons, sources, strict=True):
        if not why and not any(own <= other for other in newer):
            why.append("no newer one has all of its sources")
        if why:
            newer.add(own)


def _refuse_odd(
    found: Collection[BackupId],
    now: datetime,
    damaged: Collection[str],
    destination_clock: datetime | None,
) -> None:
    for time in (now, destination_clock or now, *(backup_id.created_at for backup_id in found)):
        if time.tzinfo is None or time.year < 1970:
            raise RetentionRefused(f"nothing is deleted: {time} has no time zone, or cannot be")
    if damaged:
        named = ", ".join(printable(key)[:120] for key in sorted(damaged)[:3])
        raise RetentionRefused(
            f"nothing is deleted while records there cannot be believed ({len(damaged)}): {named}",
            "See `backups list`; repair or remove them by hand, then retention goes on.",
        )
    if len({backup_id.type for backup_id in found}) > 1:
        raise RetentionRefused("backups of several types were given for one plan")
    newest = max(found, key=BackupId.order, default=None)
    if newest is not None and newest.created_at > now:
        raise RetentionRefused(
            f"backup {newest} is from the future: here it is {now.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
            "Check this machine's clock. If that backup was made with a wrong clock, remove it by hand.",
        )
    if destination_clock is not None and abs(destination_clock - now) > MAX_SKEW:
        raise RetentionRefused(
            f"the clocks here and at the destination differ by {_spell(abs(destination_clock - now))}",
            "Set this machine's clock (NTP), then retention goes on.",
        )


def zone(name: str) -> ZoneInfo:
    """The IANA time zone *name*, or ``ConfigError``."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"{printable(name)[:80]!r} is not a known time zone", "Use one such as Europe/Paris or UTC."
        ) from error


def _spell(time: timedelta) -> str:
    return str(time).removesuffix(", 0:00:00")
