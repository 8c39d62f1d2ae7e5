"""``backups watch``: what should be at a destination and is not, is told."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.api import free_port
from tests.cli.conftest import Command
from tests.cli.test_schedules import NIGHTLY, shop
from tests.flows.committed import commit

__all__ = ["shop"]


@pytest.mark.law(12)
def test_a_backup_that_was_due_and_is_not_there_is_an_alarm(command: Command, shop: str, tmp_path: Path) -> None:
    from flows.watch import Overdue, refuse
    from tasks.watch import look

    command("schedule", "add", shop, "--to", "sch-disk", "--to", "sch-other", *NIGHTLY, "--name", "sch-nightly")
    assert "sch-nightly" in command("watch").out, "nothing was due since it was made"
    now = datetime.now(UTC)
    later = now + timedelta(days=2)
    assert {one.problem.partition(":")[0] for one in look(later)} == {"no valid backup is there"}
    made = command("run", shop, "--to", "sch-disk", "--json").json["id"]
    with pytest.raises(Overdue, match="2 of 2"):
        refuse(look(later))
    found = {one.destination: one for one in look(later)}
    assert found["sch-disk"].newest == made
    assert found["sch-disk"].problem.startswith("the newest valid backup is older: one was due at")
    assert found["sch-other"].problem.startswith("no valid backup is there")
    # A time before this backup, which it was made for.
    command("schedule", "update", "sch-nightly", "--cron", f"{now.minute} {now.hour} * * *", "--timezone", "UTC")
    due = {one.destination: one.problem for one in look(now + timedelta(hours=4))}
    assert due["sch-disk"] == ""
    tomorrow = now + timedelta(days=1, hours=4)
    assert all(one.problem for one in look(tomorrow))
    command("schedule", "update", "sch-nightly", "--grace-hours", "5")
    assert not any(one.problem for one in look(tomorrow)), "its own grace"
    command("schedule", "update", "sch-nightly", "--cron", f"{now.minute} {now.hour} * * *")
    assert command("schedule", "show", "sch-nightly", "--json").json["grace_hours"] == 5
    for bad in ("0", "-1", "nan", "9999"):
        assert "hours cannot be" in command("schedule", "update", "sch-nightly", "--grace-hours", bad, code=2).err

    shutil.rmtree(tmp_path / "other")
    told = command("watch", code=1)
    assert "sch-nightly at sch-other:" in told.err
    assert "1 of 2" in told.err
    assert [one["destination"] for one in command("watch", "--json", code=1).json if one["problem"]] == ["sch-other"]


@pytest.mark.law(12)
def test_nothing_at_all_that_is_scheduled_is_an_alarm_and_says_who_was_asked(
    command: Command, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.watch import Overdue, watch

    url = os.environ["PREFECT_API_URL"]
    told = command("watch", "--once", code=1)
    assert "no schedule is active: nothing is backed up by itself" in told.err
    assert f"Asked was Prefect's API at {url}." in told.err
    assert command("watch", "--allow-none", "--json").json == []
    with pytest.raises(Overdue, match="no schedule is active"):
        watch()
    assert watch(allow_none=True) == []
    command("schedule", "add", shop, *NIGHTLY, "--name", "sch-nightly")
    command("schedule", "pause", "sch-nightly")
    paused = command("watch", code=1).err
    assert "no schedule is active" in paused
    assert f"Schedule sch-nightly of app {shop} is paused, since {datetime.now(UTC):%Y-%m-%d}" in paused


def test_the_embedded_api_is_named_with_its_database_and_no_address_with_its_login(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from cli.api import api_in_words

    monkeypatch.setenv("PREFECT_API_URL", "https://who:canary@prefect.example.org:4200/api")
    assert api_in_words() == "Prefect's API at https://prefect.example.org:4200/api"
    monkeypatch.delenv("PREFECT_API_URL")
    assert api_in_words().startswith("Prefect's embedded API, with the database /")


@pytest.mark.law(12)
@pytest.mark.fault("Z02", "D09")
def test_a_backup_from_the_future_or_without_its_files_is_told_and_hides_nothing(
    command: Command, shop: str, tmp_path: Path
) -> None:
    from blocks.destinations import destination_from
    from blocks.signing_key import keyring
    from tasks.watch import lines, look

    command("schedule", "add", shop, "--to", "sch-disk", *NIGHTLY, "--name", "sch-nightly")
    first = command("run", shop, "--json").json["id"]
    signer, disk = keyring().signer, destination_from("sch-disk")
    future = commit(disk, shop, signer, {"sch-shop-data": b"old"}, datetime(2043, 1, 1, tzinfo=UTC))
    remedy = command("watch", code=1).err
    assert f"backup {future.id} is from the future, and does not count" in remedy
    assert f"remove {future.id}.* there by hand" in remedy
    (found,) = look(datetime.now(UTC) + timedelta(days=2))
    assert found.newest == first
    assert "the newest valid backup is older: one was due at" in found.problem
    rows = {one["id"]: one for one in command("list", shop, "--from", "sch-disk", "--json").json}
    assert (rows[future.id]["status"], rows[first]["status"]) == ("future", "success")
    assert "is from the future" in command("list", shop, "--from", "sch-disk").err
    restored = command("restore", shop, "latest", "--to", tmp_path / "restored")
    assert f"passed over: backup {future.id} is from the future" in restored.err
    assert (tmp_path / "restored/file").read_text() == "content"
    for path in (tmp_path / "disk" / shop).glob(f"{future.id}*"):
        path.unlink()

    newer = command("run", shop, "--json").json["id"]
    for path in (tmp_path / "disk" / shop).glob(f"{newer}.*.tar*"):
        path.unlink()
    assert f"{newer} is DAMAGED: " in command("watch", code=1).err
    (found,) = look(datetime.now(UTC))
    assert found.newest == first
    assert f"PROBLEM at sch-disk: {newer} is DAMAGED: " in "".join(lines([found], datetime.now(UTC)))


@pytest.mark.fault("O01")
def test_a_prefect_that_is_down_is_an_alarm_too(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    assert "Prefect's API at http://127.0.0.1:" in command("watch", code=1).err


@pytest.mark.parametrize(
    ("cron", "before", "latest"),
    [
        ("30 2 * * *", "2026-11-24T02:30+00:00", "2026-11-23T02:30+00:00"),
        ("0 2 * * 1-5", "2026-11-22T12:00+00:00", "2026-11-20T02:00+00:00"),  # a Sunday
        ("* 2 * * *", "2026-11-24T12:00+00:00", "2026-11-24T02:59+00:00"),
        ("0 0 1 1 *", "2026-11-24T12:00+00:00", "2026-01-01T00:00+00:00"),
        ("0 0 29 2 *", "2026-11-24T12:00+00:00", "2024-02-29T00:00+00:00"),
    ],
)
def test_when_a_run_should_have_begun_last(cron: str, before: str, latest: str) -> None:
    from tasks.schedules import When

    assert When(cron).latest(datetime.fromisoformat(before)) == datetime.fromisoformat(latest)
