"""All routes of the console by all scopes: none is forgotten, and who may only look changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from fastapi.testclient import TestClient

from blocks import console_accounts as kept
from console.api import create
from console.gate import SAFE, scope_of
from console.who import SCOPES
from tests.console.conftest import ADDRESS

WITHOUT_A_RULE = {("GET", "/login"), ("POST", "/login"), ("GET", "/api/health")}
WHOEVER_IS_LOGGED_IN = {("POST", "/logout"), ("POST", "/account/password")}  # of his own account
ONLY_LOOKS = {("POST", "/api/apps/{app}/retention-preview")}  # what is asked is too long for an address


def routes() -> dict[tuple[str, str], RouteContext]:
    """Every one that FastAPI has, by method and path."""
    found = {}
    for context in iter_route_contexts(create().routes):
        if isinstance(context.original_route, APIRoute):
            for method in context.methods or ():
                found[method, str(context.path)] = context
    return found


ROUTES = routes()


@pytest.fixture(scope="module")
def asked(prefect_api: object) -> Iterator[tuple[TestClient, dict[str, str]]]:
    """A console with a login, and a token of each scope."""
    kept.add_account("ops", "correct horse battery", "admin")
    tokens = {scope: kept.add_token(f"m-{scope}", scope, None) for scope in SCOPES}
    with TestClient(create(), base_url=ADDRESS, raise_server_exceptions=False, follow_redirects=False) as client:
        yield client, tokens
    kept.ConsoleAccounts.delete(kept.DOCUMENT)


def test_each_route_has_a_rule_and_whatever_changes_something_takes_more_than_looking() -> None:
    assert len(ROUTES) > 15
    for (method, path), context in ROUTES.items():
        scope = scope_of(context)
        if (method, path) not in WITHOUT_A_RULE:
            assert scope in SCOPES, f"{method} {path} has no rule"
        if method not in SAFE and (method, path) not in WITHOUT_A_RULE | WHOEVER_IS_LOGGED_IN | ONLY_LOOKS:
            assert scope in ("operate", "admin"), f"{method} {path} changes something"


def test_nothing_but_routes_and_our_own_files_is_served() -> None:
    others = [
        context for context in iter_route_contexts(create().routes) if not isinstance(context.original_route, APIRoute)
    ]
    assert [getattr(context.original_route, "path", None) for context in others] == ["/static"]


def test_nobody_is_refused_everywhere_and_each_token_where_its_scope_is_too_low(
    asked: tuple[TestClient, dict[str, str]],
) -> None:
    client, tokens = asked
    for (method, path), context in ROUTES.items():
        if (method, path) in WITHOUT_A_RULE:
            continue
        address = re.sub(r"\{[^}]*\}", "x", path)
        assert client.request(method, address).status_code == 401, f"{method} {path} by nobody"
        needed = SCOPES.index(scope_of(context))  # type: ignore[arg-type]
        for scope in SCOPES[:needed]:
            headers = {"Authorization": f"Bearer {tokens[scope]}"}
            sent = client.request(method, address, headers=headers, json={})
            assert sent.status_code == 403, f"{method} {path} by {scope}"
