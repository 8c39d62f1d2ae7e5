"""Garbage: what dead runs left goes, late and never in doubt; and a good backup is never taken for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Completed, Running, Scheduled
from prefect.variables import Variable

import tasks.garbage
from blocks import App, LocalDestination
from blocks.signing_key import keyring
from flows.backup import backup
from flows.prune import PruneRefused, PruneResult, prune
from tasks.garbage import Garbage
from tasks.seen import Spot, recall_orphans, remember_orphans
from tests.flows.committed import commit, put
from tests.flows.conftest import Sample
from vault.catalog import Catalog
from vault.errors import AccessDenied, ConfigError, DestinationUnavailable, KeptByLock
from vault.record import BackupId, BackupType, artifact_key, utc
from vault.retention import RetentionPolicy
from vault.store import StoredObject

DAY = timedelta(hours=25)
KEEP = RetentionPolicy(keep_last=9)


def left(sample: Sample, days: float = 3, kind: BackupType = "files", app: str = "", where: str = "backups") -> str:
    """The id of what a run of that day left when it was killed: an artifact."""
    at = datetime.now(UTC) - timedelta(days=days)
    place, backup_id = sample.destination(where), BackupId.new(at, kind)
    key = artifact_key(app or sample.name, backup_id, "gone", "tar.zst.age")
    put(place, key, b"content")
    os.utime(place.root / key, (at.timestamp(), at.timestamp()))
    return str(backup_id)


def lies(sample: Sample, backup_id: str, app: str = "") -> set[str]:
    """What is there of a backup, by what follows its id."""
    found = (sample.destination().root / (app or sample.name)).glob(f"{backup_id}*")
    return {path.name.removeprefix(f"{backup_id}.") for path in found}


def name(sample: Sample) -> str:
    return f"{sample.name}-backups"


def seen(sample: Sample, *ids: str, ago: timedelta = DAY, app: str = "", kind: BackupType = "files") -> None:
    """As if a run had seen them without a record then."""
    since = dict.fromkeys(map(BackupId.parse, ids), datetime.now(UTC) - ago)
    remember_orphans(Spot(app or sample.name, kind, name(sample), sample.destination().location), since)


def remembered(sample: Sample) -> dict[BackupId, datetime]:
    return recall_orphans(Spot(sample.name, "files", name(sample), sample.destination().location))


def pruned(sample: Sample, **how: Any) -> PruneResult:
    return prune(**{"app": sample.name, "orphans": True, **how})


def why(result: PruneResult) -> list[str]:
    return [row["why"] for one in result.pruned if one.garbage for row in one.garbage.rows()]


@pytest.mark.law(4)
@pytest.mark.fault("D10", "K06")
def test_what_has_no_record_goes_a_day_after_it_was_first_seen_so_and_not_before(sample: Sample) -> None:
    old = left(sample, days=40)
    backup(app=sample.name, type="files")
    first = remembered(sample)
    assert [*map(str, first)] == [old]
    backup(app=sample.name, type="files", keep=KEEP)
    assert (lies(sample, old), remembered(sample)) == ({"gone.tar.zst.age"}, first), "however old it is"
    row = next(row for row in sample.retention() if row["backup"] == old)
    assert row["stays"]
    assert str(row["why"]).startswith(f"no record, as was first seen {utc(first[BackupId.parse(old)])[:10]}")
    seen(sample, old)
    backup(app=sample.name, type="files", keep=KEEP)
    assert (lies(sample, old), remembered(sample)) == (set(), {})
    assert not next(row for row in sample.retention() if row["backup"] == old)["stays"]


@pytest.mark.fault("X03")
def test_what_was_written_within_a_day_stays_whenever_it_was_seen(sample: Sample) -> None:
    young = left(sample, days=0.5)
    seen(sample, young)
    pruned(sample)
    assert lies(sample, young)


def test_where_the_memory_is_lost_or_is_of_another_place_the_grace_begins_anew(sample: Sample) -> None:
    old = left(sample)
    for value in (None, {"location": "elsewhere", "since": {old: "2026-01-01T00:00:00Z"}}, ["nonsense"]):
        seen(sample, old)
        variable = f"backups-{sample.name}-files-{name(sample)}_orphans"
        if value is None:
            Variable.unset(variable)
        else:
            Variable.set(variable, value, overwrite=True)
        pruned(sample)
        assert lies(sample, old)
        assert remembered(sample)[BackupId.parse(old)] > datetime.now(UTC) - timedelta(hours=1)


@pytest.mark.law(4)
@pytest.mark.fault("D11", "D10")
def test_while_retention_is_held_nothing_goes_and_afterwards_the_grace_begins_anew(sample: Sample) -> None:
    old = left(sample)
    made = commit(sample.destination(), sample.name, keyring().signer, {"x": b"x"}, datetime.now(UTC) - DAY)
    record = sample.destination().root / made.key
    whole = record.read_bytes()
    record.write_bytes(whole[:-40])
    upload = sample.destination().upload(f"{sample.name}/20200101T000000Z-files-aaaaaa.x.tar")
    (unfinished,) = (sample.destination().root / sample.name).glob("*20200101*")
    os.utime(unfinished, (1, 1))
    for keep in (KEEP, None):
        seen(sample, old)
        backup(app=sample.name, type="files", keep=keep)
        assert (lies(sample, old), remembered(sample)) == ({"gone.tar.zst.age"}, {})
    assert "cannot be believed" in next(str(row["why"]) for row in sample.retention() if row["backup"] == old)
    seen(sample, old)
    with pytest.raises(PruneRefused, match="cannot be believed"):
        pruned(sample, dry_run=True)
    assert remembered(sample), "a dry run changes nothing"
    assert unfinished.exists(), "that is garbage, too"
    record.write_bytes(whole)
    seen(sample, old, ago=timedelta(hours=1))
    pruned(sample)
    assert lies(sample, old)
    assert not unfinished.exists()
    upload.abort()


@pytest.mark.law(4)
@pytest.mark.fault("D10", "T14")
def test_before_each_removal_the_destination_is_asked_for_the_record_itself(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = datetime.now(UTC) - timedelta(days=3)
    made = commit(sample.destination(), sample.name, keyring().signer, {"x": b"x"}, at)
    for path in (sample.destination().root / sample.name).iterdir():
        os.utime(path, (at.timestamp(), at.timestamp()))
    other = left(sample, days=2)
    seen(sample, made.id, other)
    real = LocalDestination.list

    def short(self: LocalDestination, prefix: str) -> Iterator[StoredObject]:
        return (stored for stored in real(self, prefix) if stored.key != made.key)

    monkeypatch.setattr(LocalDestination, "list", short)
    with pytest.raises(PruneRefused, match="which it did not list: its listing is not whole"):
        pruned(sample)
    assert lies(sample, made.id) == {"json", "x.tar.age"}
    assert lies(sample, other), "who lies once is not believed any more"
    assert remembered(sample) == {}
    seen(sample, made.id, other)
    run = backup(app=sample.name, type="files")
    assert any("its listing is not whole" in said for said in run.warnings)
    assert lies(sample, made.id) == {"json", "x.tar.age"}


@pytest.mark.fault("D08")
@pytest.mark.parametrize("strange", ["json.bak", "json.gone", "gone.tar.zst.age.old", "notes.txt", "gone.zip"])
def test_what_we_did_not_write_never_goes_and_keeps_what_lies_beside_it(sample: Sample, strange: str) -> None:
    old = left(sample)
    path = sample.destination().root / sample.name / f"{old}.{strange}"
    path.write_bytes(b"mine")
    os.utime(path, (1, 1))
    seen(sample, old)
    assert f"beside it lies what we did not write ({path.name})" in why(pruned(sample))[0]
    assert lies(sample, old) == {"gone.tar.zst.age", strange}
    path.unlink()
    pruned(sample)
    assert lies(sample, old), "the grace begins now"
    seen(sample, old)
    pruned(sample)
    assert lies(sample, old) == set()


def test_a_pinned_backup_that_lost_its_record_stays(sample: Sample) -> None:
    old = left(sample)
    put(sample.destination(), f"{sample.name}/{old}.pinned", b"{}")
    os.utime(sample.destination().root / sample.name / f"{old}.pinned", (1, 1))
    seen(sample, old)
    assert why(pruned(sample)) == ["no record, but pinned: what is left of it stays"]
    assert lies(sample, old) == {"gone.tar.zst.age", "pinned"}


# -- runs that still go on


@contextmanager
def going_on(flow_name: str, state: Any = None, **parameters: Any) -> Iterator[None]:
    """Within, a run of that flow goes on in Prefect's books, or is in *state*; it has begun now."""

    @flow(name=flow_name)
    def run(**parameters: Any) -> None: ...

    with get_client(sync_client=True) as client:
        made = client.create_flow_run(run, parameters=parameters, name=f"a {flow_name}")
        for one in filter(None, (Running(), state)):
            client.set_flow_run_state(made.id, one, force=True)
        try:
            yield
        finally:
            client.set_flow_run_state(made.id, Completed(), force=True)


