"""Backups through the REST API: listed from all destinations and runs, looked at, pinned and deleted."""

from __future__ import annotations

import shutil
from datetime import timedelta
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from prefect.states import Cancelled, Crashed, Failed, Running, Scheduled

from blocks import LocalDestination
from blocks.signing_key import keyring
from console.listing import LISTING
from flows.prune import PruneRefused, prune
from tests.console.records import at, begin
from tests.flows.committed import commit
from tests.flows.conftest import Sample
from vault.errors import KeptByLock
from vault.record import BackupId, BackupRecord
from vault.retention import RetentionPolicy
from vault.signing import Signer

pytestmark = pytest.mark.usefixtures("alone")


def committed(sample: Sample, day: int, place: str = "backups", app: str = "") -> BackupRecord:
    """A backup of that day, of files."""
    return commit(sample.destination(place), app or sample.name, keyring().signer, {"files": b"content"}, at(day))


def copied(sample: Sample, record: BackupRecord, place: str) -> None:
    """The same at another destination."""
    target = sample.root / place / record.app
    target.mkdir(exist_ok=True)
    for path in (sample.root / "backups" / record.app).glob(f"{record.id}.*"):
        shutil.copy(path, target)


def listed(client: TestClient, **filters: object) -> dict[str, str]:
    """The ids and the status of what is listed, in order."""
    answer = client.get("/api/backups", params=filters)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return {item["id"]: item["status"] for item in answer.json()["items"]}


def test_the_copies_of_a_backup_are_one_row_with_how_each_was_verified(client: TestClient, sample: Sample) -> None:
    sample.add_destination("second")
    record = committed(sample, 1)
    copied(sample, record, "second")
    (found,) = client.get("/api/backups").json()["items"]
    assert (found["id"], found["app"], found["type"], found["status"]) == (record.id, sample.name, "files", "success")
    assert (found["size"], found["encrypted"], found["created_at"]) == (7, False, "2026-11-01T03:00:00Z")
    places = [f"{sample.name}-backups", f"{sample.name}-second"]
    assert [(copy["destination"], copy["verified"]) for copy in found["copies"]] == [
        (place, "server-digest") for place in places
    ]


def test_a_list_is_filtered_and_read_page_by_page_the_newest_first(client: TestClient, sample: Sample) -> None:
    sample.add_destination("second")
    ids = [committed(sample, day).id for day in range(1, 6)][::-1]
    other = committed(sample, 3, "second", app="other").id
    everything = list(listed(client))
    assert sorted(everything) == sorted([*ids, other])
    assert [id for id in everything if id != other] == ids
    pages, cursor = [], None
    while cursor or not pages:
        page = client.get("/api/backups", params={"limit": 4, **({"cursor": cursor} if cursor else {})}).json()
        assert page["total"] == 6
        pages += [item["id"] for item in page["items"]]
        cursor = page["next"]
    assert pages == everything
    assert list(listed(client, app=sample.name)) == ids
    assert list(listed(client, destination=f"{sample.name}-second")) == [other]
    assert list(listed(client, since="2026-11-04T00:00:00+00:00")) == ids[:2]
    assert list(listed(client, type="database")) == []
    assert list(listed(client, q=ids[2][-6:].upper())) == [ids[2]]
    assert list(listed(client, status="failed")) == []
    assert [item["id"] for item in client.get("/api/apps/other/backups").json()["items"]] == [other]
    assert client.get("/api/apps/nosuch/backups").status_code == 404


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=501", "limit"),
        ("limit=0", "limit"),
        ("cursor=../x", "cursor"),
        ("status=good", "status.0"),
        ("since=2026-11-04T00:00:00", "since"),
        ("app=No%20such", "app"),
        ("wahtever=1", "wahtever"),
    ],
)
def test_a_filter_that_cannot_be_is_named(client: TestClient, query: str, field: str) -> None:
    answer = client.get(f"/api/backups?{query}")
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_runs_are_listed_beside_what_they_made(client: TestClient, sample: Sample) -> None:
    second = sample.add_destination("second")
    good, half = committed(sample, 1), committed(sample, 2)
    going = BackupId.new(at(9), "full")
    name = f"{sample.name} full {going}"
    running = begin(sample.name, Running(), name, f"Backup of {sample.name}: dump; 1,500 of 3,000 bytes", type="full")
    both = [f"local-destination/{sample.name}-backups", second]
    begin(
        sample.name,
        Failed(message="backup failed at second\nmore"),
        f"{sample.name} files {half.id}",
        destinations=both,
    )
    begin(sample.name, Failed(message="the hook failed"), f"{sample.name} files {good.id}")
    crashed, cancelled = begin(sample.name, Crashed(message="lost")), begin(sample.name, Cancelled())
    waiting = begin(sample.name, Scheduled())
    later = begin(sample.name, Scheduled(scheduled_time=at(28) + timedelta(days=3650)))
    found = listed(client)
    assert f"run-{later}" not in found
    assert found == {
        str(going): "running",
        half.id: "partial",
        good.id: "success",
        f"run-{crashed}": "failed",
        f"run-{cancelled}": "cancelled",
        f"run-{waiting}": "pending",
    }
    shown = client.get(f"/api/backups/{going}").json()
    assert shown["run"]["id"] == str(running)
    assert shown["run"]["progress"] == {"stage": "dump", "done": 1500, "expected": 3000}
    assert client.get(f"/api/backups/run-{running}").json()["id"] == str(going)
    assert client.get(f"/api/backups/{half.id}").json()["detail"] == "backup failed at second"
    assert client.get(f"/api/backups/{good.id}").json()["detail"] == "the hook failed"
    assert list(listed(client, status="partial", destination=f"{sample.name}-second")) == [half.id]
    busy = client.delete(f"/api/backups/{going}", params={"confirm": str(going)})
    assert (busy.status_code, busy.json()["detail"]) == (409, f"the run of backup {going} goes on")
    nothing = client.delete(f"/api/backups/run-{crashed}", params={"confirm": f"run-{crashed}"})
    assert (nothing.status_code, "lies at no destination" in nothing.json()["detail"]) == (409, True)


