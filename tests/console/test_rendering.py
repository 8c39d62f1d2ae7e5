"""What all pages are made of: escaping, times, forms and messages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.testclient import TestClient

from console.api import create
from console.gate import CSRF_HEADER
from console.models.backups import StartBackup
from console.pages.flash import redirect
from console.pages.forms import Form, Posted, submit
from console.pages.rendering import ago, duration, page, size, time
from vault.errors import ConfigError

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.fixture
def browser(prefect_api: object) -> Iterator[TestClient]:
    """A client that asks for pages, as a browser does, of a console that has a form."""
    app = create()
    add_form(app)
    with TestClient(app, base_url="http://127.0.0.1:4280", headers={"Accept": "text/html"}) as client:
        client.headers[CSRF_HEADER] = client.get("/api/session").json()["csrf_token"]
        yield client


def add_form(app: FastAPI) -> None:
    @app.get("/there")
    def there(request: Request) -> Response:
        return page(request, "base.html")

    @app.post("/form")
    def form(request: Request, form: Posted) -> Response:
        def do() -> tuple[str, str]:
            if form.text("type") == "odd":
                raise ConfigError("nothing is saved as app/shop", "Save it.")
            StartBackup.model_validate({"type": form.text("type"), "destinations": form.texts("destinations")})
            return "/there", f"Started {form.text('name')}"

        return submit(request, form, "base.html", do)

    @app.get("/gone")
    def gone() -> Response:
        return redirect("/there", HOSTILE, "failed")


def test_a_message_is_shown_once_and_escaped(browser: TestClient) -> None:
    shown = browser.get("/gone").text
    assert "&lt;script&gt;alert(1)" in shown
    assert "<script>alert" not in shown
    assert "alert(1)" not in browser.get("/there").text


@pytest.mark.parametrize("cookie", ["", "x", "W10", "bnVsbA", "WyJzY3JpcHQiLCJ4Il0=", "WyJkb25lIiwxXQ=="])
def test_a_message_that_is_not_ours_is_not_shown(browser: TestClient, cookie: str) -> None:
    assert 'class="flash' not in browser.get("/there", headers={"Cookie": f"backups-flash={cookie}"}).text


def test_a_browser_gets_a_problem_as_a_page_and_a_script_gets_it_as_json(browser: TestClient) -> None:
    answer = browser.get(f"/nosuch/{HOSTILE}")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "<h1>Not Found</h1>" in answer.text
    assert browser.get("/nosuch", headers={"Accept": "*/*"}).json()["status"] == 404


def test_what_a_form_shows_of_an_error_names_the_fields_and_never_repeats_what_was_typed() -> None:
    form = Form.of(type="weekly", secret="canary")
    with pytest.raises(ValueError, match="weekly") as caught:
        StartBackup.model_validate({"type": "weekly", "secret": "canary"})
    failed = form.failed(caught.value)
    assert set(failed.errors) == {"type", "secret"}
    assert "canary" not in str(failed.errors)
    told = form.failed(ConfigError("nothing is saved as app/shop", "Save it."))
    assert (told.detail, told.remedy, told.text("type")) == ("nothing is saved as app/shop", "Save it.", "weekly")


def test_a_form_reads_what_was_typed() -> None:
    form = Form.of(name=" shop ", places=["a", "b"], on=True, off=False, none=None, lines="a\n\n b \n")
    assert (form.text("name"), form.raw("name"), form.text("nosuch", "x")) == ("shop", " shop ", "x")
    assert (form.texts("places"), form.lines("lines")) == (["a", "b"], ["a", "b"])
    assert (form.on("on"), form.on("off"), form.maybe("none")) == (True, False, None)


def test_a_form_that_succeeds_goes_on_and_one_that_is_too_large_is_refused(browser: TestClient) -> None:
    answer = browser.post("/form", data={"type": "full", "destinations": ["a"], "name": HOSTILE})
    assert answer.history[0].status_code == 303
    assert "Started &lt;script" in answer.text
    assert browser.post("/form", content=b"a=" + b"x" * (1 << 20)).status_code == 413
    assert browser.post("/form", content=b"&".join([b"a=1"] * 2000)).status_code == 400


def test_times_and_sizes_are_as_people_read_them() -> None:
    assert 'datetime="2026-11-28T02:30:00Z" data-local>2026-11-28 02:30 UTC<' in time("2026-11-28T02:30:00Z")
    assert "never" in time(None)
    assert "never" in ago(None)
    assert "days ago" in ago("2020-01-01T00:00:00Z")
    assert "in " in ago("2999-01-01T00:00:00Z")
    assert duration("2026-01-01T00:00:00Z", "2026-01-01T00:00:12Z") == "12 s"
    assert duration("2026-01-01T00:00:00Z", "2026-01-01T00:03:05Z") == "3 min 5 s"
    assert duration("2026-01-01T00:00:00Z", "2026-01-01T02:10:05Z") == "2 h 10 min"
    assert (duration(None, None), size(None), size(1536)) == ("", "", "1.5 KiB")
