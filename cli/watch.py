"""``backups watch``: whether the backups that were due are there. For cron or systemd: Prefect may be down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from cli.api import api_in_words, prefect_api
from cli.output import note, show_json, show_table
from cli.saved import Flag


def watch(
    *,
    grace_hours: float = 3,
    once: Annotated[bool, Flag] = False,
    allow_none: Annotated[bool, Flag] = False,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Look, once, at every destination whether each schedule has left there the backup that was due.

    Example: backups watch --once

    It ends with 1 when one is missing or too old, when a destination cannot be read, when no schedule is active, and
    when Prefect is down: run it from cron or a systemd timer on another machine, which then tell you.

    Parameters
    ----------
    grace_hours
        How long after its time a backup may take to be committed, where its schedule does not say.
    once
        Look once, and end: that is what it does anyway.
    allow_none
        That no schedule is active is as it should be.
    json
        Print one JSON array.
    """
    asked = api_in_words()
    with prefect_api():
        from deployments.absence import bring_up_to_date
        from flows.watch import refuse, refuse_none
        from tasks.watch import look, paused

        bring_up_to_date()
        watched = look(datetime.now(UTC), timedelta(hours=grace_hours))
        if json:
            show_json([one.as_json() for one in watched])
        elif watched:
            heads = ("SCHEDULE", "APP", "DESTINATION", "NEWEST", "DUE", "PROBLEM")
            show_table(heads, [one.cells() for one in watched])
        off = paused()
        for said in (f"Asked was {asked}.", *off):
            note(said)
        if not (watched or allow_none):
            refuse_none(off, f"Asked was {asked}. If your schedules are kept by another: set PREFECT_API_URL.")
        refuse(watched)