def test_a_damaged_copy_and_an_unknown_signer_are_shown_with_the_reason(client: TestClient, sample: Sample) -> None:
    record = committed(sample, 1)
    (sample.root / "backups" / record.artifacts[0].key).write_bytes(b"cut")
    foreign = commit(sample.destination(), sample.name, Signer.generate(), {"files": b"x"}, at(2))
    assert listed(client) == {foreign.id: "damaged", record.id: "damaged"}
    copies = {item["id"]: item["copies"][0] for item in client.get("/api/backups").json()["items"]}
    assert copies[record.id]["status"] == "damaged"
    assert "truncated: 3 bytes, not 7" in copies[record.id]["detail"]
    assert (copies[foreign.id]["status"], "backups" in copies[foreign.id]["remedy"]) == ("untrusted", True)
    assert client.get(f"/api/backups/{record.id}").json()["artifacts"] == []


def test_a_destination_that_cannot_be_listed_keeps_its_rows_and_is_told(client: TestClient, sample: Sample) -> None:
    record = committed(sample, 1)
    assert client.get("/api/backups").json()["troubles"] == []
    (sample.root / "backups").rename(sample.root / "away")
    LISTING.changed(f"{sample.name}-backups")
    page = client.get("/api/backups").json()
    assert [item["id"] for item in page["items"]] == [record.id]
    assert [trouble["name"] for trouble in page["troubles"]] == [f"{sample.name}-backups"]
    detail = client.get(f"/api/backups/{record.id}").json()
    assert ([trouble["name"] for trouble in detail["troubles"]], detail["artifacts"]) == (
        [f"{sample.name}-backups"],
        [],
    )
    assert "not possible to look at" in client.get("/api/backups/nosuch").json()["remedy"]
    pin = client.post(f"/api/backups/{record.id}/pin")
    assert pin.status_code >= 500
    assert [(one["destination"], one["result"]) for one in pin.json()["destinations"]] == [
        (f"{sample.name}-backups", "failed")
    ]


def test_a_backup_shows_what_its_record_says(client: TestClient, sample: Sample) -> None:
    record = committed(sample, 1)
    found = client.get(f"/api/backups/{record.id}").json()
    (artifact,) = found["artifacts"]
    assert artifact["sha256"] == record.artifacts[0].sha256
    assert (artifact["source"], artifact["restore_with"]) == ("files", "tar -x")
    for id in ("nosuch", str(BackupId.new(at(1), "full")), f"run-{uuid4()}", "..%2f..%2fetc"):
        assert client.get(f"/api/backups/{id}").status_code == 404


