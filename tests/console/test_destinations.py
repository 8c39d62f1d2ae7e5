"""Destinations through the REST API: tested before they are saved, and never with a secret in an answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from blocks import App, B2Destination, LocalDestination
from blocks.destinations import DESTINATIONS
from console.listing import LISTING
from flows.backup import backup
from flows.test_destination import check_destination
from tests.contract.source import CANARY
from tests.flows.conftest import Sample
from tests.peers.sshd import SshServer, running_sshd

API = "/api/backup-destinations"
PROBE = ["reach", "write", "list", "read back", "compare", "delete"]


@pytest.fixture
def name(prefect_api: object) -> str:
    return f"place-{uuid4().hex[:8]}"


@pytest.fixture
def bucket(client: TestClient, name: str) -> Iterator[str]:
    """A saved bucket, at a store that is not there."""
    fields = {"bucket": "backups", "endpoint": "http://127.0.0.1:1", "key_id": "id", "secret_key": CANARY}
    made = client.post(API, json={"name": name, "kind": "b2", "fields": fields, "test": False})
    assert made.status_code == 201, made.text
    yield name
    B2Destination.delete(name)


@pytest.fixture(scope="module")
def server() -> Iterator[SshServer]:
    with running_sshd() as server:
        yield server


def add(client: TestClient, name: str, root: Path, **more: Any) -> Response:
    return client.post(API, json={"name": name, "kind": "local", "fields": {"root": str(root)}, **more})


def wrong_fields(answer: Response) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [error["field"] for error in answer.json()["errors"]]


def test_each_kind_says_what_a_form_has_to_ask_for(client: TestClient) -> None:
    kinds = {kind["kind"]: kind for kind in client.get("/api/destination-kinds").json()}
    assert {f"{kind}-destination" for kind in kinds} == set(DESTINATIONS)
    fields = {field["name"]: field for field in kinds["b2"]["fields"]}
    assert [name for name, field in fields.items() if field["required"]] == ["bucket", "key_id", "secret_key"]
    assert [name for name, field in fields.items() if field["secret"]] == ["secret_key"]
    assert (fields["parallel_parts"]["type"], fields["parallel_parts"]["default"]) == ("integer", 4)
    assert "minio" in fields["provider"]["choices"]
    assert fields["bucket"]["fixed"]
    assert "each machine on which a worker runs" in fields["ca_file"]["description"]
    assert "--oauth" in kinds["google-drive"]["description"]
    sent = {field["name"] for kind in kinds.values() for field in kind["fields"]}
    assert sent.isdisjoint({"marker", "refresh_token"}), "these are not for a person to fill in"


def test_a_destination_is_saved_only_when_its_test_passes(client: TestClient, name: str, tmp_path: Path) -> None:
    failed = add(client, name, tmp_path / "no/disk")
    assert (failed.status_code, failed.json()["step"]) == (422, "prepare")
    assert "make the parent" in failed.json()["remedy"]
    assert client.get(f"{API}/{name}").status_code == 404

    made = add(client, name, tmp_path / "disk")
    assert (made.status_code, made.headers["location"]) == (201, f"{API}/{name}")
    shown = client.get(f"{API}/{name}")
    assert shown.headers["etag"] == shown.json()["etag"] == made.json()["etag"]
    assert (shown.json()["kind"], shown.json()["location"]) == ("local", str(tmp_path / "disk"))
    assert [step["step"] for step in shown.json()["last_test"]["steps"]] == ["prepare", *PROBE]
    assert shown.json()["free_space"] > 0
    assert name in [one["name"] for one in client.get(API).json()]

    again = add(client, name, tmp_path / "other")
    assert (again.status_code, again.json()["remedy"].split(";")[0]) == (409, f"Change it: PUT {API}/{name}")
    assert not (tmp_path / "other").exists()


def test_what_was_changed_by_another_is_not_overwritten(client: TestClient, name: str, tmp_path: Path) -> None:
    seen = add(client, name, tmp_path / "disk").json()["etag"]
    change = {"fields": {"bandwidth": "10MB/s"}}
    changed = client.put(f"{API}/{name}", json=change, headers={"If-Match": seen})
    assert (changed.status_code, changed.json()["fields"]["bandwidth"]) == (200, 10_000_000)
    assert client.put(f"{API}/{name}", json=change, headers={"If-Match": seen}).status_code == 412
    assert client.put(f"{API}/{name}", json=change, headers={"If-Match": changed.headers["etag"]}).status_code == 200


def test_a_directory_is_not_exchanged_for_another_one(client: TestClient, name: str, tmp_path: Path) -> None:
    add(client, name, tmp_path / "disk")
    LocalDestination(root=tmp_path / "other").prepare()
    moved = client.put(f"{API}/{name}", json={"fields": {"root": str(tmp_path / "other")}})
    assert (moved.status_code, moved.json()["step"]) == (422, "reach")
    assert "another marker" in moved.json()["detail"]
    assert client.get(f"{API}/{name}").json()["location"] == str(tmp_path / "disk")


@pytest.mark.law(10)
@pytest.mark.fault("O12")
def test_a_secret_goes_in_and_never_comes_out_and_stays_when_it_is_not_sent(client: TestClient, bucket: str) -> None:
    answers = [
        client.put(f"{API}/{bucket}", json={"fields": {"key_id": "other"}, "test": False}),
        client.put(f"{API}/{bucket}", json={"fields": {"secret_key": " ", "endpoint": CANARY}, "test": False}),
        client.post("/api/destination-tests", json={"kind": "b2", "fields": {"secret_key": CANARY}}),
        client.post(f"{API}/{bucket}/test"),
        client.get(f"{API}/{bucket}"),
        client.get(API),
    ]
    assert [answer.status_code for answer in answers] == [200, 422, 422, 200, 200, 200]
    assert all(CANARY not in answer.text + str(answer.headers) for answer in answers)
    shown = answers[-2].json()
    assert (shown["secrets"], shown["fields"]["key_id"]) == ({"secret_key": True}, "other")
    assert "secret_key" not in shown["fields"]
    assert not shown["last_test"]["works"]
    assert B2Destination.load(bucket).secret_key.get_secret_value() == CANARY
    changed = client.put(f"{API}/{bucket}", json={"fields": {"secret_key": "another"}, "test": False})
    assert changed.headers["etag"] != answers[-2].headers["etag"], "another secret is another state"


def test_what_does_not_fit_is_said_field_by_field(client: TestClient, bucket: str, name: str) -> None:
    one = {"name": f"{name}-x", "kind": "b2", "fields": {"bucket": "!", "parallel_parts": "many"}}
    assert wrong_fields(client.post(API, json=one)) == [
        f"fields.{field}" for field in ("bucket", "key_id", "secret_key", "parallel_parts")
    ]
    assert wrong_fields(client.post(API, json={**one, "kind": "floppy"})) == ["kind"]
    assert wrong_fields(client.put(f"{API}/{bucket}", json={"fields": {"marker": "0"}})) == ["fields.marker"]
    assert wrong_fields(client.put(f"{API}/{bucket}", json={"fields": {"bucket": "other"}})) == ["fields.bucket"]
    assert client.post(API, json={**one, "name": "../etc"}).status_code == 422


def test_a_saved_destination_can_be_tested_with_changes_before_they_are_saved(
    client: TestClient, name: str, tmp_path: Path
) -> None:
    add(client, name, tmp_path / "disk")
    tried = client.post("/api/destination-tests", json={"kind": "local", "fields": {"max_runs": 2}, "of": name}).json()
    assert (tried["works"], [step["step"] for step in tried["steps"]]) == (True, PROBE)
    gone = {"kind": "local", "fields": {"root": str(tmp_path / "gone")}}
    tried = client.post("/api/destination-tests", json={**gone, "of": name}).json()
    assert (tried["works"], tried["steps"][-1]["step"]) == (False, "reach")
    assert client.get(f"{API}/{name}").json()["fields"]["max_runs"] == 0
    assert client.post("/api/destination-tests", json={**gone, "of": "nosuch"}).status_code == 404


def test_the_last_test_is_that_of_prefect_too_and_not_of_a_namesake(
    client: TestClient, name: str, tmp_path: Path
) -> None:
    add(client, name, tmp_path / "disk", test=False)
    assert client.get(f"{API}/{name}").json()["last_test"] is None
    check_destination(name)
    assert [step["step"] for step in client.get(f"{API}/{name}").json()["last_test"]["steps"]] == PROBE
    assert client.delete(f"{API}/{name}?confirm={name}").status_code == 204
    add(client, name, tmp_path / "disk", test=False)
    assert client.get(f"{API}/{name}").json()["last_test"] is None


def test_the_host_key_of_a_server_is_shown_to_be_compared_and_then_pinned(
    client: TestClient, name: str, server: SshServer
) -> None:
    way = {"host": server.host, "port": server.port}
    fields = {**way, "user": server.user, "root": f"{server.seen}/{name}", "private_key": server.key()}
    one = {"name": name, "kind": "sftp", "fields": fields}
    asked = client.post(API, json=one)
    assert wrong_fields(asked) == ["fields.host_key"]
    shown = client.post("/api/host-keys", json=way).json()
    assert shown == {key: asked.json()[key] for key in ("host_key", "fingerprint")}
    assert "SHA256:" in shown["fingerprint"]
    made = client.post(API, json={**one, "fields": {**fields, "host_key": shown["host_key"]}})
    assert made.status_code == 201, made.text
    assert made.json()["secrets"] == {"passphrase": False, "password": False, "private_key": True}
    assert client.post("/api/host-keys", json={"host": "127.0.0.1", "port": 1}).status_code == 503
    assert client.post("/api/host-keys", json={"host": "-oProxyCommand=x"}).status_code == 422


def test_a_destination_that_is_needed_is_not_forgotten(client: TestClient, sample: Sample) -> None:
    used = f"{sample.name}-backups"
    broken = App.load(sample.name)
    broken.parallel = 99  # as Prefect's form, which does not look, would save it
    broken.save(f"{sample.name}-broken")
    assert "parallel" in client.get(f"{API}/{used}").json()["trouble"]["detail"]
    assert client.delete(f"{API}/{used}?confirm={used}").status_code == 422, "nobody can tell what uses it"
    App.delete(f"{sample.name}-broken")
    assert wrong_fields(client.delete(f"{API}/{used}")) == ["confirm"]
    assert wrong_fields(client.delete(f"{API}/{used}?confirm=other")) == ["confirm"]
    refused = client.delete(f"{API}/{used}?confirm={used}")
    assert (refused.status_code, refused.json()["used_by"]) == (409, [f"app {sample.name}"])
    LISTING.changed()  # the sample was not saved through the console
    shown = client.get(f"{API}/{used}").json()
    assert (shown["used_by"], shown["backups"], shown["stored"]) == ([f"app {sample.name}"], 0, 0)
    assert backup(sample.name, type="files").id
    refused = client.delete(f"{API}/{used}?confirm={used}")
    assert refused.json()["used_by"][0] == f"app {sample.name}"
    assert "1 backup there" in refused.json()["detail"]
    LISTING.changed()
    shown = client.get(f"{API}/{used}").json()
    assert shown["backups"] == 1
    assert shown["stored"] > 100_000

    alone = sample.add_destination("alone").partition("/")[2]
    record = sample.root / "alone/shop/20261123T030000Z-full-3f9a2c.json"
    record.parent.mkdir()
    record.write_text("{}")
    refused = client.delete(f"{API}/{alone}?confirm={alone}")
    assert (refused.status_code, len(refused.json()["used_by"])) == (409, 1)
    assert "1 backup there" in refused.json()["detail"]
    record.unlink()
    (sample.root / "alone").rename(sample.root / "away")
    refused = client.delete(f"{API}/{alone}?confirm={alone}")
    assert (refused.status_code, "nobody can tell what lies at" in refused.json()["detail"]) == (502, True)
    assert f"force=true with confirm={alone}" in refused.json()["remedy"], "a way is named"
    (sample.root / "away").rename(sample.root / "alone")
    assert client.delete(f"{API}/{alone}?confirm={alone}").status_code == 204
    assert client.delete(f"{API}/{alone}?confirm={alone}").status_code == 404


def test_a_destination_that_cannot_be_listed_any_more_is_forgotten_by_force_with_its_name(
    client: TestClient, sample: Sample
) -> None:
    lost, used = sample.add_destination("lost").partition("/")[2], f"{sample.name}-backups"
    (sample.root / "lost").rename(sample.root / "away")
    assert wrong_fields(client.delete(f"{API}/{lost}?force=true")) == ["confirm"]
    assert client.delete(f"{API}/{used}?confirm={used}&force=true").status_code == 409, "an app needs it"
    assert client.delete(f"{API}/{lost}?confirm={lost}&force=true").status_code == 204
    assert client.get(f"{API}/{lost}").status_code == 404
    assert (sample.root / "away").exists()


def test_a_destination_that_cannot_be_read_is_shown_with_the_reason(
    client: TestClient, name: str, tmp_path: Path
) -> None:
    add(client, name, tmp_path / "disk")
    broken = LocalDestination.load(name)
    broken.max_runs = -1  # as Prefect's form, which does not look, would save it
    broken.save(name, overwrite=True)
    shown = client.get(f"{API}/{name}").json()
    assert "max_runs" in shown["trouble"]["detail"]
    assert name in [one["name"] for one in client.get(API).json()]
    assert client.put(f"{API}/{name}", json={"fields": {"max_runs": 1}}).status_code == 422
