"""What stays of a history and what goes: a pure plan, with a reason for every backup, or a refusal.

A plan is made for one app, one type and one destination, from all policies that apply there. Each policy looks at the
whole history by itself, and a backup stays when any of them keeps it, so that adding a policy never drops more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from vault.errors import RetentionRefused, printable
from vault.record import BackupId
from vault.retention import RetentionPolicy, spell

MAX_DELETES = 10
MAX_SKEW = timedelta(minutes=5)

_NO_REASON = "no rule keeps it, newer backups replace it"
_ALONE = "no newer one has all of its sources"


@dataclass(frozen=True)
class Plan:
    """What to do with each backup: *keep* (newest first) says why; *drop* is in order of deletion."""

    keep: dict[BackupId, tuple[str, ...]]
    drop: tuple[BackupId, ...]

    def reason(self, backup_id: BackupId) -> str:
        """Why *backup_id* stays or goes, for a table."""
        reasons = self.keep.get(backup_id)
        return ", ".join(reasons) if reasons else _NO_REASON


def refuse_more_than(most: int, go: int, app: str) -> None:
    """Pass unless *go*, so many of *app* at once, are more than *most*; else ``RetentionRefused``.

    So a wrong policy or faked newer records cost little: a person who has read the plan may allow more.
    """
    if go > most:
        raise RetentionRefused(
            f"the policy would delete {go} backups at once, more than {most}",
            f"Look at what it would delete: backups prune {app} --dry-run"
            f"\nIf that is right: backups prune {app} --max-deletes {go}",
        )


@dataclass(frozen=True)
class Keeper:
    """A policy that applies, and whose it is (*by*), which every reason names; None keeps all."""

    policy: RetentionPolicy | None
    by: str = ""

    def reasons(
        self, newest_first: list[BackupId], pinned: frozenset[BackupId], sources: list[frozenset[str]] | None
    ) -> Iterator[tuple[str, ...]]:
        """Why each of them stays, in their order.

        *sources* are what each holds: one that no newer kept one replaces whole stays. That is looked at for this
        policy and pins alone: what another policy keeps newer must not let go what this one keeps.
        """
        judged = self.policy.reasons(newest_first) if self.policy else [["all"] for _ in newest_first]
        newer: set[frozenset[str]] = set()
        for position, (backup_id, why) in enumerate(zip(newest_first, judged, strict=True)):
            named = [*why[:-1], f"{why[-1]} ({self.by})"] if why and self.by else why
            if sources is not None:
                own = sources[position]
                if not why and backup_id not in pinned and not any(own <= other for other in newer):
                    named = [_ALONE]
                if named or backup_id in pinned:
                    newer.add(own)
            yield tuple(named)


def make_plan(
    keepers: Sequence[Keeper],
    history: Iterable[BackupId],
    now: datetime,
    *,
    damaged: Collection[str],
    pinned: Collection[BackupId] = (),
    sources: Mapping[BackupId, frozenset[str]] | None = None,
    seen: Collection[BackupId] = (),
    destination_clock: datetime | None = None,
) -> Plan:
    """Judge *history*, the ids of all valid records of one app and one type at one destination, by *keepers*.

    *damaged* are the keys there that could not be believed: one is enough to refuse. *sources* are what each backup
    holds: one that no newer kept one replaces whole stays. *seen* are those that were left there the last time: one
    that a policy keeps, and that is not listed any more, is enough to refuse. *destination_clock* is what the
    destination wrote as the time of the record committed just now. Without a keeper nothing goes. Raises
    ``RetentionRefused``.
    """
    found = dict.fromkeys(history)  # not a set: a listing comes in order, and what is in order is sorted at once
    keepers = keepers or (Keeper(None),)
    _refuse_odd(found, now, damaged, destination_clock)
    _refuse_shrunk(keepers, found, seen)
    newest_first = sorted(found, key=BackupId.order, reverse=True)
    pins = frozenset(pinned)
    own = None if sources is None else [sources[backup_id] for backup_id in newest_first]
    by_keeper = [keeper.reasons(newest_first, pins, own) for keeper in keepers]
    keep: dict[BackupId, tuple[str, ...]] = {}
    drop: list[BackupId] = []
    for backup_id, *reasons in zip(newest_first, *by_keeper, strict=True):
        why = (("pinned",) if backup_id in pins else ()) + sum(reasons, ())
        if why:
            keep[backup_id] = tuple(dict.fromkeys(why))
        else:
            drop.append(backup_id)
    return Plan(keep, tuple(reversed(drop)))


def _refuse_shrunk(keepers: Sequence[Keeper], found: Collection[BackupId], seen: Collection[BackupId]) -> None:
    gone = frozenset(seen).difference(found)
    if not gone:
        return
    all_of_them = sorted([*found, *gone], key=BackupId.order, reverse=True)
    missed: set[BackupId] = set()
    for keeper in keepers:
        kept = zip(all_of_them, keeper.reasons(all_of_them, frozenset(), None), strict=True)
        missed |= {backup_id for backup_id, why in kept if why and backup_id in gone}
    if missed:
        raise RetentionRefused(
            f"{len(missed)} backups that were there the last time, and that the policy keeps, are not listed any"
            f" more: {', '.join(map(str, sorted(missed)[:3]))}",
            "Find out why. If somebody removed them on purpose: backups prune APP --accept-missing",
        )


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
            "See `backups list`; repair them, or rename each to ID.json.bak, which keeps what lies beside it."
            " Else the artifacts of a record that is gone go, too, a day after a run has seen them so.",
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
            f"the clocks here and at the destination differ by {spell(abs(destination_clock - now))}",
            "Set this machine's clock (NTP), then retention goes on.",
        )
