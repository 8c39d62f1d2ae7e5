"""Automations: what Prefect's server does by itself. They are made by name, and left alone where they are as wanted."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import TypeAlias
from uuid import UUID

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import EventTrigger, Posture, ResourceSpecificationDict, TriggerTypes

from tasks.events import TOLD

Known: TypeAlias = dict[str, list[str]]
"""The descriptions of automations, by name: Prefect lets several have the same."""

BEAT = timedelta(seconds=60)
"""How often a run gives a sign of life."""
LOST = timedelta(minutes=4)
"""A run that has given none for so long is lost."""

LOST_NAME = "backups: a run whose process is gone has crashed"
MISSED = "backups: no backup by "
"""How the automations begin that wait for the next backup of a schedule."""
MAIL = "backups: mail "
"""How those begin that send by a mailer."""
FAILS = "when a run fails"
MAILS = (FAILS, "when a run is cancelled", "what a run has to say", "when a backup is missing")
"""What a mailer sends, an automation for each."""

_OURS: ResourceSpecificationDict = {
    "prefect.resource.role": "flow",
    "prefect.resource.name": ["backup", "restore", "copy", "prune", "watch"],
}
_RUNS: ResourceSpecificationDict = {"prefect.resource.id": "prefect.flow-run.*"}
_BAD = ("Failed", "Crashed", "TimedOut")
_ENDS = ("Completed", "Cancelled", "Cancelling", "Paused", "Suspended", "AwaitingRetry", *_BAD)
_LONGEST_RUN = timedelta(days=7)
_PAGE = 200

_SUBJECT = "{{ flow.name }} {{ flow_run.state.name | lower }}: {{ flow_run.name }}"
_BODY = """\
{{ flow.name }} {{ flow_run.name }} ended as {{ flow_run.state.name }}.

{{ (flow_run.state.message or "It does not say why.")[:50000] }}

Deployment: {{ deployment.name if deployment else "none, started by a command" }}
Flow run: {{ flow_run.id }}
{{ flow_run | ui_url or "Its log is in Prefect's UI." }}
"""
_MISSED_SUBJECT = "{{ event.resource.name | replace('backups: ', '') }}"
_MISSED_BODY = """\
{{ event.resource.name | replace('backups: ', '') }}: a run was due, and none has left a backup since.

{% if event.payload.triggering_event %}\
The last one is {{ event.payload.triggering_event.payload.id }} at \
{{ event.payload.triggering_event.payload.destinations }}.
{% else %}\
There was none since this is waited for, or since the last such mail.
{% endif %}\

Does a worker run, does a run hang, does each one fail, or was it paused or removed in Prefect's UI?
    backups schedule list
    backups watch
"""


def mail_failures(name: str, block: UUID, known: Known | None = None) -> None:
    """Have the mailer *block*, saved as *name*, send what a person has to know.

    That is: what each run says that fails, crashes, takes too long or is cancelled; what runs say of their own accord;
    and that a schedule has left no backup in time.
    """

    def mail(kind: str, trigger: EventTrigger, subject: str, body: str) -> None:
        action = SendNotification(block_document_id=block, subject=subject, body=body)
        put(mail_name(name, kind), trigger, action, known)

    fails, cancelled, says, missing = MAILS
    mail(fails, _on(*_states(*_BAD), match=_RUNS, related=_OURS), _SUBJECT, _BODY)
    # One that never began is none: late ones are cancelled by the run that makes up for them.
    begun = {"after": _states("Running"), "within": _LONGEST_RUN, "for_each": {"prefect.resource.id"}}
    mail(cancelled, _on(*_states("Cancelled"), match=_RUNS, related=_OURS).model_copy(update=begun), _SUBJECT, _BODY)
    mail(says, _on(*TOLD, match={}), "{{ event.payload.subject }}", "{{ event.payload.text }}")
    ours: ResourceSpecificationDict = {"prefect.resource.name": f"{MISSED}*"}
    mail(missing, _on("prefect.automation.triggered", match=ours), _MISSED_SUBJECT, _MISSED_BODY)


def crash_lost_runs(patience: timedelta = LOST, known: Known | None = None) -> None:
    """Have a run whose process gives no sign of life for *patience* end as Crashed: by itself it would run for ever."""
    trigger = EventTrigger(
        after=_states("Running", "heartbeat"),
        expect=_states("heartbeat", *_ENDS),
        for_each={"prefect.resource.id"},
        match=_RUNS,
        match_related=_OURS,
        posture=Posture.Proactive,
        threshold=1,
        within=patience,
    )
    said = f"Its process gave no sign of life for {patience.total_seconds():.0f} s: killed, or its machine is down."
    put(LOST_NAME, trigger, ChangeFlowRunState(state=StateType.CRASHED, message=said), known)


def forget(name: str) -> None:
    """Have the mailer *name* send no more. Idempotent."""
    for kind in MAILS:
        drop(mail_name(name, kind))


def mail_name(name: str, kind: str = FAILS) -> str:
    """What the automation is called that has the mailer *name* send mails of that kind."""
    return f"{MAIL}{name} {kind}"


def put(name: str, trigger: TriggerTypes, action: ActionTypes, known: Known | None = None) -> None:
    """Have the one of that name be so. One that is so already keeps what it has counted, and whether it is switched on.

    Else its time would begin anew, and what it waits for be missed later. *known* saves the look.
    """
    wanted = Automation(name=name, trigger=trigger, actions=[action], tags=["backups"])
    content = json.dumps(wanted.model_dump(include={"trigger", "actions"}), sort_keys=True, default=_plain)
    wanted.description = f"Made by `backups` ({hashlib.sha256(content.encode()).hexdigest()[:12]})."
    if known is None:
        with get_client(sync_client=True) as client:
            known = {name: [one.description for one in client.read_automations_by_name(name)]}
    there = known.get(name, [])
    if there != [wanted.description]:
        if there:
            drop(name)
        wanted.create()


def all_known() -> Known:
    """All that there are."""
    found: Known = {}
    with get_client(sync_client=True) as client:
        while page := client.read_automations(limit=_PAGE, offset=sum(map(len, found.values()))):
            for one in page:
                found.setdefault(one.name, []).append(one.description)
    return found


def drop(name: str) -> None:
    """Have none of that name. Idempotent."""
    with get_client(sync_client=True) as client:
        for found in client.read_automations_by_name(name):
            client.delete_automation(found.id)


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, (set, frozenset)) else str(value)


def _states(*names: str) -> set[str]:
    return {f"prefect.flow-run.{name}" for name in names}


def _on(
    *events: str, match: ResourceSpecificationDict, related: ResourceSpecificationDict | None = None
) -> EventTrigger:
    """At once, each time."""
    return EventTrigger(
        expect=set(events),
        match=match,
        match_related=related or {},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )
