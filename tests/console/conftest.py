"""The console over a real Prefect API, with a sample app."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from console.api import create
from console.gate import CSRF_HEADER
from console.listing import LISTING
from console.status import HELD, SCHEDULES, WORKERS
from tests.flows.conftest import sample

__all__ = ["sample"]
ADDRESS = "http://127.0.0.1:4280"


@pytest.fixture
def alone(prefect_api: object) -> None:
    """Nothing is saved that other tests have left, and the console knows nothing yet."""
    from prefect.blocks.core import Block
    from prefect.client.orchestration import get_client

    from blocks.app import APP_SLUG
    from blocks.destinations import DESTINATIONS
    from blocks.loading import saved

    for ref in saved([*DESTINATIONS, APP_SLUG]):
        Block.delete(ref)
    with get_client(sync_client=True) as prefect:
        while runs := prefect.read_flow_runs():
            for run in runs:
                prefect.delete_flow_run(run.id)
    LISTING.changed()
    SCHEDULES.changed()
    WORKERS.changed()
    HELD.changed()


@pytest.fixture
def client(prefect_api: object) -> Iterator[TestClient]:
    """A client of a console without a login, on loopback."""
    with TestClient(create(), base_url=ADDRESS, raise_server_exceptions=False) as client:
        client.headers[CSRF_HEADER] = client.get("/api/session").json()["csrf_token"]
        yield client
