"""Retention in a run and by hand: what stays, what goes, why; and that nothing goes when anything looks odd."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blocks import App, LocalDestination
from blocks.signing_key import keyring
from flows.backup import backup
from flows.prune import PruneRefused, PruneResult, prune
from tasks.seen import Spot, recall_orphans, remember_orphans
from tests.flows.committed import commit
from tests.flows.conftest import Sample
from vault import marks
from vault.errors import AccessDenied, ConfigError, KeptByLock
from vault.record import BackupId
from vault.retention import RetentionPolicy
from vault.store import StoredObject

LAST_TWO = RetentionPolicy(keep_last=2)
GOES = "no rule keeps it, newer backups replace it"


def made(sample: Sample, days_ago: int, size: int = 100_000, where: str = "backups") -> BackupId:
    """A backup of that day, as a run would have left it: its files are as old as it is."""
    at = datetime.now(UTC) - timedelta(days=days_ago)
    content = {f"{sample.name}-files": b"x" * size}
    backup_id = commit(sample.destination(where), sample.name, keyring().signer, content, at).backup_id
    for name in files(sample, backup_id, where):
        os.utime(sample.destination(where).root / sample.name / name, (at.timestamp(), at.timestamp()))
    return backup_id


def files(sample: Sample, backup_id: BackupId, where: str = "backups") -> set[str]:
    """What lies there of a backup, whatever its name."""
    return {path.name for path in (sample.destination(where).root / sample.name).glob(f"{backup_id}*")}


def there(sample: Sample, where: str = "backups") -> list[BackupId]:
    return [record.backup_id for record in sample.history(where).records]


def pruned(sample: Sample, **how: object) -> PruneResult:
    return prune(app=sample.name, **{"keep": LAST_TWO, **how})


def refused(sample: Sample, **how: object) -> str:
    with pytest.raises(PruneRefused) as error:
        pruned(sample, **how)
    return str(error.value)


@pytest.mark.law(4)
def test_a_run_shows_why_each_backup_stays_or_goes_at_each_destination(sample: Sample) -> None:
    other = sample.add_destination("other")
    old = {where: [made(sample, days, where=where) for days in (3, 2, 1)] for where in ("backups", "other")}
    result = backup(
        app=sample.name,
        type="files",
        destinations=[f"local-destination/{sample.name}-backups", other],
        keep=LAST_TWO,
        keep_at={f"{sample.name}-other": RetentionPolicy(keep_last=3)},
    )
    assert result.warnings == ()
    new = BackupId.parse(result.id)
    assert there(sample) == [old["backups"][2], new]
    assert there(sample, "other") == [*old["other"][1:], new]
    rows = {(row["destination"], row["backup"]): row for row in sample.retention()}
    assert len(rows) == 8
    here = f"{sample.name}-backups"
    assert rows[here, str(new)]["why"] == "floor 1 of 1, last 1 of 2"
    gone = rows[here, str(old["backups"][0])]
    assert (gone["stays"], gone["why"]) == (False, GOES)
    assert rows[f"{sample.name}-other", str(old["other"][1])]["why"] == "last 3 of 3"


def test_a_policy_for_a_destination_that_the_run_does_not_have_is_refused(sample: Sample) -> None:
    with pytest.raises(ConfigError, match="keep_at names elsewhere"):
        backup(app=sample.name, keep_at={"elsewhere": LAST_TWO})


@pytest.mark.law(4)
@pytest.mark.fault("S14")
def test_a_backup_that_is_suspiciously_small_is_kept_and_none_is_deleted_until_a_person_confirms_it(
    sample: Sample,
) -> None:
    for days in (4, 3, 2):
        made(sample, days, size=5_000_000)
    empty = backup(app=sample.name, type="files", keep=LAST_TWO)  # 100 kB
    assert any("less than half of what the last ones had (5,000,000)" in said for said in empty.warnings)
    assert any(f"backups confirm {empty.id}" in said for said in empty.warnings)
    again = backup(app=sample.name, type="files")  # keeps all, and says it all the same
    assert any("less than half" in said for said in again.warnings)
    assert len(there(sample)) == 5
    assert f"backups confirm {again.id}" in refused(sample)
    marks.put(sample.destination(), sample.name, BackupId.parse(again.id), "confirmed", keyring().signer)
    assert len(pruned(sample).pruned[0].judged.dropped) == 3  # type: ignore[union-attr]
    assert there(sample) == [BackupId.parse(empty.id), BackupId.parse(again.id)]


@pytest.mark.law(4)
@pytest.mark.fault("T13", "T14")
def test_a_listing_that_shrank_by_itself_stops_all_deletion_until_a_person_accepts_it(sample: Sample) -> None:
    ids = [made(sample, days) for days in (5, 4, 3, 2, 1)]
    pruned(sample, keep=RetentionPolicy(keep_last=4))
    lost = sample.destination().root / sample.name / f"{ids[3]}.json"
    lost.rename(lost.with_suffix(".gone"))
    left = files(sample, ids[3])
    assert f"not listed any more: {ids[3]}" in refused(sample, keep=LAST_TWO)
    assert there(sample) == [ids[1], ids[2], ids[4]]
    assert "not listed any more" in refused(sample, keep=LAST_TWO), "asking again is no answer"
    run = backup(app=sample.name, type="files", keep=RetentionPolicy(keep_last=3))
    assert any(f"not listed any more: {ids[3]}" in said for said in run.warnings)
    assert files(sample, ids[3]) == left, "its artifacts are a good backup, which has lost its record for now"
    pruned(sample, keep=LAST_TWO, accept_missing=True)
    assert there(sample) == [ids[4], BackupId.parse(run.id)]
    pruned(sample, keep=LAST_TWO)
    assert files(sample, ids[3]) == left


@pytest.mark.law(3, 4)
@pytest.mark.fault("D08", "D10", "D11")
@pytest.mark.parametrize("keep", [LAST_TWO, None], ids=["with a policy", "without one"])
def test_a_record_that_rotted_and_was_moved_away_costs_nothing_of_its_backup(
    sample: Sample, keep: RetentionPolicy | None
) -> None:
    ids = [made(sample, days) for days in (3, 2, 1)]
    record = sample.destination().root / sample.name / f"{ids[2]}.json"
    record.write_bytes(record.read_bytes()[:-40])
    backup(app=sample.name, type="files", keep=keep)
    record.rename(record.with_suffix(".json.bak"))
    left = files(sample, ids[2])
    assert len(left) == 2
    for _ in range(2):
        backup(app=sample.name, type="files", keep=keep)
        assert files(sample, ids[2]) == left


@pytest.mark.law(4)
@pytest.mark.fault("T13", "T14", "D10")
def test_a_record_that_a_listing_has_lost_costs_nothing_of_its_backup(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [made(sample, days) for days in (3, 2, 1)]
    left, real = files(sample, ids[1]), LocalDestination.list

    def short(self: LocalDestination, prefix: str) -> Iterator[StoredObject]:
        return (stored for stored in real(self, prefix) if not stored.key.endswith(f"{ids[1]}.json"))

    with monkeypatch.context() as patch:
        patch.setattr(LocalDestination, "list", short)
        pruned(sample, keep=RetentionPolicy(keep_last=9))
        backup(app=sample.name, type="files")
    assert files(sample, ids[1]) == left
    assert ids[1] in there(sample)


@pytest.mark.law(4)
@pytest.mark.fault("T13", "D10")
def test_a_listing_cut_at_a_thousand_costs_nothing_not_even_what_it_shows_without_its_record(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cut falls between an artifact and its record."""
    place, keys, now = sample.destination(), keyring(), datetime.now(UTC)
    for hours in range(24 * 21 + 501, 24 * 21, -1):
        last = commit(place, sample.name, keys.signer, {"db": b"x"}, now - timedelta(hours=hours))
    directory, real = place.root / sample.name, LocalDestination.list
    for path in directory.iterdir():
        os.utime(path, (last.backup_id.created_at.timestamp(), last.backup_id.created_at.timestamp()))
    lies = sorted(path.name for path in directory.iterdir())
    assert lies[1000:] == [f"{last.id}.db.tar.age", f"{last.id}.json"]

    def cut(self: LocalDestination, prefix: str) -> Iterator[StoredObject]:
        return iter(sorted(real(self, prefix), key=lambda stored: stored.key)[:1001])

    spot = Spot(sample.name, "files", f"{sample.name}-backups", place.location)
    all_of_them = RetentionPolicy(keep_last=600)
    with monkeypatch.context() as patch:
        patch.setattr(LocalDestination, "list", cut)
        pruned(sample, keep=all_of_them)
        assert [*recall_orphans(spot)] == [last.backup_id]
        remember_orphans(spot, {last.backup_id: now - timedelta(days=2)})
        assert "its listing is not whole" in refused(sample, keep=all_of_them)
    pruned(sample, keep=all_of_them)
    with monkeypatch.context() as patch:
        patch.setattr(LocalDestination, "list", cut)
        assert f"not listed any more: {last.id}" in refused(sample, keep=all_of_them)
    assert sorted(path.name for path in directory.iterdir()) == lies


