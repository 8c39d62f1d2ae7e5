"""A newest backup that is suspiciously small is found, whatever follows it, until a person says that it is right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from vault.record import Artifact, BackupId, BackupRecord, artifact_key, utc
from vault.sizes import ORDINARY, suspiciously_small

GB = 1024**3
NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)


def made(number: int, **sizes: int) -> BackupRecord:
    backup_id = BackupId(NOW + timedelta(days=number), "full", "000000")
    artifacts = tuple(
        Artifact(
            source=source,
            kind="directory",
            key=artifact_key("shop", backup_id, source, "tar"),
            size=1,
            sha256="0" * 64,
            plain_size=size,
            plain_sha256="0" * 64,
            compression="none",
            tool="tar",
            verified="read-back",
            restore_with="tar -x",
        )
        for source, size in sizes.items()
    )
    return BackupRecord(
        id=str(backup_id),
        app="shop",
        type="full",
        created_at=utc(backup_id.created_at),
        completed_at=utc(backup_id.created_at),
        producer={},
        artifacts=artifacts,
    )


def nights(*sizes: int) -> list[BackupRecord]:
    return [made(number, db=size) for number, size in enumerate(sizes)]


@pytest.mark.fault("S14")
@pytest.mark.parametrize(
    ("sizes", "suspicious"),
    [
        ((), False),
        ((5 * GB,), False),
        ((5 * GB, 20_000), True),  # an empty but healthy database where yesterday was 5 GB
        ((5 * GB, 3 * GB), False),
        ((5 * GB, 5 * GB // 2), False),
        ((5 * GB, 5 * GB // 2 - 1), True),
        ((5 * GB, 20_000, 20_000, 20_000, 20_000, 20_000, 20_000, 20_000), True),  # a week of it is no new habit
        ((5 * GB, 20_000, 5 * GB), False),
        ((20_000, 5 * GB, 5 * GB, 5 * GB, 5 * GB, 20_000), True),
        ((ORDINARY - 1, 1), False),
        ((ORDINARY, 1), True),
        (tuple(GB - 60_000_000 * night for night in range(10)), False),  # it shrinks night by night
    ],
)
def test_half_of_the_median_of_the_last_five_is_suspicious(sizes: tuple[int, ...], suspicious: bool) -> None:
    assert bool(suspiciously_small(nights(*sizes), ())) == suspicious


def test_what_a_person_confirmed_is_what_the_next_ones_are_measured_by() -> None:
    records = nights(5 * GB, 5 * GB, GB)
    assert suspiciously_small(records, ())
    confirmed = {records[-1].backup_id}
    assert not suspiciously_small(records, confirmed)
    assert not suspiciously_small(nights(5 * GB, 5 * GB, GB, GB), confirmed)
    assert suspiciously_small(nights(5 * GB, 5 * GB, GB, GB // 3), confirmed)


def test_each_source_is_measured_by_itself_and_the_message_has_the_numbers() -> None:
    records = [made(number, db=GB, files=100 * GB) for number in range(3)] + [made(3, db=70_000, files=100 * GB)]
    (small,) = suspiciously_small(records, ())
    assert (small.source, small.size, small.median) == ("db", 70_000, GB)
    assert "70,000 bytes, less than half of what the last ones had (1,073,741,824)" in str(small)
    assert not suspiciously_small([*records[:3], made(3, files=100 * GB)], ())
