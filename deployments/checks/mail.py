"""Who hears of failures: automations, the blocks that send what they say, and whether the server can use these."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast
from uuid import UUID, uuid4

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.actions import CallWebhook, SendNotification
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture

from blocks.loading import block_name, saved
from blocks.mailer import MAILER_SLUG
from blocks.servers import LocalServer
from deployments.absence import missed_name
from deployments.automations import LOST_NAME, MAILS, mail_name
from deployments.checks.apps import Inventory
from deployments.checks.finding import Finding, ok, warning, wrong
from vault.errors import printable

if TYPE_CHECKING:
    from prefect.events.schemas.events import Event

PATIENCE = 60.0
"""Seconds for the server to act on an event: it writes down what it did every five."""
_PAGE = 200
_NAP = 0.25  # seconds
_LOOKS = 20
_DAYS = timedelta(days=7)
_FAILED = "prefect.automation.action.failed"
PROBE = "backups: the doctor asks whether the server acts"
"""The automation that does, for as long as it does."""
_EVENT = "backups.doctor.asks"
_NO_CLASS = "block was invalid"  # what the server says of a block whose class it cannot import
_NO_MAILER = "not a notification block"  # what it says once it has imported the class of the block that we name


def notifications(inventory: Inventory) -> Iterator[Finding]:
    """Somebody is told when a run fails or is missing, and a run that is killed does fail."""
    with get_client(sync_client=True) as client:
        every: list[Automation] = []
        while page := client.read_automations(limit=_PAGE, offset=len(every)):
            every += page
    states = {automation.name: automation.enabled for automation in every}
    mailers = [block_name(ref) for ref in saved([MAILER_SLUG])]
    wanted = [LOST_NAME, *(mail_name(name, kind) for name in mailers for kind in MAILS)]
    wanted += [missed_name(one.name) for one in inventory.schedules if one.period(datetime.now(UTC)) is not None]
    bad = [finding for name in wanted if (finding := _off(name, states))]
    yield from bad
    told = [one.name for one in every if one.enabled and one.name != PROBE and any(map(_tells, one.actions))]
    if not told:
        yield wrong(
            "notifications",
            "nobody is told when a backup fails",
            "backups notify add email ops --smtp smtp.example.org:587 --to ops@example.org",
        )
    elif not bad:
        yield ok(
            "notifications", f"{len(told)} automations tell somebody, {len(wanted) - len(mailers) * len(MAILS)} watch"
        )


def _off(name: str, states: dict[str, bool]) -> Finding | None:
    if name not in states:
        return wrong("notifications", f"the automation '{name}' is missing", "backups register")
    if not states[name]:
        return wrong("notifications", f"the automation '{name}' is off", f"prefect automation resume '{name}'")
    return None


def _tells(action: object) -> bool:
    return isinstance(action, SendNotification | CallWebhook)


def undelivered() -> Iterator[Finding]:
    """What the server's automations could not do in the last days, such as to send a mail."""
    since = EventOccurredFilter(since=datetime.now(UTC) - _DAYS)
    with get_client(sync_client=True) as client:
        page = client.read_events(EventFilter(occurred=since, event=EventNameFilter(name=[_FAILED])), limit=50)
    failed = [event for event in page.events if _name(event).startswith("backups:") and _name(event) != PROBE]
    for event in failed[:1]:
        yield warning(
            "delivery",
            f"{len(failed)} times in {_DAYS.days} days an automation could not do its work, last '{_name(event)}'"
            f" at {event.occurred:%Y-%m-%d %H:%M} UTC: {_reason(event)}",
            "backups notify test NAME",
        )
    if not failed:
        yield ok("delivery", f"nothing failed in the last {_DAYS.days} days")


def can_send(patience: float = PATIENCE) -> Iterator[Finding]:
    """The server acts on events, and can import our blocks: else each mail is a line in its log, and nothing more.

    It is asked to send by a block of ours that is no mailer, which it refuses, and says why: nobody gets a mail.
    """
    key = f"{_EVENT}.{uuid4()}"
    with get_client(sync_client=True) as client, _probe(client, key) as automation:
        reason = asked(client, key, automation, patience)
    if reason is None:
        yield wrong(
            "mail",
            f"the server did nothing for {patience:.0f} seconds when an automation was to act",
            "prefect server services start, where the API runs with --no-services; else restart it, and see its log",
        )
    elif _NO_MAILER in reason:
        yield ok("mail", "the server acts on events, and can load the blocks that send mail")
    elif _NO_CLASS in reason:
        yield wrong(
            "mail",
            f"the server cannot load our blocks, so no mail is ever sent: {reason}",
            "pip install prefect-backups (the same version) where the server runs, and restart it",
        )
    else:
        yield warning("mail", f"the server says what we do not understand: {reason}", "See its log.")


def asking(key: str) -> EventTrigger:
    """What ``asked`` pulls."""
    return EventTrigger(
        expect={_EVENT},
        match={"prefect.resource.id": key},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )


@contextmanager
def _probe(client: SyncPrefectClient, key: str) -> Iterator[UUID]:
    """An automation that acts when somebody says ``_EVENT`` of *key*; gone at exit, and its block with it."""
    block = cast("UUID", LocalServer().save(f"doctor-{uuid4()}"))
    action = SendNotification(block_document_id=block, subject="backups doctor", body="backups doctor")
    try:
        automation = client.create_automation(AutomationCore(name=PROBE, trigger=asking(key), actions=[action]))
        try:
            yield automation
        finally:
            client.delete_automation(automation)
    finally:
        client.delete_block_document(block)


def asked(client: SyncPrefectClient, key: str, automation: UUID, patience: float) -> str | None:
    """Why *automation*, whose trigger is ``asking(key)``, could not act; None where nothing was heard of it."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        event = {"id": str(uuid4()), "occurred": datetime.now(UTC).isoformat(), "event": _EVENT, "payload": {}}
        client.request("POST", "/events", json=[{**event, "resource": {"prefect.resource.id": key}}])
        for _ in range(_LOOKS):  # then again: it may not have known of the automation yet
            # Anew each time: a filter ends at the moment in which it was made.
            own = EventResourceFilter(id=[f"prefect.automation.{automation}"])
            wanted = EventFilter(resource=own, event=EventNameFilter(name=[_FAILED]))
            for failed in client.read_events(wanted, limit=1).events:
                return _reason(failed)
            time.sleep(_NAP)
    return None


def _name(event: Event) -> str:
    return str(event.resource.get("prefect.resource.name") or "")


def _reason(event: Event) -> str:
    said = event.payload.get("notification_log") or event.payload.get("reason") or "it does not say why"
    return printable(str(said).replace("\n", " "))[:300]
