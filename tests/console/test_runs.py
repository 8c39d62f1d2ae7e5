"""Runs that are asked for through the REST API: a backup on its way, a restore, and what Prefect needs for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.flows import Flow
from prefect.states import Running

import flows.report
from blocks import App
from blocks.signing_key import keyring
from console.api import create
from console.gate import CSRF_HEADER
from deployments.register import deploy, register_pool
from flows.backup import backup
from flows.restore import restore
from tasks.progress import Snapshot, listening
from tests.console.conftest import ADDRESS
from tests.console.records import at, begin
from tests.flows.committed import commit
from tests.flows.conftest import Sample

pytestmark = pytest.mark.usefixtures("alone")
GENEROUS = 120


@pytest.fixture(scope="module")
def registered(prefect_api: object) -> Iterator[None]:
    """What is asked for has a deployment, and no worker."""
    register_pool("backups")
    made = [
        deploy(backup, "flows/backup.py:backup", name="on-demand", work_pool_name="backups"),
        deploy(restore, "flows/restore.py:restore", name="on-demand", work_pool_name="backups"),
    ]
    yield
    with get_client(sync_client=True) as client:
        for one in made:
            client.delete_deployment(one)
        client.delete_work_pool("backups")


def run_as_a_worker_does(flow: Flow[..., Any], run_id: str) -> None:
    """The run that was asked for, in this process."""
    with get_client(sync_client=True) as client:
        run_flow(flow, flow_run=client.read_flow_run(UUID(run_id)))


def test_a_backup_is_asked_for_seen_on_its_way_and_restored(
    client: TestClient, sample: Sample, registered: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows.report, "_BEAT", 0.05)
    asked = client.post(f"/api/apps/{sample.name}/backups", json={})
    assert asked.status_code == 202, asked.text
    started = asked.json()
    assert asked.headers["location"] == started["status"] == f"/api/runs/{started['run_id']}"
    assert "no worker of the pool backups is online" in started["warning"]
    (waiting,) = client.get("/api/backups").json()["items"]
    assert (waiting["id"], waiting["status"]) == (f"run-{started['run_id']}", "pending")
    verifying, seen = threading.Event(), threading.Event()

    def hold(now: Snapshot) -> None:
        if "commit" in now.stage:
            verifying.set()
            seen.wait(GENEROUS)

    with listening(hold), ThreadPoolExecutor(1) as pool:
        going = pool.submit(run_as_a_worker_does, backup, started["run_id"])
        try:
            assert verifying.wait(GENEROUS)
            shown = until(lambda: client.get(started["status"]).json(), lambda run: "commit" in _stage(run))
            page = until(
                lambda: client.get("/api/backups").json(), lambda page: page["items"][0]["status"] == "running"
            )
        finally:
            seen.set()
        going.result(GENEROUS)
    (running,) = page["items"]
    assert (shown["app"], shown["state"], shown["ended"], shown["backup_id"]) == (
        sample.name,
        "Running",
        False,
        running["id"],
    )
    assert shown["progress"]["done"] > 100_000
    assert (running["status"], running["app"], running["copies"]) == ("running", sample.name, [])
    ended = client.get(started["status"]).json()
    assert (ended["state"], ended["succeeded"], ended["flow"]) == ("Completed", True, "backup")
    (done,) = until(lambda: client.get("/api/backups").json(), lambda page: _status(page) != "running")["items"]
    assert (done["id"], done["status"], done["run"]["id"]) == (running["id"], "success", started["run_id"])

    target = tmp_path / "restored"
    wanted = {"target": str(target)}
    looked = client.post(f"/api/backups/{done['id']}/restore/preview", json=wanted).json()
    assert [(one["kind"], one["what_happens"]) for one in looked["sources"]] == [
        ("sqlite", "new"),
        ("directory", "new"),
    ]
    asked = client.post(f"/api/backups/{done['id']}/restore", json=wanted)
    assert asked.status_code == 202, asked.text
    assert not target.exists()
    run_as_a_worker_does(restore, asked.json()["run_id"])
    assert (target / f"{sample.name}-files/b.txt").read_text() == "b"
    told = client.get(asked.json()["status"]).json()
    assert (told["flow"], told["state"], told["backup_id"]) == ("restore", "Completed", None)


def until(ask: Callable[[], dict[str, Any]], holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The answer of which that holds."""
    tick = threading.Event()
    for _ in range(GENEROUS * 20):
        answer = ask()
        if holds(answer):
            return answer
        tick.wait(0.05)
    raise AssertionError(answer)