def test_a_pin_is_set_and_taken_back_where_the_backup_lies(client: TestClient, sample: Sample) -> None:
    sample.add_destination("second")
    record = committed(sample, 1)
    copied(sample, record, "second")
    done = client.post(f"/api/backups/{record.id}/pin", params={"destination": f"{sample.name}-second"})
    assert done.json()["destinations"] == [
        {"destination": f"{sample.name}-second", "result": "done", "detail": "", "remedy": ""}
    ]
    (item,) = client.get("/api/backups").json()["items"]
    assert (item["pinned"], [copy["pinned"] for copy in item["copies"]]) == (True, [False, True])
    assert sample.history("second").pinned == {record.backup_id}
    assert len(client.delete(f"/api/backups/{record.id}/pin").json()["destinations"]) == 2
    assert not client.get(f"/api/backups/{record.id}").json()["pinned"]
    assert client.post(f"/api/backups/{record.id}/pin?destination=nosuch").status_code == 404
    assert client.post("/api/backups/nosuch/pin").status_code == 404


def test_a_backup_is_deleted_only_when_it_is_confirmed_and_not_needed(client: TestClient, sample: Sample) -> None:
    sample.add_destination("second")
    old, new = committed(sample, 1), committed(sample, 2)
    copied(sample, old, "second")
    address = f"/api/backups/{old.id}"
    unconfirmed = client.delete(address)
    assert (unconfirmed.status_code, unconfirmed.json()["remedy"]) == (422, f"Send ?confirm={old.id}")
    last = client.delete(address, params={"confirm": old.id})
    assert last.status_code == 409
    assert last.json()["needs_force"] == [
        {
            "destination": f"{sample.name}-second",
            "detail": f"it is the last valid backup of {sample.name} of type files there",
        }
    ]
    assert sample.history().records == (old, new), "nothing is deleted where something speaks against it elsewhere"
    one = client.delete(address, params={"confirm": old.id, "destination": f"{sample.name}-backups"})
    assert one.json()["destinations"][0]["result"] == "done"
    assert (sample.history().records, len(sample.history("second").records)) == ((new,), 1)
    assert [copy["destination"] for copy in client.get(address).json()["copies"]] == [f"{sample.name}-second"]
    assert client.delete(address, params={"confirm": old.id, "force": True}).status_code == 200
    assert not list((sample.root / "second" / sample.name).iterdir())
    assert list(listed(client)) == [new.id]
    assert client.delete(address, params={"confirm": old.id}).status_code == 404
    client.post(f"/api/backups/{new.id}/pin")
    committed(sample, 3)
    pinned = client.delete(f"/api/backups/{new.id}", params={"confirm": new.id})
    assert (pinned.status_code, "it is pinned" in pinned.json()["detail"]) == (409, True)


def test_what_a_lock_keeps_is_told_and_stays_listed(
    client: TestClient, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = committed(sample, 1)
    committed(sample, 2)

    def locked(_self: LocalDestination, key: str) -> None:
        raise KeptByLock(f"{key} is locked until 2027", "Wait until then.")

    with monkeypatch.context() as patch:
        patch.setattr(LocalDestination, "remove", locked)
        answer = client.delete(f"/api/backups/{old.id}", params={"confirm": old.id})
    assert answer.status_code == 409
    (told,) = answer.json()["destinations"]
    assert (told["result"], "is locked until 2027" in told["detail"], told["remedy"]) == (
        "failed",
        True,
        "Wait until then.",
    )
    assert old.id in listed(client)


@pytest.mark.law(4)
@pytest.mark.fault("T13")
def test_what_somebody_deletes_here_is_not_missed_by_retention_and_what_is_lost_by_itself_is(
    client: TestClient, sample: Sample
) -> None:
    ids = [committed(sample, day).id for day in range(1, 6)]
    keep = RetentionPolicy(keep_last=4)
    prune(app=sample.name, keep=keep)
    assert client.delete(f"/api/backups/{ids[3]}", params={"confirm": ids[3]}).status_code == 200
    committed(sample, 6)
    committed(sample, 7)
    (place,) = prune(app=sample.name, keep=keep).pruned
    assert place.judged is not None
    assert [str(backup_id) for backup_id in place.judged.dropped] == ids[1:2]
    lost = sample.root / "backups" / sample.name / f"{ids[4]}.json"
    lost.rename(lost.with_suffix(".gone"))
    with pytest.raises(PruneRefused, match=f"not listed any more: {ids[4]}"):
        prune(app=sample.name, keep=keep)
