"""All checks of an installation that need Prefect, in the order in which a person is told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError

from deployments.checks import apps, mail, schedules, server, work
from deployments.checks.apps import Inventory
from deployments.checks.doors import doors
from deployments.checks.finding import Check, Finding, ok, run, skipped, wrong
from deployments.checks.left import left

_AT_ONCE = 8


def examine(pool: str, served: bool, offline: bool, more: dict[str, Check]) -> list[Finding]:
    """What is found of this installation; *more* are checks of whoever asks.

    *pool* is that of schedules. Where no server runs on (not *served*), nothing runs by itself: that is looked at
    instead of how it does. *offline*: no source and no destination is reached for.
    """
    if _is_shut_out():
        return [
            wrong(
                "server",
                "the server asks for a password, and what this machine says is not it",
                "export PREFECT_API_AUTH_STRING=…, as PREFECT_SERVER_API_AUTH_STRING is for the server",
            )
        ]
    inventory = Inventory.read()
    checks: dict[str, Check] = _of_server(pool, inventory) if served else {"server": lambda: _no_server(inventory)}
    checks |= more | {"saved": lambda: apps.saved_things(inventory), "apps": lambda: apps.apps(inventory)}
    checks |= {"doors": _left_out} if offline else doors(inventory) | left(inventory)
    return run(checks, _AT_ONCE)


def _of_server(pool: str, inventory: Inventory) -> dict[str, Check]:
    return {
        "server": server.version,
        "access": server.access,
        "history": server.history,
        "work pool": lambda: work.pools(pool),
        "deployments": work.deployments,
        "schedules": lambda: schedules.schedules(inventory, datetime.now(UTC)),
        "scheduler": lambda: schedules.scheduler(inventory, datetime.now(UTC)),
        "notifications": lambda: mail.notifications(inventory),
        "delivery": mail.undelivered,
        "mail": mail.can_send,
    }


def _is_shut_out() -> bool:
    with get_client(sync_client=True) as client:
        try:
            client.api_version()
        except PrefectHTTPStatusError as error:
            if error.response.status_code in (401, 403):
                return True
            raise
    return False


def _no_server(inventory: Inventory) -> Iterator[Finding]:
    active = [schedule.name for schedule in inventory.schedules if schedule.active]
    if active:
        names = ", ".join(active[:5])
        yield wrong("server", f"no server runs, and so none of {len(active)} schedules ({names})", "backups up")
    else:
        yield ok("server", "none runs, and none is needed: nothing is scheduled")


def _left_out() -> Iterator[Finding]:
    yield skipped("doors", "no source and no destination was reached for (--offline)")