def _status(page: dict[str, Any]) -> str:
    return str(page["items"][0]["status"])


def _stage(run: dict[str, Any]) -> str:
    return str(run["progress"]["stage"]) if run["progress"] else ""


def test_what_is_asked_for_twice_with_one_key_runs_once(client: TestClient, sample: Sample, registered: None) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    address, files = f"/api/apps/{sample.name}/backups", {"type": "files", "destinations": [f"{sample.name}-backups"]}
    first, second = (client.post(address, json=files, headers=key) for _ in range(2))
    assert first.json()["run_id"] == second.json()["run_id"]
    assert client.get("/api/backups").json()["total"] == 1
    with TestClient(create(), base_url=ADDRESS) as again:  # the console was started anew: Prefect knows the key
        key[CSRF_HEADER] = again.get("/api/session").json()["csrf_token"]
        other = again.post(address, json={"type": "database"}, headers=key)
        assert again.post(address, json=files, headers=key).json()["run_id"] == first.json()["run_id"]
    assert (other.status_code, "used for another request" in other.json()["detail"]) == (422, True)
    with get_client(sync_client=True) as prefect:
        run = prefect.read_flow_run(UUID(first.json()["run_id"]))
    assert run.parameters == {
        "app": sample.name,
        "type": "files",
        "destinations": [f"local-destination/{sample.name}-backups"],
    }


def test_a_backup_that_cannot_be_is_refused_before_it_begins(client: TestClient, sample: Sample) -> None:
    address = f"/api/apps/{sample.name}/backups"
    assert client.post("/api/apps/nosuch/backups", json={}).status_code == 404
    unknown = client.post(address, json={"destinations": ["nosuch"]})
    assert (unknown.status_code, "nosuch" in unknown.json()["detail"]) == (422, True)
    assert client.post(address, json={"type": "all"}).json()["errors"][0]["field"] == "type"
    assert client.post(address, json={"passwrod": "x"}).json()["errors"][0]["field"] == "passwrod"
    App(sources=[f"directory/{sample.name}-files"], destinations=[]).save(sample.name, overwrite=True)
    none = client.post(address, json={})
    assert (none.status_code, "has no destination" in none.json()["detail"]) == (422, True)
    files_only = client.post(address, json={"type": "database", "destinations": [f"{sample.name}-backups"]})
    assert (files_only.status_code, "no database source" in files_only.json()["detail"]) == (422, True)


