"""How much one run may delete: what a lock keeps does not count, nor what has waited for its lock to end (D16)."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from tasks.seen import Seen, Spot, recall_waiting
from vault.catalog import Catalog
from vault.plan import refuse_more_than
from vault.record import BackupId, record_key


def locks_of(catalog: Catalog, drop: Collection[BackupId], now: datetime) -> dict[BackupId, str]:
    """Those of *drop* that the destination itself says are locked, and until when: there is no use in asking for them.

    Its record is written last, so no lock of a backup ends later than that of its record.
    """

    def until(backup_id: BackupId) -> datetime | None:
        return catalog.store.kept_until(record_key(catalog.app, backup_id))

    with ThreadPoolExecutor(catalog.store.readers) as pool:
        ends = zip(drop, pool.map(until, drop), strict=True)
        return {
            found: f"locked until {end.astimezone(UTC):%Y-%m-%d %H:%M} UTC" for found, end in ends if end and end > now
        }


def refuse_too_many(spot: Spot, seen: Seen, go: frozenset[BackupId], most: int) -> None:
    """Pass unless *go* are more than *most* at once; ``RetentionRefused``.

    What was to go the last time already, and was not let go, was counted then. Where we could delete nothing the last
    time nothing counts. Either way no more than *most* are deleted at once.
    """
    if len(go) > most and not seen.denied:
        waiting = recall_waiting(spot) if seen.waits else frozenset()
        refuse_more_than(most, len(go - waiting), spot.app)
