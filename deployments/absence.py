"""Absence of success: Prefect's server waits for the next backup of each schedule, and says when none comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect.events.actions import DoNothing
from prefect.events.schemas.automations import CompoundTrigger, EventTrigger, Posture

from blocks.loading import block_name, saved
from blocks.mailer import MAILER_SLUG
from deployments.automations import (
    MAIL,
    MAILS,
    MISSED,
    Known,
    all_known,
    crash_lost_runs,
    drop,
    mail_failures,
    mail_name,
    put,
)
from tasks.again import one_client
from tasks.events import COMMITTED
from tasks.schedules import GRACE, Schedule, found


def expect_backups(schedule: Schedule, grace: timedelta = GRACE, known: Known | None = None) -> None:
    """Have the server wait for the backups of *schedule*, as long as it runs by itself.

    One is missing when none was committed for the longest time between two of its runs and its grace; *grace* where it
    does not say.
    """
    period = schedule.period(datetime.now(UTC))
    if period is None or schedule.id is None:
        return None if known and missed_name(schedule.name) not in known else drop(missed_name(schedule.name))
    watched = EventTrigger(
        expect={COMMITTED},
        match={"prefect.resource.id": f"prefect.deployment.{schedule.id}"},
        posture=Posture.Proactive,
        threshold=1,
        within=period + schedule.grace(grace),
    )
    # The first counts from the last backup, and cannot see that there never was one. The second can: it looks at one
    # such time after the other, so it is later, and says so again for as long as nothing comes.
    after_last = watched.model_copy(update={"after": {COMMITTED}, "for_each": {"prefect.resource.id"}})
    either = CompoundTrigger(require="any", within=None, triggers=[after_last, watched])
    return put(missed_name(schedule.name), either, DoNothing(), known)


def expect_none(name: str) -> None:
    """Have the server wait no more for backups of the schedule *name*. Idempotent."""
    drop(missed_name(name))


def bring_up_to_date() -> None:
    """Every automation that there should be, also for what was made in Prefect's UI or from a file; no other of ours.

    Idempotent: what is as it should be is left alone.
    """
    with one_client() as client:
        there = all_known()
        crash_lost_runs(known=there)
        names = map(block_name, saved([MAILER_SLUG]))
        mailers = {name: client.read_block_document_by_name(name, MAILER_SLUG, include_secrets=False) for name in names}
        for name, document in mailers.items():
            mail_failures(name, document.id, there)
        schedules = found(late=False)
        for schedule in schedules:
            expect_backups(schedule, known=there)
        wanted = {missed_name(schedule.name) for schedule in schedules}
        wanted |= {mail_name(name, kind) for name in mailers for kind in MAILS}
        for name in there:
            if name.startswith((MISSED, MAIL)) and name not in wanted:
                drop(name)


def missed_name(name: str) -> str:
    """What the automation is called that waits for the schedule *name*."""
    return f"{MISSED}{name} in time"