def collect(sample: Sample, days: float, app: str = "") -> list[str]:
    """What is said of each orphan in a run of so many days later."""
    catalog = Catalog(sample.destination(), app or sample.name, keyring().trust)
    now = datetime.now(UTC) + timedelta(days=days)
    done = Garbage(catalog, catalog.history(), "files", name(sample)).collect(now, now)
    return [row["why"] for row in done.rows()]


@pytest.mark.fault("X03", "X06")
@pytest.mark.parametrize("state", [None, Scheduled(name="AwaitingRetry")], ids=["running", "to be tried again"])
def test_what_a_run_that_takes_more_than_a_day_has_made_stays_until_it_ends(sample: Sample, state: Any) -> None:
    older = left(sample, days=3)
    with going_on("backup", state, app=sample.name):
        own = left(sample, days=0)
        seen(sample, older, own)
        assert collect(sample, days=2)[0] == "no record; run a backup still goes on"
        assert (lies(sample, older), lies(sample, own)) == (set(), {"gone.tar.zst.age"}), "older ones are not its"
    collect(sample, days=2)
    assert lies(sample, own), "the grace begins when it has ended"
    collect(sample, days=3.5)
    assert lies(sample, own) == set()


@pytest.mark.fault("X03")
def test_only_runs_that_may_own_it_keep_it(sample: Sample) -> None:
    old = left(sample, days=3)
    with going_on("copy", backup=old[-6:], origin="x", destinations=["y"]):
        seen(sample, old)
        assert why(pruned(sample)) == ["no record; run a copy still goes on"]
    with (
        going_on("backup", app=f"{sample.name}-2"),
        going_on("copy", backup="20200101", origin="x", destinations=["y"]),
        going_on("restore", app=sample.name, destination="x"),
    ):
        old = left(sample, days=0)
        seen(sample, old)
        collect(sample, days=2)
    assert lies(sample, old) == set()


