"""Events: what runs say to Prefect's server, whose automations mail it or wait for it."""

from __future__ import annotations

from typing import Any

from prefect import runtime
from prefect.events import emit_event

COMMITTED = "backups.backup.committed"
"""A backup is complete at all of its destinations. The server waits for it, schedule by schedule."""
RECOVERED = "backups.backup.recovered"
"""The first good run after one that failed."""
HELD = "backups.retention.held"
"""Nothing was deleted at a destination, since something looks odd there."""
SMALL = "backups.backup.small"
"""A backup is whole, and most of what the ones before it had is not in it."""
ALIVE = "backups.watch.alive"
"""How all backups are; each week, also when all is well."""
TOLD = frozenset({RECOVERED, HELD, SMALL, ALIVE})
"""What is mailed as it is: these have a ``subject`` and a ``text``."""

_MOST = 50_000  # characters of a text


def tell(event: str, app: str, **payload: Any) -> None:
    """Say it of the schedule that this run belongs to, or else of *app*."""
    deployment = runtime.deployment.id
    who = f"prefect.deployment.{deployment}" if deployment else f"backups.app.{app}"
    resource = {"prefect.resource.id": who, "prefect.resource.name": runtime.deployment.name or app}
    short = {name: value[:_MOST] if isinstance(value, str) else value for name, value in payload.items()}
    emit_event(event, resource, payload=short)
