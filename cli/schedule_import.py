"""``backups schedule import``: many schedules from one file."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from cli.api import POOL, prefect_api
from cli.output import note
from cli.saved import Flag, read_whole


def import_schedules(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    overwrite: Annotated[bool, Flag] = False,
    pool: str = POOL,
) -> None:
    """Add many schedules from one file: what `backups schedule list --json` prints.

    Example: backups schedule import schedules.json

    All are looked at before the first is saved.

    Parameters
    ----------
    file
        The file; - reads it from standard input.
    overwrite
        Schedules that are there already become as the file has them; else they are refused.
    pool
        The work pool of those for which the file names none.
    """
    text = read_whole(file)
    with prefect_api():
        from blocks.app import APP_SLUG
        from blocks.destinations import DESTINATIONS
        from blocks.loading import documents
        from blocks.ping import PING_SLUG
        from deployments.schedules import add_all
        from flows.backup import backup
        from tasks.schedule_file import check, read

        schedules = read(text, pool)
        check(schedules, backup, documents([APP_SLUG, PING_SLUG, *DESTINATIONS]))
        add_all(schedules, overwrite)
    note(f"Saved {len(schedules)} schedules: see `backups schedule list`.")
    note("They run while a worker does: `backups up`, or `backups worker` at a server of your own.")