@pytest.mark.fault("X03")
def test_what_a_restore_backs_up_first_stays_while_it_goes_on(sample: Sample) -> None:
    app = f"{sample.name}-before-restore"
    with going_on("restore", app=sample.name, destination="x"):
        old = left(sample, days=0, app=app)
        seen(sample, old, app=app)
        assert collect(sample, 2, app) == ["no record; run a restore still goes on"]
    collect(sample, 2, app)
    collect(sample, 3.5, app)
    assert lies(sample, old, app) == set()


@pytest.mark.fault("X03", "D07")
def test_an_unfinished_upload_stays_while_a_run_goes_on_that_is_older_than_a_day(sample: Sample) -> None:
    upload = sample.destination().upload(f"{sample.name}/20200101T000000Z-files-aaaaaa.x.tar")
    (partial,) = (sample.destination().root / sample.name).iterdir()
    os.utime(partial, (1, 1))
    with going_on("backup", app="another"):
        collect(sample, days=2)
        assert partial.exists()
        collect(sample, days=0)
    assert not partial.exists(), "what nobody has written to for a day is not that of a younger run"
    upload.abort()


@pytest.mark.fault("O02")
def test_where_prefect_cannot_be_asked_nothing_goes_and_the_backup_is_good(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = left(sample)
    seen(sample, old)

    def down() -> None:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(tasks.garbage, "living_runs", down)
    assert backup(app=sample.name, type="files").warnings == ()
    assert "Prefect does not say what was seen" in why(pruned(sample))[0]
    assert lies(sample, old)


# -- how many, of what, and by whom


def test_a_run_touches_only_what_is_of_its_own_type(sample: Sample) -> None:
    database = left(sample, kind="database")
    seen(sample, database, kind="database")
    backup(app=sample.name, type="files")
    assert lies(sample, database)
    pruned(sample, type="files")
    assert lies(sample, database)
    pruned(sample)
    assert lies(sample, database) == set()


@pytest.mark.fault("Z11")
def test_more_than_ten_at_once_stay_until_a_person_allows_it(sample: Sample) -> None:
    ids = [left(sample, days=3 + number) for number in range(11)]
    seen(sample, *ids)
    run = backup(app=sample.name, type="files", keep=KEEP)
    assert all(lies(sample, one) for one in ids)
    assert run.warnings == ()
    assert "11 would go at once, more than 10: backups prune APP --orphans --max-deletes 11" in why(pruned(sample))[0]
    pruned(sample, max_deletes=11)
    assert not any(lies(sample, one) for one in ids)


@pytest.mark.fault("D16")
@pytest.mark.parametrize(
    ("error", "asked", "says"),
    [
        (KeptByLock, 2, "kept by a lock: locked until"),
        (AccessDenied, 1, "may not be removed: locked until"),
        (DestinationUnavailable, 1, "nothing more was removed: locked until"),
    ],
)
def test_what_a_destination_does_not_let_go_stays_and_is_said(
    sample: Sample, monkeypatch: pytest.MonkeyPatch, error: type[Exception], asked: int, says: str
) -> None:
    ids = [left(sample, days=days) for days in (4, 3)]
    seen(sample, *ids)
    calls, real = list[str](), LocalDestination.remove

    def remove(self: LocalDestination, key: str) -> None:
        if key.startswith("probe/"):
            return real(self, key)
        calls.append(key)
        raise error("locked until 2027-01-01")

    monkeypatch.setattr(LocalDestination, "remove", remove)
    run = backup(app=sample.name, type="files", keep=KEEP)
    assert len(calls) == asked
    rows = [row for row in sample.retention() if row["backup"] in ids]
    assert all(row["stays"] and says in str(row["why"]) for row in rows)
    assert len(rows) == 2
    assert bool(run.warnings) == (error is DestinationUnavailable)


def test_an_app_that_is_not_saved_is_pruned_where_something_of_it_lies(sample: Sample) -> None:
    app = f"{sample.name}-before-restore"
    old = left(sample, app=app)
    days = [datetime.now(UTC) - timedelta(days=days) for days in (3, 2, 1)]
    made = [commit(sample.destination(), app, keyring().signer, {"x": b"x"}, day).id for day in days]
    seen(sample, old, app=app)
    place = [f"local-destination/{name(sample)}"]
    shown = pruned(sample, app=app, destinations=place, dry_run=True)
    assert shown.pruned[0].judged is None
    assert shown.as_json()["places"][0]["orphans"][0] | {"why": ""} == {
        "destination": name(sample),
        "backup": old,
        "size": 7,
        "stays": False,
        "why": "",
    }
    assert lies(sample, old, app)
    with pytest.raises(ConfigError, match="are to stay"):
        prune(app=app, destinations=place)
    prune(app=app, destinations=place, keep=RetentionPolicy(keep_last=2))
    assert [bool(lies(sample, one, app)) for one in (old, *made)] == [False, False, True, True]
    with pytest.raises(ConfigError, match=f"no app {sample.name}-typo is saved, and nothing of it lies at"):
        pruned(sample, app=f"{sample.name}-typo", destinations=place)


def test_an_app_whose_source_is_gone_is_rid_of_its_garbage_all_the_same(sample: Sample) -> None:
    App.load(sample.name).model_copy(update={"sources": ["directory/no-such"]}).save(sample.name, overwrite=True)
    old = left(sample)
    seen(sample, old)
    pruned(sample)
    assert lies(sample, old) == set()


def test_a_look_changes_nothing(sample: Sample) -> None:
    old = left(sample)
    result = pruned(sample, dry_run=True)
    assert why(result)[0].startswith("no record, as was first seen")
    assert remembered(sample) == {}
    place = sample.destination()
    catalog = Catalog(place, sample.name, keyring().trust)
    now = datetime.now(UTC)
    assert Garbage(catalog, catalog.history(), "files", name(sample)).look(now).going == 0
    seen(sample, old)
    assert Garbage(catalog, catalog.history(), "files", name(sample)).look(now).going == 1
    assert lies(sample, old)
