"""Orphans: artifacts of a backup that has no record. Which of them may go, as a pure judgement with a reason for each.

What looks like garbage may be a good backup whose record somebody has moved away, or which a listing has lost. So one
goes only when it has been seen without a record for a day, and never when there is anything beside it that is not ours.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from vault.errors import printable
from vault.record import BackupId, backup_of
from vault.store import NAME_PATTERN, StoredObject, is_key

GRACE = timedelta(hours=24)
FORMATS = ("pgdump", "rdb", "sql", "sqlite", "tar")
"""What a source's dump may be called (``Dump.extension``)."""
SAFETY = "-before-restore"
"""What the apps end with under which a restore backs up what it replaces."""

_SOURCE = NAME_PATTERN.strip("^$")
_ARTIFACT = re.compile(rf"{_SOURCE}\.(?:{'|'.join(FORMATS)})(?:\.zst|\.gz)?(?:\.age)?")
_MARKS = ("pinned", "confirmed")


def is_ours(key: str) -> bool:
    """Whether *key* is an artifact or a mark, named as we name them: what may go with its backup (D08)."""
    rest = key.partition(".")[2]
    return is_key(key) and backup_of(key) is not None and (rest in _MARKS or _ARTIFACT.fullmatch(rest) is not None)


@dataclass(frozen=True)
class Orphan:
    """What lies there of one backup that is not listed. *strange* are keys that we did not write."""

    backup_id: BackupId
    objects: tuple[StoredObject, ...]
    strange: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of what is ours."""
        return sum(stored.size for stored in self.objects)

    @property
    def newest(self) -> datetime:
        """When it was last written to, by whichever clock is later."""
        return max([self.backup_id.created_at, *(stored.modified for stored in self.objects)])

    @property
    def is_pinned(self) -> bool:
        """Whether somebody has said that it is to stay."""
        return any(stored.key.endswith(".pinned") for stored in self.objects)


@dataclass(frozen=True)
class Verdict:
    """Whether *orphan* goes, and why. *since*: when it was first seen as one; None where the grace has not begun."""

    orphan: Orphan
    why: str
    goes: bool = False
    since: datetime | None = None


def grouped(objects: Iterable[StoredObject]) -> tuple[Orphan, ...]:
    """Objects without a record (``History.orphans``) by the backup that they are of, the oldest first."""
    found: defaultdict[BackupId, list[StoredObject]] = defaultdict(list)
    for stored in objects:
        backup_id = backup_of(stored.key)
        if backup_id is not None:
            found[backup_id].append(stored)
    return tuple(
        Orphan(
            backup_id,
            tuple(stored for stored in found[backup_id] if is_ours(stored.key)),
            tuple(stored.key for stored in found[backup_id] if not is_ours(stored.key)),
        )
        for backup_id in sorted(found, key=BackupId.order)
    )


def judge(
    orphans: Iterable[Orphan],
    since: Mapping[BackupId, datetime],
    now: tuple[datetime, datetime],
    owner: Callable[[BackupId], str],
    most: int | None,
) -> tuple[Verdict, ...]:
    """What becomes of each of *orphans*, the oldest first.

    *since* is when each was first seen; one that is missing is seen now for the first time. *now* is the earlier and
    the later of the clocks here and there: the one counts for what is over, the other for what begins (Z02). *owner*
    names the run that still lives and may have made it, or "". No more than *most* go at once; None: all that may.
    """
    judged = tuple(_judged(orphan, since.get(orphan.backup_id), now, owner) for orphan in orphans)
    count = sum(verdict.goes for verdict in judged)
    if most is None or count <= most:
        return judged
    why = f"no record; {count} would go at once, more than {most}: backups prune APP --orphans --max-deletes {count}"
    return tuple(Verdict(v.orphan, why, since=v.since) if v.goes else v for v in judged)


def _judged(
    orphan: Orphan, seen: datetime | None, now: tuple[datetime, datetime], owner: Callable[[BackupId], str]
) -> Verdict:
    earlier, later = now
    if orphan.strange:
        named = ", ".join(printable(key.partition("/")[2])[:80] for key in orphan.strange[:2])
        return Verdict(orphan, f"no record; beside it lies what we did not write ({named}): see to that first")
    if orphan.is_pinned:
        return Verdict(orphan, "no record, but pinned: what is left of it stays")
    if living := owner(orphan.backup_id):
        return Verdict(orphan, f"no record; run {living} still goes on")
    first = seen if seen is not None and seen <= later else later
    waits = f"no record, as was first seen {first.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if max(orphan.newest, first) < earlier - GRACE:
        return Verdict(orphan, waits, goes=True, since=first)
    return Verdict(orphan, f"{waits}: goes when it is a day old and has been seen so for a day", since=first)


@dataclass(frozen=True)
class Left:
    """What lies at a destination for one app: its backups by their records' names, and its orphans."""

    backups: int
    size: int
    orphans: tuple[Orphan, ...]


def survey(objects: Iterable[StoredObject]) -> dict[str, Left]:
    """By app, from a listing alone: no record is read."""
    apps: defaultdict[str, list[StoredObject]] = defaultdict(list)
    for stored in objects:
        if backup_of(stored.key) is not None:
            apps[stored.key.partition("/")[0]].append(stored)
    return {app: _left(found) for app, found in sorted(apps.items())}


def _left(objects: list[StoredObject]) -> Left:
    records = {stored.key.removesuffix(".json") for stored in objects if stored.key.partition(".")[2] == "json"}
    whole = [stored for stored in objects if stored.key.partition(".")[0] in records]
    orphans = grouped(stored for stored in objects if stored.key.partition(".")[0] not in records)
    return Left(len(records), sum(stored.size for stored in whole), orphans)
