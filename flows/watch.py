"""The watch flow: it fails, and so is mailed, when a schedule has not left the backup that was due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from socket import gethostname
from typing import Annotated, NoReturn

from prefect import flow
from prefect.artifacts import create_table_artifact
from pydantic import Field

from blocks.app import APP_SLUG
from blocks.loading import block_name, saved
from tasks.events import ALIVE, tell
from tasks.schedules import GRACE
from tasks.watch import Watched, lines, look, paused
from vault.errors import BackupError
from vault.record import utc


class Overdue(BackupError):
    """A backup that was due is not there, or cannot be seen."""


@flow(name="watch", flow_run_name="watch", persist_result=False)
def watch(
    grace_hours: Annotated[float, Field(gt=0)] = GRACE.total_seconds() / 3600,
    report: bool = False,
    allow_none: bool = False,
) -> list[dict[str, str | None]]:
    """Look at every destination whether the backups that were due are there.

    Args:
        grace_hours: How long after its time a backup may take to be committed, where its schedule does not say.
        report: Mail how each app is, also when all is well.
        allow_none: That no schedule is active is as it should be, though apps are saved.
    """
    now = datetime.now(UTC)
    watched = look(now, timedelta(hours=grace_hours), whole=report)
    rows = [one.as_json() for one in watched]
    create_table_artifact(key="watch", table=rows, description="What is there")
    nothing = not (watched or allow_none) and bool(saved([APP_SLUG]))
    off = paused() if report or nothing else []
    if report:
        tell(ALIVE, "watch", subject=_subject(watched, off), text=_text(watched, off, now))
    if nothing:
        refuse_none(off, "If that is as it should be, switch its deployment off, or give it allow_none.")
    refuse(watched)
    return rows


def _subject(watched: list[Watched], off: list[str]) -> str:
    bad = {one.app for one in watched if one.problem}
    count = len({one.app for one in watched})
    how = f"{len(bad)} not as they should be" if bad else "all as they should be" if watched else "nothing is scheduled"
    tail = f", {len(off)} schedule{'s' * (len(off) != 1)} paused" if off else ""
    return f"Backups of {count} app{'s' * (count != 1)}: {how}{tail}"


def _text(watched: list[Watched], off: list[str], now: datetime) -> str:
    scheduled = {one.app for one in watched}
    others = [name for name in map(block_name, saved([APP_SLUG])) if name not in scheduled]
    parts = [
        "\n".join(lines(watched, now)) or "There is no active schedule.",
        f"Without an active schedule: {', '.join(others)}" if others else "",
        "\n".join(off),
        f"Seen by {gethostname()} at {utc(now)}. This comes each week. When it does not come, something is wrong.",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def refuse_none(off: list[str], remedy: str) -> NoReturn:
    """Nothing is looked at, since no schedule is active: ``Overdue``; *off* says which are paused."""
    raise Overdue(
        "no schedule is active: nothing is backed up by itself, and nothing that is missing can be noticed",
        "\n".join([*off, "See `backups schedule list` and `backups schedule add --help`.", remedy]),
    )


def refuse(watched: list[Watched]) -> None:
    """Pass when all is as it should be; else ``Overdue`` with a line for each problem."""
    lines = [
        f"{one.schedule} at {one.destination or 'any destination'}: {one.problem}" for one in watched if one.problem
    ]
    if lines:
        remedies = dict.fromkeys(one.remedy for one in watched if one.problem and one.remedy)
        raise Overdue(
            f"{len(lines)} of {len(watched)} backups are not as they should be", "\n".join([*lines, *remedies])
        )
