"""What the list of the console is tested with: runs in Prefect that nobody runs, and a list that knows nothing yet."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.states import State

from console.listing import LISTING
from flows.backup import backup


def begin(app: str, state: State, name: str = "", progress: str = "", **parameters: Any) -> UUID:
    """A run of the backup flow in Prefect, in that state; the id."""
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(backup, parameters={"app": app, **parameters}, state=state, name=name or app)
        if progress:
            client.create_artifact(ArtifactCreate(type="progress", description=progress, data=0.0, flow_run_id=run.id))
    LISTING.begun()
    return run.id


def at(day: int) -> datetime:
    """Three in the morning of a day in November."""
    return datetime(2026, 11, day, 3, tzinfo=UTC)
