"""Schedules through the REST API, and what a retention policy would keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from prefect.schedules import Cron

from blocks import LocalDestination
from console.words import words
from deployments.register import deploy, register_pool
from deployments.schedules import remove
from flows.backup import backup
from tasks.schedules import found
from tests.flows.conftest import Sample

API = "/api/backup-schedules"
NIGHTLY = {"cron": "30 2 * * *", "timezone": "Europe/Paris"}

Add = Callable[..., Response]


@pytest.fixture
def add(client: TestClient, sample: Sample) -> Iterator[Add]:
    """Adds a schedule to the sample app."""

    def add(**more: Any) -> Response:
        return client.post(f"/api/apps/{sample.name}/backup-schedules", json={**NIGHTLY, **more})

    yield add
    for schedule in found():
        if schedule.app == sample.name:
            assert client.delete(f"{API}/{schedule.name}?confirm={schedule.name}").status_code == 204


def wrong_fields(answer: Response) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [error["field"] for error in answer.json()["errors"]]


def test_a_schedule_is_added_changed_paused_resumed_and_removed(client: TestClient, add: Add, sample: Sample) -> None:
    made = add(type="files", keep={"keep_last": 7, "keep_within": "2w"}, grace_hours=2)
    name = f"{sample.name}-files"
    assert (made.status_code, made.headers["location"]) == (201, f"{API}/{name}")
    shown = client.get(f"{API}/{name}")
    assert shown.json() == made.json()
    one = shown.json()
    assert (one["cron"], one["timezone"], one["type"], one["active"]) == (*NIGHTLY.values(), "files", True)
    assert one["keep"] == {"keep_last": 7, "keep_within": "P14D", "timezone": "Europe/Paris"}
    assert datetime.fromisoformat(one["next_run_at_local"]) == datetime.fromisoformat(one["next_run_at"])
    assert client.get(f"/api/apps/{sample.name}/backup-schedules").json() == [one]
    assert one in client.get(API).json()

    def put(etag: str | None = None, **changes: Any) -> Response:
        return client.put(f"{API}/{name}", json=changes, headers={"If-Match": etag} if etag else {})

    seen = shown.headers["etag"]
    changed = put(seen, timezone="Asia/Tokyo", type=None, destinations=[f"{sample.name}-backups"], grace_hours=None)
    assert put(seen, cron="0 4 * * *").status_code == 412
    one = changed.json()
    assert (one["cron"], one["timezone"], one["type"]) == ("30 2 * * *", "Asia/Tokyo", None)
    assert (one["destinations"], one["grace_hours"]) == ([f"{sample.name}-backups"], None)
    assert one["keep"] == {"keep_last": 7, "keep_within": "P14D", "timezone": "Asia/Tokyo"}

    paused = put(active=False).json()
    assert (paused["active"], paused["next_run_at"]) == (False, None)
    assert put(active=False, cron="0 5 * * *").json()["active"] is False, "another change resumes nothing"
    assert put(active=True).json()["next_run_at"] is not None
    assert put(keep=None).json()["keep"] is None

    assert wrong_fields(client.delete(f"{API}/{name}")) == ["confirm"]
    assert client.delete(f"{API}/{name}?confirm={name}").status_code == 204
    assert client.get(f"{API}/{name}").status_code == 404
    assert put(active=False).status_code == 404


REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"cron": "at night"}, ["cron"]),
    ({"cron": "0 0 31 2 *"}, ["cron"]),
    ({"timezone": "Mars/Olympus"}, ["timezone"]),
    ({"destinations": ["nowhere"]}, ["destinations"]),
    ({"keep_at": {"nowhere": {"keep_last": 1}}}, ["keep_at"]),
    ({"keep": {"keep_last": -1}}, ["keep"]),
    ({"keep": {"min_keep": 3}}, ["keep"]),
    ({"ping": "nosuch"}, ["ping"]),
    ({"grace_hours": 0}, ["grace_hours"]),
    ({"name": "A b"}, ["name"]),
    ({"colour": "red"}, ["colour"]),
]


def test_what_only_prefect_can_count_out_is_listed_all_the_same(client: TestClient, sample: Sample) -> None:
    register_pool("daily")
    given = {"parameters": {"app": sample.name}, "schedules": [Cron("@daily")], "work_pool_name": "daily"}
    deploy(backup, "flows/backup.py:backup", name=sample.name, **given)
    try:
        one = client.get(f"{API}/{sample.name}").json()
        assert (one["when"], one["cron"], one["next_run_at"][10:]) == (["@daily UTC"], None, "T00:00:00Z")
        assert one in client.get(API).json()
    finally:
        remove(sample.name)


def test_what_could_not_run_is_refused_with_the_field_that_is_wrong(client: TestClient, add: Add) -> None:
    made = add().json()
    for change, fields in REFUSED:
        assert wrong_fields(add(**change)) == fields, change
        if "name" not in change:
            assert wrong_fields(client.put(f"{API}/{made['name']}", json=change)) == fields, change
    assert wrong_fields(client.put(f"{API}/{made['name']}", json={"cron": None})) == ["cron"]
    assert client.put(f"{API}/{made['name']}", json={}).status_code == 422
    assert client.get(f"{API}/{made['name']}").json() == made
    again = add()
    assert (again.status_code, again.json()["remedy"].split(";")[0]) == (409, f"Change it: PUT {API}/{made['name']}")
    assert client.post("/api/apps/nosuch/backup-schedules", json=NIGHTLY).status_code == 404
    assert client.get("/api/apps/nosuch/backup-schedules").status_code == 404


def test_a_cron_expression_is_told_in_words_and_by_its_next_times(client: TestClient) -> None:
    shown = client.get("/api/cron", params=NIGHTLY).json()
    assert shown["words"] == "At 02:30"
    assert len(shown["local"]) == len(shown["utc"]) == 5
    local, universal = (datetime.fromisoformat(shown[key][0]) for key in ("local", "utc"))
    assert local == universal > datetime.now(UTC)
    assert (local.hour, local.utcoffset()) in [(2, timedelta(hours=1)), (2, timedelta(hours=2))]
    assert wrong_fields(client.get("/api/cron", params={"cron": "x"})) == ["cron"]
    assert wrong_fields(client.get("/api/cron", params={"cron": "0 0 * * *", "timezone": "x"})) == ["timezone"]
    assert wrong_fields(client.get("/api/cron")) == ["cron"]


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("*/15 * * * *", "Every 15 minutes"),
        ("0 4 * * 0", "At 04:00, only on Sunday"),
        ("0 0 1 * 1", "At 00:00, on day 1 of the month, or on Monday"),
    ],
)
def test_words_say_what_cron_does(cron: str, said: str) -> None:
    assert words(cron) == said


def test_a_preview_keeps_what_any_schedule_keeps_but_for_the_one_that_is_being_changed(
    client: TestClient, add: Add, sample: Sample
) -> None:
    made = [str(backup(sample.name, type="files").id) for _ in range(2)]
    name = add(type="files", keep={"keep_last": 2}).json()["name"]
    api, asked = f"/api/apps/{sample.name}/retention-preview", {"keep": {"keep_last": 1}}
    [at] = client.post(api, json=asked).json()["places"]
    assert [row["why"] for row in at["backups"]] == [
        f"floor 1 of 1, last 1 of 1, last 1 of 2 (schedule {name})",
        f"last 2 of 2 (schedule {name})",
    ]
    [at] = client.post(api, json={**asked, "instead_of": name}).json()["places"]
    assert [(row["id"], row["stays"]) for row in at["backups"]] == [(made[1], True), (made[0], False)]
    assert client.post(api, json={**asked, "instead_of": "no-such"}).status_code == 422


def test_a_policy_shows_what_would_stay_and_deletes_nothing(client: TestClient, sample: Sample) -> None:
    made = [str(backup(sample.name, type="files").id) for _ in range(2)]
    api = f"/api/apps/{sample.name}/retention-preview"
    [at] = client.post(api, json={"type": "files", "keep": {"keep_last": 1}}).json()["places"]
    assert (at["destination"], at["type"], at["stay"], at["go"]) == (f"{sample.name}-backups", "files", 1, 1)
    assert [(row["id"], row["stays"]) for row in at["backups"]] == [(made[1], True), (made[0], False)]
    assert "last 1 of 1" in at["backups"][0]["why"]
    assert len(sample.history().records) == 2
    other = {"keep": {"keep_last": 1}, "keep_at": {f"{sample.name}-backups": {"keep_last": 2}}}
    assert client.post(api, json=other).json()["places"][0]["go"] == 0
    assert client.post(api, json={}).status_code == 422, "nothing says what is to stay"
    assert wrong_fields(client.post(api, json={"keep": {"keep_last": -1}})) == ["keep"]
    assert client.post("/api/apps/nosuch/retention-preview", json={}).status_code == 404

    gone = LocalDestination.load(f"{sample.name}-backups")
    gone.root.rename(sample.root / "unmounted")
    [at] = client.post(api, json={"keep": {"keep_last": 1}}).json()["places"]
    assert "disk mounted" in at["trouble"]["detail"]
