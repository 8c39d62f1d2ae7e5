"""How all is: the status of each app, health, and figures for Prometheus."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Failed
from prometheus_client.parser import text_string_to_metric_families

from blocks.signing_key import keyring
from cli.api import free_port
from console.entries import Held, merged
from console.listing import LISTING, Backups, Look, SavedApp
from console.status import HELD, Timed, owed
from flows.backup import backup
from tasks.schedules import Schedule, When
from tests.console.records import begin
from tests.flows.committed import commit
from tests.flows.conftest import Sample
from vault.record import BackupId, utc
from vault.retention import RetentionPolicy

pytestmark = pytest.mark.usefixtures("alone")
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def ago(**time: float) -> datetime:
    return datetime.now(UTC) - timedelta(**time)


def of(client: TestClient, app: str) -> dict[str, object]:
    """What the status says of an app."""
    answer = client.get("/api/status")
    assert answer.status_code == 200, answer.text
    return next(one for one in answer.json()["apps"] if one["app"] == app)


def figures(client: TestClient) -> dict[tuple[str, str], float]:
    """By name and destination."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
    return {(sample.name, sample.labels.get("destination", "")): sample.value for sample in samples}


def test_an_app_is_shown_from_its_first_backup_to_a_failure(client: TestClient, sample: Sample) -> None:
    assert of(client, sample.name)["problem"] == "there is no backup yet"
    record = commit(sample.destination(), sample.name, keyring().signer, {"files": b"content"}, ago(hours=2))
    commit(sample.destination(), "unsaved", keyring().signer, {"files": b"content"}, ago(hours=2))
    begin(sample.name, Failed(message="shop-db does not answer"))
    LISTING.changed()
    shown = of(client, sample.name)
    assert shown["last_backup"]["id"] == record.id  # type: ignore[index]
    assert (shown["copies"], shown["off_site"], shown["encrypted"], shown["running"]) == (1, False, False, False)
    assert (shown["problem"], shown["overdue_since"]) == ("the last run failed: shop-db does not answer", None)
    assert shown["last_failure"] > record.created_at  # type: ignore[operator]
    place = f"{sample.name}-backups"
    found = figures(client)
    assert found["backups_last_success_timestamp_seconds", place] == record.backup_id.created_at.timestamp()
    assert (found["backups_last_success_size_bytes", place], found["backups_committed_backups", place]) == (7, 1)
    assert (found["backups_failed_runs", place], found["backups_overdue_seconds", place]) == (1, 0)
    assert (found["backups_destination_up", place], found["backups_workers_online", ""]) == (1, 0)
    assert "unsaved" not in client.get("/metrics").text, "who can write to a destination makes no series"


def look(*held: Held, destinations: tuple[str, ...] = ("disk", "offsite")) -> Look:
    apps = {"shop": SavedApp(destinations, "full")}
    return Look(Backups(merged(held, [], {})), {}, apps, (), (), NOW)


def there(destination: str, when: datetime, kind: str = "full") -> Held:
    backup_id = BackupId.new(when, kind)  # type: ignore[arg-type]
    return Held(destination, str(backup_id), "shop", backup_id.type, utc(backup_id.created_at), "committed")


def timed(due: datetime | None = None, **parameters: object) -> Timed:
    return Timed(Schedule("nightly", (When("0 3 * * *"),), {"app": "shop", **parameters}), None, due)


def test_a_backup_is_owed_where_none_is_as_new_as_the_schedule_says() -> None:
    due = NOW - timedelta(hours=9)
    fresh, old = there("disk", due), there("offsite", due - timedelta(days=1))
    assert owed(look(fresh, old), [timed(due)]) == {("shop", "offsite"): due}
    assert owed(look(fresh, old), [timed(due, destinations=["local-destination/disk"])]) == {}
    assert owed(look(there("disk", due, "files"), old), [timed(due)]) == {
        ("shop", "disk"): due,
        ("shop", "offsite"): due,
    }
    assert owed(look(), [timed(None)]) == {}


@pytest.mark.fault("Z02")
def test_a_backup_from_the_future_hides_no_missing_one_and_is_marked(client: TestClient, sample: Sample) -> None:
    due = NOW - timedelta(hours=9)
    both = look(there("disk", datetime(2043, 1, 1, tzinfo=UTC)), there("disk", due - timedelta(days=1)))
    assert owed(both, [timed(due, destinations=["local-destination/disk"])]) == {("shop", "disk"): due}
    signer, place = keyring().signer, sample.destination()
    good = commit(place, sample.name, signer, {"files": b"content"}, ago(hours=2))
    future = commit(place, sample.name, signer, {"files": b"content"}, datetime(2043, 1, 1, tzinfo=UTC))
    LISTING.changed()
    shown = of(client, sample.name)
    assert shown["last_backup"]["id"] == good.id  # type: ignore[index]
    assert f"backup {future.id} is from the future" in str(shown["problem"])
    when = figures(client)["backups_last_success_timestamp_seconds", f"{sample.name}-backups"]
    assert when == good.backup_id.created_at.timestamp()
    assert "is from the future" in client.get(f"/api/backups/{future.id}").json()["detail"]


def test_health_needs_no_more_than_prefect_and_says_when_it_is_gone(client: TestClient) -> None:
    assert (client.get("/api/health").status_code, client.get("/api/health").json()["prefect"]) == (200, True)
    gone = f"http://somebody:canary-{uuid4().hex}@127.0.0.1:{free_port()}/api"
    with temporary_settings({PREFECT_API_URL: gone}), pytest.MonkeyPatch.context() as patch:
        import prefect.context

        patch.setattr(prefect.context, "GLOBAL_SETTINGS_CONTEXT", prefect.context.get_settings_context())
        answer = client.get("/api/health")
    assert (answer.status_code, answer.json()) == (503, {"status": "unavailable", "prefect": False})


def test_a_retention_that_is_held_is_a_problem_with_its_reason_until_a_run_deletes_again(
    client: TestClient, sample: Sample
) -> None:
    old = commit(sample.destination(), sample.name, keyring().signer, {"files": b"content"}, ago(hours=2))
    path = sample.root / "backups" / old.key
    whole = path.read_bytes()
    path.write_bytes(whole.replace(sample.name.encode(), b"another"))
    backup(app=sample.name, type="files", keep=RetentionPolicy(keep_last=1))
    fresh()
    said = f"no old backup of type files was deleted at {sample.name}-backups: nothing is deleted while records there"
    assert said in str(of(client, sample.name)["problem"])
    path.write_bytes(whole)
    backup(app=sample.name, type="files", keep=RetentionPolicy(keep_last=1))
    fresh()
    assert of(client, sample.name)["problem"] == ""


def fresh() -> None:
    """What is kept in memory is read again."""
    for kept in (LISTING, HELD):
        kept.changed()
