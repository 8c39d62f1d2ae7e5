"""How many backups go at once: what is locked does not count, and what waited for its lock goes bit by bit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from blocks import LocalDestination
from blocks.destinations.base import Destination
from blocks.signing_key import keyring
from flows.backup import backup
from flows.prune import PruneRefused, PruneResult, prune
from tests.destinations.b2 import Place, locked
from tests.destinations.test_b2_backup import to_bucket
from tests.flows.committed import commit
from tests.flows.conftest import Sample
from tests.peers.s3 import moto
from vault.catalog import Catalog
from vault.errors import AccessDenied, KeptByLock
from vault.record import BackupId
from vault.retention import RetentionPolicy

__all__ = ["locked", "moto"]

KEEP = RetentionPolicy(keep_last=7)
ONE = RetentionPolicy(keep_last=1)


def nights(sample: Sample, place: Destination, first: int, last: int) -> list[BackupId]:
    """A backup for each day from *first* days ago to *last* days ago."""
    now, content = datetime.now(UTC), {f"{sample.name}-files": b"x" * 100_000}
    return [
        commit(place, sample.name, keyring().signer, content, now - timedelta(days=days)).backup_id
        for days in range(first, last - 1, -1)
    ]


def there(sample: Sample, place: Destination) -> list[BackupId]:
    return [record.backup_id for record in Catalog(place, sample.name, keyring().trust).history().records]


def only(result: PruneResult) -> list[str]:
    """What was deleted at the one place."""
    (place,) = result.as_json()["places"]
    return list(place["deleted"])


class Denies:
    """What a destination does not let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: type[AccessDenied] | None = None
        self.asked = 0
        real = LocalDestination.remove

        def remove(store: LocalDestination, key: str) -> None:
            if self.error is None or key.startswith("probe/"):
                return real(store, key)
            self.asked += 1
            raise self.error(f"{key} is kept")

        monkeypatch.setattr(LocalDestination, "remove", remove)


@pytest.fixture
def denies(monkeypatch: pytest.MonkeyPatch) -> Denies:
    return Denies(monkeypatch)


@pytest.mark.law(4)
@pytest.mark.fault("D16")
def test_more_than_ten_that_an_object_lock_keeps_refuse_nothing_and_those_whose_lock_has_ended_go(
    sample: Sample, locked: Place
) -> None:
    free, destination = locked.destination(), locked.destination(object_lock_days=30)
    to_bucket(sample, destination)
    ended, kept = nights(sample, free, 33, 31), nights(sample, destination, 30, 1)
    del locked.proxy.calls[:]
    result = backup(app=sample.name, type="files", keep=KEEP)
    assert result.warnings == ()
    assert there(sample, destination) == [*kept, BackupId.parse(result.id)]
    why = {row["backup"]: (row["stays"], str(row["why"])) for row in sample.retention()}
    until = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"
    for backup_id in kept[:-6]:
        assert why[str(backup_id)][0]
        assert why[str(backup_id)][1].startswith(f"locked until {until}")
    assert not any(why[str(backup_id)][0] for backup_id in ended)
    deleted = [call.path for call in locked.proxy.calls if call.operation == "DeleteObject"]
    assert not any(str(backup_id) in key for backup_id in kept for key in deleted), "what is locked is not asked for"


@pytest.mark.law(4)
@pytest.mark.fault("D16", "Z11")
def test_what_a_lock_once_kept_goes_at_most_ten_at_once_when_it_has_ended_and_nobody_is_asked(
    sample: Sample, denies: Denies
) -> None:
    place = sample.destination()
    old = nights(sample, place, 16, 1)
    denies.error = KeptByLock
    with pytest.raises(PruneRefused, match="would delete 15 backups at once"):
        prune(app=sample.name, keep=ONE)
    assert only(prune(app=sample.name, keep=ONE, max_deletes=15)) == []
    denies.error = None
    result = backup(app=sample.name, type="files", keep=ONE)
    assert result.warnings == ()
    assert there(sample, place) == [*old[10:], BackupId.parse(result.id)]
    later = [row for row in sample.retention() if row["backup"] == str(old[10])]
    assert [(row["stays"], row["why"]) for row in later] == [(True, "goes with one of the next runs: 10 at once")]
    again = backup(app=sample.name, type="files", keep=ONE)
    assert there(sample, place) == [BackupId.parse(again.id)]
    nights(sample, place, 29, 18)
    assert "would delete 13" in backup(app=sample.name, type="files", keep=ONE).warnings[0], "the bound holds again"


@pytest.mark.law(4)
@pytest.mark.fault("D16")
def test_an_account_that_may_only_add_is_asked_once_a_run_and_the_runs_succeed(sample: Sample, denies: Denies) -> None:
    old = nights(sample, sample.destination(), 13, 1)
    denies.error = AccessDenied
    prune(app=sample.name, keep=ONE, max_deletes=12)
    denies.asked = 0
    result = backup(app=sample.name, type="files", keep=ONE)
    assert (result.warnings, denies.asked) == ((), 1)
    assert there(sample, sample.destination()) == [*old, BackupId.parse(result.id)]
    assert all("may not be deleted" in str(row["why"]) for row in sample.retention()[1:])


@pytest.mark.law(4)
@pytest.mark.fault("Z11")
def test_a_dry_run_shows_the_plan_that_would_be_refused_and_says_how_to_allow_it(sample: Sample) -> None:
    old = nights(sample, sample.destination(), 13, 1)
    result = prune(app=sample.name, keep=ONE, dry_run=True)
    (place,) = result.as_json()["places"]
    assert place["would_be_refused"] == (
        "the policy would delete 12 backups at once, more than 10."
        f" If that is right: backups prune {sample.name} --max-deletes 12"
    )
    assert [row["stays"] for row in place["backups"]] == [True, *[False] * 12]
    assert len(sample.retention()) == 13
    (allowed,) = prune(app=sample.name, keep=ONE, max_deletes=12, dry_run=True).as_json()["places"]
    assert allowed["would_be_refused"] is None
    assert there(sample, sample.destination()) == old
