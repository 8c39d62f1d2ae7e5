"""The audit: who has changed what, as events of Prefect's, which its UI lists and its automations can mail."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any

from prefect.events import emit_event

from console.who import Who
from vault.errors import printable

PREFIX = "backups.console."
_MOST = 500  # characters of one value
_LOG = logging.getLogger(__name__)
_said: ContextVar[list[str] | None] = ContextVar("said", default=None)


def audit(who: Who, action: str, object: str, result: str, **more: str) -> None:
    """Say that *who* did *action*, such as ``remove-backup``, to *object*; no word of it may be a secret.

    The gate says it of every request that changes something; whoever knows better says it himself before. Where
    Prefect cannot be told, the console's log has it.
    """
    said = _said.get()
    if said is not None:
        said.append(action)
    payload = {"who": who.name, "via": who.via, "action": action, "object": object, "result": result, **more}
    short = {key: printable(value)[:_MOST] for key, value in payload.items()}
    try:
        _emit(action, short)
    except Exception as error:  # noqa: BLE001 - whatever it is: an audit that fails must not fail what it is of
        _LOG.error("the audit could not tell Prefect (%s): %s", error, short)


def _emit(action: str, payload: dict[str, Any]) -> None:
    resource = {"prefect.resource.id": f"backups.console.{payload['via']}", "prefect.resource.name": payload["who"]}
    emit_event(f"{PREFIX}{action}", resource, payload=payload)


def begin() -> list[str]:
    """From now on, in this context: the list of the actions that are audited."""
    said: list[str] = []
    _said.set(said)
    return said
