"""The pages of accounts, tokens and the API's documentation."""

from __future__ import annotations

import html
import re

from fastapi.testclient import TestClient

from blocks import console_accounts as kept

HTML = {"Accept": "text/html"}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
PASSWORD = "correct horse battery"


def test_a_token_is_shown_on_the_page_that_answers_and_never_again(client: TestClient) -> None:
    wrong = client.post("/access/tokens", data={"name": HOSTILE, "scope": "read", "days": "90"}, headers=HTML)
    assert wrong.status_code == 422
    assert "<script>alert" not in wrong.text
    assert html.escape("<script>alert(1)") in wrong.text
    made = client.post("/access/tokens", data={"name": "page", "scope": "read", "days": "never"}, headers=HTML)
    found = re.search(r"backups_[\w-]{43}", made.text)
    assert (made.status_code, made.headers["cache-control"], found is not None) == (201, "no-store", True)
    shown = client.get("/access", headers=HTML).text
    assert "/access/tokens/page/revoke" in shown
    assert "backups_" not in shown
    assert client.post("/access/tokens/page/revoke", headers=HTML).status_code == 422, "it takes the name once more"
    gone = client.post("/access/tokens/page/revoke", data={"confirm": "page"}, headers=HTML)
    assert "Revoked the token page" in gone.text
    kept.ConsoleAccounts.delete(kept.DOCUMENT)


def test_with_the_first_account_the_login_is_needed_at_once(client: TestClient) -> None:
    given = {"name": "anna", "scope": "admin", "password": "short"}
    wrong = client.post("/access/accounts", data=given, headers=HTML)
    assert (wrong.status_code, 'id="error-password"' in wrong.text) == (422, True)
    assert 'value="short"' not in wrong.text
    made = client.post("/access/accounts", data={**given, "password": PASSWORD}, headers=HTML)
    assert [one.status_code for one in made.history] == [303, 303]
    assert made.url.path == "/login"
    visitor = re.search(r'name="csrf" value="([0-9a-f]+)"', made.text)
    assert visitor is not None
    data = {"csrf": visitor[1], "name": "anna", "password": PASSWORD, "next": "/access"}
    inside = client.post("/login", data=data, headers={**HTML, "X-CSRF-Token": ""})
    assert (inside.url.path, "Log out" in inside.text) == ("/access", True)
    token = re.search(r'name="csrf" value="([0-9a-f]+)"', inside.text)
    assert token is not None
    asked = {**HTML, "X-CSRF-Token": token[1]}
    last = client.post("/access/accounts/anna/remove", data={"confirm": "anna"}, headers=asked)
    assert (last.status_code, "only account of scope admin" in last.text) == (422, True)
    client.post("/access/accounts", data={"name": "ben", "scope": "admin", "password": PASSWORD}, headers=asked)
    other = client.post("/access/accounts/ben/password", data={"password": "another horse battery"}, headers=asked)
    assert "has another password now" in other.text
    assert "Removed the account ben" in client.post(
        "/access/accounts/ben/remove", data={"confirm": "ben"}, headers=asked
    ).text.replace("\n", " ")
    kept.ConsoleAccounts.delete(kept.DOCUMENT)


def test_the_documentation_names_each_endpoint_and_loads_nothing_from_elsewhere(client: TestClient) -> None:
    shown, document = client.get("/docs", headers=HTML), client.get("/openapi.json").json()
    assert shown.status_code == 200
    assert [path for path in document["paths"] if html.escape(path) not in shown.text] == []
    assert re.findall(r'(?:src|href|action)="(?!/|#)[^"]*"', shown.text) == []
    assert set(document["components"]["schemas"]) >= {"ProblemDetails", "FieldError"}
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