def test_where_nothing_is_registered_it_says_so(
    client: TestClient, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.starting.ON_DEMAND", "not-there")
    answer = client.post(f"/api/apps/{sample.name}/backups", json={})
    assert (answer.status_code, answer.json()["remedy"]) == (503, "Run `backups register`.")


def test_a_run_shows_the_end_of_its_log_and_those_of_others_are_not_shown(client: TestClient) -> None:
    run = begin("shop", Running(), progress="restore shop: fetch; 5 bytes")
    shown = client.get(f"/api/runs/{run}").json()
    assert (shown["state"], shown["log"], shown["progress"]) == (
        "Running",
        [],
        {"stage": "fetch", "done": 5, "expected": None},
    )

    @flow(name="of-somebody-else")
    def other() -> None:
        """Not ours."""

    with get_client(sync_client=True) as prefect:
        theirs = prefect.create_flow_run(other)
    assert client.get(f"/api/runs/{theirs.id}").status_code == 404
    assert client.get(f"/api/runs/{uuid4()}").status_code == 404
    assert client.get("/api/runs/nosuch").status_code == 422


def test_a_restore_is_confirmed_where_it_replaces_and_refused_where_it_cannot_be(
    client: TestClient, sample: Sample, registered: None
) -> None:
    record = commit(sample.destination(), sample.name, keyring().signer, {f"{sample.name}-files": b"x"}, at(1))
    address = f"/api/backups/{record.id}/restore"
    for body in ({}, {"target": "/srv/x", "overwrite": True}, {"confirm": "other"}, {"confirm": record.id}):
        refused = client.post(address, json=body)
        assert (refused.status_code, refused.json()["remedy"]) == (422, f'Send "confirm": "{sample.name}".')
    assert client.post(address, json={"confirm": sample.name}).status_code == 202
    for body, field in (
        ({"target": "relative"}, "target"),
        ({"targets": {"x": "postgresql://shop:canary-password@localhost/shop"}}, "targets.x"),
        ({"target": "/srv/x", "identity_file": "key.txt"}, "identity_file"),
        ({"target": "/srv/\0"}, "target"),
    ):
        unfit = client.post(address, json=body)
        assert (unfit.status_code, unfit.json()["errors"][0]["field"]) == (422, field)
        assert "canary-password" not in unfit.text
    assert client.post(address, json={"target": "/srv/x", "destination": "nosuch"}).status_code == 404
    assert client.post("/api/backups/nosuch/restore", json={}).status_code == 404
    elsewhere = client.post(address, json={"target": "/srv/x", "server": "nosuch"})
    assert (elsewhere.status_code, "nosuch" in elsewhere.json()["detail"]) == (422, True)
    run = begin(sample.name, Running())
    assert client.post(f"/api/backups/run-{run}/restore", json={"confirm": sample.name}).status_code == 409


@pytest.mark.law(10)
@pytest.mark.fault("O08", "O12")
@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("postgresql://u:x/canary-password@localhost/shop", "password"),
        ("mysql://a@b:canary-password@localhost/shop", "password"),
        ("MySQL://u:canary-password@localhost/shop", "password"),
        ("postgresql://localhost/shop?PASSWORD=canary-password", "password"),
        ("postgresql://localhost/shop?sslmod=canary-password", "parameters that are not known"),
        ("postgresql://localhost/shop", "cannot take a directory"),
        ("docker-volume:../x", "not the name of a container or volume"),
        ("ftp://localhost/shop", "neither a path, a URL nor docker-volume:NAME"),
    ],
)
def test_a_target_that_cannot_be_is_refused_before_there_is_a_run_whose_parameters_are_stored(
    client: TestClient, sample: Sample, registered: None, target: str, said: str
) -> None:
    record = commit(sample.destination(), sample.name, keyring().signer, {f"{sample.name}-files": b"x"}, at(1))
    with get_client(sync_client=True) as prefect:
        before = len(prefect.read_flow_runs())
        for doing in ("restore", "restore/preview"):
            for body in ({"target": target}, {"targets": {f"{sample.name}-files": target}}):
                refused = client.post(f"/api/backups/{record.id}/{doing}", json=body)
                assert (refused.status_code, said in refused.json()["detail"]) == (422, True), refused.text
                assert "canary-password" not in refused.text
        form = {"where": "elsewhere", "target": target, "confirm": sample.name, "csrf": client.headers[CSRF_HEADER]}
        assert client.post(f"/backups/{record.id}/restore", data=form).status_code == 422
        assert len(prefect.read_flow_runs()) == before


def test_a_preview_says_what_is_there_and_what_becomes_of_it(client: TestClient, sample: Sample) -> None:
    record = commit(sample.destination(), sample.name, keyring().signer, {f"{sample.name}-files": b"x"}, at(1))
    address = f"/api/backups/{record.id}/restore/preview"
    (refused,) = client.post(address, json={}).json()["sources"]
    assert refused["target"].endswith(str(sample.files))
    assert refused["what_happens"].startswith("refused: ")
    assert refused["refused"]
    found = client.post(address, json={"overwrite": True}).json()
    assert (found["destination"], found["app"]) == (f"{sample.name}-backups", sample.name)
    assert found["sources"][0]["what_happens"].startswith("replaced: ")
    (below,) = client.post(address, json={"target": str(sample.root / "backups" / "in")}).json().get("sources", [{}])
    assert below == {}, "a target that lies among the backups is refused"
    assert client.post(address, json={"target": str(sample.root / "backups" / "in")}).status_code == 409
    assert sample.files.exists()
