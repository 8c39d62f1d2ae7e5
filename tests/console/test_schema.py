"""Requests that nobody has thought of: none is answered with an error of ours, and each answer is as documented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, seed, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from blocks import console_accounts as kept
from console.api import create
from console.problems import RESPONSES
from tests.peers.units import ROOT

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
_APP = create()
_APP.state.keeper.open_to = lambda request: False
schema = schemathesis.openapi.from_dict(_APP.openapi())
schema.app = _APP


@pytest.fixture(scope="module")
def token(prefect_api: object) -> Iterator[str]:
    """A token that may do everything."""
    yield kept.add_token("schema", "admin", None)
    kept.ConsoleAccounts.delete(kept.DOCUMENT)


def test_no_answer_is_documented_that_is_never_given_and_every_change_of_what_has_an_etag_takes_if_match() -> None:
    code = "".join(path.read_text() for path in (ROOT / "console").rglob("*.py"))
    given = {HTTPStatus[name] for name in re.findall(r"HTTPStatus\.([A-Z_]+)", code)}
    assert set(RESPONSES) <= given
    assert given - set(RESPONSES) <= {200, 201, 202, 204, 421, 500}
    paths = _APP.openapi()["paths"]
    tagged = {path for path, methods in paths.items() if "put" in methods and "get" in methods}
    takes = {
        path
        for path, methods in paths.items()
        for one in methods.get("put", {}).get("parameters", [])
        if one["name"] == "if-match"
    }
    assert takes == tagged == {"/api/backup-destinations/{name}", "/api/backup-schedules/{name}"}


@schema.parametrize()
@seed(6)
@settings(
    max_examples=5,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_is_answered_with_an_error_of_ours_or_with_what_is_not_documented(case: Case, token: str) -> None:
    answer = case.call(headers={"Authorization": f"Bearer {token}"})
    if answer.status_code in (502, 503):  # a destination, or Prefect, as is documented
        return
    case.validate_response(answer, checks=CHECKS)
