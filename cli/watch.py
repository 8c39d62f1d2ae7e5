"""``backups watch``: whether the backups that were due are there. For cron or systemd: Prefect may be down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from cli.api import prefect_api
from cli.output import note, show_json, show_table
from cli.saved import Flag


def watch(*, grace_hours: float = 3, json: Annotated[bool, Flag] = False) -> None:
    """Look, once, at every destination whether each schedule has left there the backup that was due.

    Example: backups watch

    It ends with 1 when one is missing or too old, when a destination cannot be read, and when Prefect is down: run it
    from cron or a systemd timer on another machine, which then tell you.

    Parameters
    ----------
    grace_hours
        How long after its time a backup may take to be committed, where its schedule does not say.
    json
        Print one JSON array.
    """
    with prefect_api():
        from deployments.absence import bring_up_to_date
        from flows.watch import refuse
        from tasks.watch import look

        bring_up_to_date()
        watched = look(datetime.now(UTC), timedelta(hours=grace_hours))
        if json:
            show_json([one.as_json() for one in watched])
        elif watched:
            heads = ("SCHEDULE", "APP", "DESTINATION", "NEWEST", "DUE", "PROBLEM")
            show_table(heads, [one.cells() for one in watched])
        else:
            note("There is no active schedule; see `backups schedule add --help`.")
        refuse(watched)
