"""Several schedules of one app at one destination: none of them deletes what another one keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient

from blocks import App
from blocks.signing_key import keyring
from deployments import POOL
from deployments import schedules as kept
from flows.backup import backup
from flows.prune import prune
from tasks import schedules
from tasks.schedules import Schedule, When
from tasks.schedules import found as all_schedules
from tests.flows.committed import commit
from tests.flows.conftest import Sample
from vault.record import BackupId
from vault.retention import RetentionPolicy

LAST_TWO = RetentionPolicy(keep_last=2)
MONTHS = {"keep_monthly": 12}


@pytest.fixture
def old(sample: Sample) -> Iterator[list[BackupId]]:
    """The last backups of two months, and three of one recent day; no schedule of the app is left behind."""
    noon = datetime.now(UTC).replace(hour=12, minute=0)
    ages = [timedelta(days=100), timedelta(days=60), *(timedelta(days=2, hours=hours) for hours in (3, 2, 1))]
    yield [made(sample, noon - age) for age in ages]
    for schedule in all_schedules(late=False):
        if schedule.app == sample.name:
            kept.remove(schedule.name)


def made(sample: Sample, at: datetime) -> BackupId:
    content = {f"{sample.name}-files": b"x" * 99}
    return commit(sample.destination(), sample.name, keyring().signer, content, at).backup_id


def scheduled(sample: Sample, name: str, *, active: bool = True, **parameters: Any) -> Schedule:
    schedule = Schedule(
        f"{sample.name}-{name}", (When("30 2 * * *"),), {"app": sample.name, **parameters}, active=active
    )
    kept.add(schedule, POOL)
    return schedule


def there(sample: Sample) -> list[BackupId]:
    return [record.backup_id for record in sample.history().records]


def why(sample: Sample, backup_id: BackupId) -> str:
    (row,) = [row for row in sample.retention() if row["backup"] == str(backup_id)]
    return str(row["why"])


@pytest.mark.law(4)
@pytest.mark.fault("X02")
def test_a_run_of_one_schedule_deletes_nothing_that_another_one_keeps(sample: Sample, old: list[BackupId]) -> None:
    scheduled(sample, "hourly", type="files", keep={"keep_last": 2})
    scheduled(sample, "monthly", type="files", keep=MONTHS)
    result = backup(app=sample.name, type="files", keep=LAST_TWO)
    assert result.warnings == ()
    new = BackupId.parse(result.id)
    assert there(sample) == [*old[:2], old[4], new]
    assert why(sample, old[0]) == f"monthly {old[0].created_at:%Y-%m} (schedule {sample.name}-monthly)"
    assert why(sample, old[4]).endswith(f"last 2 of 2 (schedule {sample.name}-hourly)")


@pytest.mark.law(4)
def test_a_run_by_hand_deletes_nothing_that_a_paused_schedule_keeps(sample: Sample, old: list[BackupId]) -> None:
    App.load(sample.name).model_copy(update={"keep_last": 1}).save(sample.name, overwrite=True)
    scheduled(sample, "monthly", active=False, type="files", keep=MONTHS)
    result = backup(app=sample.name, type="files")
    assert there(sample)[:2] == old[:2]
    assert old[2] not in there(sample)
    assert why(sample, BackupId.parse(result.id)).startswith("floor 1 of 1, last 1 of 1, monthly ")


@pytest.mark.law(4)
def test_what_a_schedule_without_a_policy_makes_is_kept_too(sample: Sample, old: list[BackupId]) -> None:
    scheduled(sample, "for-ever", type="files")
    result = backup(app=sample.name, type="files", keep=LAST_TWO)
    assert there(sample) == [*old, BackupId.parse(result.id)]
    assert why(sample, old[0]) == f"all (schedule {sample.name}-for-ever)"


def test_schedules_of_another_type_destination_or_app_keep_nothing_here(sample: Sample, old: list[BackupId]) -> None:
    scheduled(sample, "database", type="database", keep=MONTHS)
    scheduled(sample, "whole", keep=MONTHS)
    scheduled(sample, "elsewhere", type="files", destinations=[sample.add_destination("other")], keep=MONTHS)
    result = backup(app=sample.name, type="files", keep=LAST_TWO)
    assert there(sample) == [old[4], BackupId.parse(result.id)]


def test_of_a_schedule_what_it_says_of_that_destination_counts(sample: Sample, old: list[BackupId]) -> None:
    here = f"{sample.name}-backups"
    scheduled(sample, "monthly", type="files", keep={"keep_last": 1}, keep_at={here: MONTHS})
    backup(app=sample.name, type="files", keep=LAST_TWO)
    assert there(sample)[:2] == old[:2]


@pytest.mark.law(4)
def test_where_prefect_does_not_say_which_schedules_there_are_nothing_is_deleted(
    sample: Sample, old: list[BackupId], monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduled(sample, "monthly", type="files", keep=MONTHS)

    def down(*_: object, **__: object) -> None:
        raise httpx.ConnectError("nobody is there")

    with monkeypatch.context() as patch:
        patch.setattr(SyncPrefectClient, "read_deployments", down)
        result = backup(app=sample.name, type="files", keep=LAST_TWO)
    assert len(result.warnings) == 1
    assert "nothing is deleted: Prefect does not say which other schedules" in result.warnings[0]
    assert there(sample) == [*old, BackupId.parse(result.id)]


def test_the_other_schedules_are_asked_for_once_in_a_run_and_only_where_something_may_go(
    sample: Sample, old: list[BackupId], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, real = [], SyncPrefectClient.read_deployments

    def counted(self: SyncPrefectClient, **filters: Any) -> Any:
        asked.append(filters)
        return real(self, **filters)

    both = [f"local-destination/{sample.name}-backups", sample.add_destination("other")]
    monkeypatch.setattr(SyncPrefectClient, "read_deployments", counted)
    backup(app=sample.name, type="files", destinations=both)
    assert asked == [], "without a policy there is nothing to ask"
    backup(app=sample.name, type="files", destinations=both, keep=LAST_TWO)
    assert len(asked) == 1


@pytest.mark.law(4)
def test_a_schedule_that_is_removed_while_the_list_is_read_page_by_page_hides_no_other_one(
    sample: Sample, old: list[BackupId], monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {one.name for one in all_schedules(late=False)}
    names = [scheduled(sample, letter, type="files", keep=MONTHS).name for letter in "abcde"]
    real = SyncPrefectClient.read_deployments

    def read(self: SyncPrefectClient, **how: Any) -> Any:
        page = real(self, **how)
        if names[0] in [one.name for one in page] and names[0] in left:
            left.remove(names[0])
            kept.remove(names[0])
        return page

    left = set(names)
    monkeypatch.setattr(schedules, "_PAGE", 2)
    monkeypatch.setattr(SyncPrefectClient, "read_deployments", read)
    found = [one.name for one in all_schedules(late=False)]
    assert sorted(found) == sorted([*others, *names[1:]])


@pytest.mark.law(4)
def test_by_hand_too_what_any_schedule_keeps_stays_whatever_else_is_asked_for(
    sample: Sample, old: list[BackupId]
) -> None:
    hourly = scheduled(sample, "hourly", type="files", keep={"keep_last": 2})
    monthly = scheduled(sample, "monthly", type="files", keep=MONTHS)
    prune(app=sample.name, keep=RetentionPolicy(keep_last=1), dry_run=True)
    assert [row["stays"] for row in sample.retention()] == [True, True, False, True, True]
    assert why(sample, old[3]) == f"last 2 of 2 (schedule {hourly.name})"
    prune(app=sample.name)
    assert there(sample) == [*old[:2], *old[3:]]
    prune(app=sample.name, keep=RetentionPolicy(keep_last=1), instead_of=[monthly.name])
    assert there(sample) == old[3:]
    kept.change(replace(hourly, parameters={**hourly.parameters, "keep": {"keep_last": 1}}, pool=POOL))
    kept.remove(monthly.name)
    prune(app=sample.name)
    assert there(sample) == old[4:]
