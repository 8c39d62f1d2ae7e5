"""A newest backup that is suspiciously small: whole and healthy, and yet most of the data is gone (S14)."""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from vault.history import History, from_the_future
from vault.record import BackupId, BackupRecord, BackupType

SHARE = 0.5
"""Of the median: what is smaller is suspicious."""
LAST = 5
"""So many backups before it make the median."""
ORDINARY = 64 * 1024
"""Bytes: below such a median, halves and doubles are nothing unusual."""


@dataclass(frozen=True)
class Small:
    """The newest backup has *size* bytes of *source*, before compression; the last ones had a *median* of more."""

    backup_id: BackupId
    source: str
    size: int
    median: float

    def __str__(self) -> str:
        return (
            f"{self.source} in {self.backup_id} has {self.size:,} bytes, less than half of what the last ones had"
            f" ({self.median:,.0f})"
        )

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return (
            f"Look at what is in it: backups show {self.backup_id}."
            f" If that is right, say so: backups confirm {self.backup_id}"
        )


def small_ones(history: History, backup_type: BackupType, now: datetime) -> list[Small]:
    """What is suspicious about the newest backup of that type; those from the future of *now* do not count."""
    records = (r for r in history.records if r.type == backup_type and not from_the_future(r.backup_id, now))
    return suspiciously_small(records, history.confirmed)


def suspiciously_small(records: Iterable[BackupRecord], confirmed: Collection[BackupId]) -> list[Small]:
    """What is suspicious about the newest of *records* (of one app and type, oldest first), source by source.

    A small one never becomes what the next ones are measured by, until a person has *confirmed* it: three empty nights
    are no new habit.
    """
    accepted: defaultdict[str, deque[int]] = defaultdict(lambda: deque(maxlen=LAST))
    found: list[Small] = []
    for record in records:
        found = []
        for artifact in record.artifacts:
            sizes = accepted[artifact.source]
            median = statistics.median(sizes) if sizes else 0.0
            if median < ORDINARY or artifact.plain_size >= SHARE * median:
                sizes.append(artifact.plain_size)
            elif record.backup_id in confirmed:
                sizes.clear()
                sizes.append(artifact.plain_size)
            else:
                found.append(Small(record.backup_id, artifact.source, artifact.plain_size, median))
    return found
