"""The console over a real Prefect API, with a sample app."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from console.api import create
from console.gate import CSRF_HEADER
from tests.flows.conftest import sample

__all__ = ["sample"]
ADDRESS = "http://127.0.0.1:4280"


@pytest.fixture
def client(prefect_api: object) -> Iterator[TestClient]:
    """A client of a console without a login, on loopback."""
    with TestClient(create(), base_url=ADDRESS, raise_server_exceptions=False) as client:
        client.headers[CSRF_HEADER] = client.get("/api/session").json()["csrf_token"]
        yield client
