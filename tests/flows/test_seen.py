"""What Prefect keeps of the last time: it fits into a variable, whatever there is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from tasks.seen import Seen, Spot, note_removed, recall, recall_removed, recall_waiting, remember
from vault.record import BackupId, BackupType

LOCATION = "s3://a-bucket/with/a/long/prefix at s3.us-west-000.backblazeb2.com"


def ids(kind: BackupType, count: int) -> list[BackupId]:
    now = datetime(2026, 11, 23, 3, tzinfo=UTC)
    return [BackupId.new(now - timedelta(hours=hours), kind) for hours in range(count)]


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("kind", ["database", "files"])
def test_of_many_backups_the_newest_are_seen_and_the_oldest_wait(kind: BackupType) -> None:
    spot, newest_first = Spot(f"app-{uuid4().hex[:8]}", kind, "offsite", LOCATION), ids(kind, 400)
    remember(spot, newest_first, denied=True, waiting=newest_first[100:])
    seen, waiting = recall(spot), recall_waiting(spot)
    assert (seen.denied, seen.waits) == (True, True)
    assert len(seen.ids) >= 130
    assert seen.ids == frozenset(newest_first[: len(seen.ids)])
    assert len(waiting) >= 130
    assert waiting == frozenset(newest_first[-len(waiting) :])
    for backup_id in newest_first[145::-1]:
        note_removed(spot, backup_id)
    assert frozenset(newest_first[:130]) <= recall_removed(spot)
    remember(spot, newest_first[:2])
    assert recall(spot) == Seen(frozenset(newest_first[:2]))
    moved = Spot(spot.app, kind, "offsite", "elsewhere")
    assert (recall(moved), recall_removed(moved)) == (Seen(), frozenset())