@pytest.mark.law(4)
def test_a_pinned_backup_stays_whatever_the_policy_says(sample: Sample) -> None:
    ids = [made(sample, days) for days in (5, 4, 3, 2, 1)]
    marks.put(sample.destination(), sample.name, ids[0], "pinned", keyring().signer)
    assert len(pruned(sample, dry_run=True).pruned[0].judged.plan.drop) == 2  # type: ignore[union-attr]
    assert there(sample) == ids
    pruned(sample)
    assert there(sample) == [ids[0], *ids[3:]]
    assert [row["why"] for row in sample.retention()] == [
        "floor 1 of 1, last 1 of 2",
        "last 2 of 2",
        *[GOES] * 2,
        "pinned",
    ]
    marks.take_back(sample.destination(), sample.name, ids[0], "pinned")
    pruned(sample)
    assert there(sample) == ids[3:]


@pytest.mark.fault("D16")
@pytest.mark.parametrize(("error", "tries"), [(KeptByLock, 3), (AccessDenied, 1)])
def test_what_a_lock_keeps_stays_and_is_said_and_the_run_is_a_success(
    sample: Sample, monkeypatch: pytest.MonkeyPatch, error: type[AccessDenied], tries: int
) -> None:
    old = [made(sample, days) for days in (4, 3, 2)]
    asked, real = list[str](), LocalDestination.remove

    def remove(self: LocalDestination, key: str) -> None:
        if key.startswith("probe/"):
            return real(self, key)
        asked.append(key)
        raise error(f"{key} is locked until 2027-01-01")

    monkeypatch.setattr(LocalDestination, "remove", remove)
    result = backup(app=sample.name, type="files", keep=RetentionPolicy(keep_last=1))
    assert result.warnings == ()
    assert there(sample) == [*old, BackupId.parse(result.id)]
    rows = sample.retention()
    assert [row["stays"] for row in rows] == [True] * 4
    assert all("is locked until 2027-01-01" in str(row["why"]) for row in rows[1:])
    assert len(asked) == tries, "no retry storm"


