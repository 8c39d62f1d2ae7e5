"""Apps through the REST API."""

from __future__ import annotations

from fastapi.testclient import TestClient

from blocks import Directory
from tests.flows.conftest import Sample


def test_an_app_is_shown_with_its_sources_and_where_it_goes(client: TestClient, sample: Sample) -> None:
    found = client.get(f"/api/apps/{sample.name}").json()
    assert [source["kind"] for source in found["sources"]] == ["sqlite", "directory"]
    assert found["destinations"] == [f"{sample.name}-backups"]
    assert found in client.get("/api/apps").json()


def test_an_app_whose_source_is_gone_is_shown_with_the_reason(client: TestClient, sample: Sample) -> None:
    Directory.delete(f"{sample.name}-files")
    sources = client.get(f"/api/apps/{sample.name}").json()["sources"]
    assert "nothing is saved as" in sources[1]["trouble"]["detail"]
    assert sources[0]["trouble"] is None


def test_an_app_that_is_not_there_is_a_problem_that_says_so(client: TestClient) -> None:
    answer = client.get("/api/apps/nosuch")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "there is no app nosuch",
        "remedy": "See GET /api/apps.",
        "instance": "/api/apps/nosuch",
    }
    assert client.get("/api/apps/No%20Such").status_code == 422
