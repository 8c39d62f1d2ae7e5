"""The pages of destinations, apps and schedules, as they are without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from blocks import LocalDestination
from tests.contract.source import CANARY
from tests.flows.conftest import Sample
from tests.peers.sshd import running_sshd

Post = Callable[..., Response]


@pytest.fixture
def post(client: TestClient) -> Post:
    """Sends a form as a page of ours would, and returns what the browser shows then."""
    client.headers["Accept"] = "text/html"

    def post(address: str, page: str = "/destinations/add", **fields: str) -> Response:
        token = re.search(r'name="csrf" value="([^"]*)"', client.get(page).text)
        assert token, page
        named = {name.replace("__", "."): value for name, value in fields.items()}
        return client.post(address, data={"csrf": token[1], **named})

    return post


def said(answer: Response) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", answer.text)))


def test_a_destination_is_tried_added_changed_and_forgotten(client: TestClient, post: Post, tmp_path: Path) -> None:
    name = f"page-{uuid4().hex[:8]}"
    form = {"kind": "local", "name": name, "fields__root": str(tmp_path / "no/disk")}
    tried = post("/destinations/try", **form)
    assert (tried.status_code, "It does not work yet." in said(tried)) == (200, True)
    failed = post("/destinations/add", **form)
    assert (failed.status_code, "make the parent" in said(failed)) == (422, True)
    assert f'value="{tmp_path}/no/disk"' in failed.text, "what was typed is still there"
    odd = post("/destinations/try", **{**form, "fields__root": "disk"})
    assert "must be an absolute path" in odd.text.partition("data-fragment")[2], "what our script shows of the answer"
    form["fields__root"] = str(tmp_path / "disk")
    assert "It works. Nothing is saved yet." in said(post("/destinations/try", **form))
    saved = post("/destinations/add", **form)
    assert (saved.status_code, saved.url.path) == (200, "/destinations")
    assert f"Saved destination {name}." in said(saved)

    edit = f"/destinations/{name}/edit"
    etag = unescape(re.findall(r'name="etag" value="([^"]*)"', client.get(edit).text)[0])
    change = {"fields__root": str(tmp_path / "disk"), "fields__max_runs": "2", "etag": etag}
    assert f"Changed destination {name}." in said(post(edit, **change))
    assert LocalDestination.load(name).max_runs == 2
    assert "was changed since you looked" in said(post(edit, **change))
    assert f"Destination {name} works." in said(post(f"/destinations/{name}/test"))
    (tmp_path / "disk").rename(tmp_path / "gone")
    assert "is its disk mounted?" in said(post(f"/destinations/{name}/test"))
    (tmp_path / "gone").rename(tmp_path / "disk")
    remove = f"/destinations/{name}/remove"
    assert f"has to be {name}" in said(post(remove, confirm="other"))
    (tmp_path / "disk").rename(tmp_path / "gone")
    refused = post(remove, confirm=name)
    assert "nobody can tell what lies at" in said(refused)
    assert 'name="force"' in refused.text
    assert f"has to be {name}" in said(post(remove, confirm="other", force="on"))
    assert f"Forgot destination {name}." in said(post(remove, confirm=name, force="on"))
    assert client.get(edit).status_code == 404


@pytest.mark.law(10)
def test_a_form_asks_for_the_host_key_and_never_shows_a_secret_again(post: Post, client: TestClient) -> None:
    name = f"page-{uuid4().hex[:8]}"
    with running_sshd() as server:
        form = {"kind": "sftp", "name": name, "fields__host": server.host, "fields__port": str(server.port)}
        form |= {"fields__user": server.user, "fields__root": f"{server.seen}/{name}"}
        form |= {"fields__private_key": server.key(CANARY), "fields__passphrase": CANARY}
        asked = post("/destinations/try", **form)
        assert "Is this the server that you mean?" in said(asked)
        assert "PRIVATE KEY" not in asked.text
        [key] = re.findall(r'name="pin" value="([^"]*)"', asked.text)
        tried = post("/destinations/try", **form, pin=unescape(key))
        assert "It works." in said(tried)
        assert f'name="pin" value="{key}"' in tried.text, "what was compared is not asked for again"
        assert f"Saved destination {name}." in said(post("/destinations/add", **form, pin=unescape(key)))
        shown = client.get(f"/destinations/{name}/edit")
        assert "It is set; type another one to replace it." in said(shown)
        assert CANARY not in shown.text
        assert "PRIVATE KEY" not in shown.text
        tried = post("/destinations/try", kind="sftp", of=name, fields__user=server.user)
        assert "It works." in said(tried), "the saved key logs in"


def test_a_schedule_is_added_changed_paused_resumed_and_removed(client: TestClient, post: Post, sample: Sample) -> None:
    name, page = f"{sample.name}-files", "/schedules/add"
    form = {"app": sample.name, "type": "files", "cron": "30 2 * * *", "timezone": "Europe/Paris", "keep_last": "x"}
    assert "keep_last" in said(post("/schedules/add", page, **form))
    tried = post("/schedules/retention", page, **form)
    assert "keep_last" in tried.text.partition("data-fragment")[2]
    saved = post("/schedules/add", page, **{**form, "keep_last": "7", "cron": "at night"})
    assert (saved.status_code, "five fields" in said(saved)) == (422, True)
    saved = post("/schedules/add", page, **{**form, "keep_last": "7"})
    assert f"Saved schedule {name}. It runs next at" in said(saved)
    edit = client.get(f"/schedules/{name}/edit")
    assert "At 02:30" in said(edit)
    assert 'name="keep_last" value="7"' in edit.text
    changed = post(f"/schedules/{name}/edit", page, **{**form, "keep_last": "3", "cron": "0 4 * * 0"})
    assert f"Changed schedule {name}." in said(changed)
    app = f"/apps/{sample.name}"
    paused = post(f"/schedules/{name}/pause", page, back=app)
    assert (paused.url.path, "Paused schedule" in said(paused)) == (app, True)
    assert "paused" in said(client.get(app))
    elsewhere = post(f"/schedules/{name}/resume", page, back="//elsewhere.example/apps/x")
    assert (elsewhere.url.path, "Resumed schedule" in said(elsewhere)) == ("/schedules", True)
    assert "At 04:00, only on Sunday" in said(client.get("/schedules/next?cron=0+4+*+*+0&timezone=UTC"))
    assert "five fields" in said(client.get("/schedules/next?cron=x"))
    assert f"Removed schedule {name}." in said(post(f"/schedules/{name}/remove", page, confirm=name))
    assert client.get(f"/schedules/{name}/edit").status_code == 404


def test_an_app_is_shown_with_what_it_has_and_what_a_policy_would_keep(
    client: TestClient, post: Post, sample: Sample
) -> None:
    page = f"/apps/{sample.name}"
    assert sample.name in said(client.get("/apps"))
    shown = said(client.get(page))
    assert f"{sample.name}-db" in shown
    assert "in clear" in shown
    assert "Nothing of it lies there yet." in said(post(f"{page}/retention", page, keep_last="2"))
    assert "keeps nothing" in said(post(f"{page}/retention", page, min_keep="2"))
    assert client.get("/apps/nosuch").status_code == 404


@pytest.mark.parametrize("address", ["/destinations/x/test", "/schedules/x/pause", "/apps/x/retention"])
def test_a_form_of_another_site_changes_nothing(client: TestClient, address: str) -> None:
    assert client.post(address, data={"csrf": "guessed"}).status_code == 403