@pytest.mark.law(4)
@pytest.mark.fault("Z02")
def test_a_destination_whose_clock_differs_is_not_pruned(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [made(sample, days) for days in (3, 2, 1)]
    monkeypatch.setattr(LocalDestination, "clock", lambda _self: datetime.now(UTC) - timedelta(minutes=6))
    assert "clocks here and at the destination differ" in refused(sample)
    assert there(sample) == ids


@pytest.mark.law(4)
@pytest.mark.fault("N10")
def test_another_app_whose_name_begins_alike_is_never_touched(sample: Sample) -> None:
    ids = [made(sample, days) for days in (3, 2, 1)]
    other = [
        commit(sample.destination(), f"{sample.name}-2", keyring().signer, {"f": b"x"}, datetime.now(UTC) - age)
        for age in (timedelta(days=9), timedelta(days=8))
    ]
    pruned(sample, keep=RetentionPolicy(keep_last=1))
    assert there(sample) == ids[2:]
    for record in other:
        assert (sample.destination().root / record.key).exists()


@pytest.mark.fault("Z09")
def test_ten_days_of_failures_cost_none_of_the_backups_before_them(sample: Sample) -> None:
    for days in (13, 12, 11):
        made(sample, days)
    result = pruned(sample, keep=RetentionPolicy(keep_within=timedelta(days=7)))
    assert result.pruned[0].judged.dropped == ()  # type: ignore[union-attr]
    new = backup(app=sample.name, type="files", keep=RetentionPolicy(keep_within=timedelta(days=7)))
    assert there(sample) == [BackupId.parse(new.id)], "and once there is a new one, they go"


def test_by_hand_the_policy_is_what_the_app_says_and_without_one_nothing_is_done(sample: Sample) -> None:
    ids = [made(sample, days) for days in (3, 2, 1)]
    with pytest.raises(ConfigError, match="are to stay"):
        prune(app=sample.name)
    App.load(sample.name).model_copy(update={"keep_last": 1}).save(sample.name, overwrite=True)
    prune(app=sample.name, type="database")
    assert there(sample) == ids
    prune(app=sample.name)
    assert there(sample) == ids[2:]


def test_one_destination_that_fails_does_not_keep_the_others_from_being_pruned(sample: Sample, tmp_path: Path) -> None:
    other = sample.add_destination("other")
    for where in ("backups", "other"):
        for days in (3, 2, 1):
            made(sample, days, where=where)
    (sample.root / "other").rename(tmp_path / "away")
    with pytest.raises(PruneRefused, match="not pruned at 1 of 2") as error:
        pruned(sample, destinations=[f"local-destination/{sample.name}-backups", other])
    (tmp_path / "away").rename(sample.root / "other")
    assert f"{sample.name}-other: " in str(error.value)
    assert len(there(sample)) == 2
