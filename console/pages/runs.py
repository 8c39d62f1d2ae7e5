"""A run on its way, and what became of it."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Request, Response

from console import runs
from console.access import Reader
from console.listing import LISTING
from console.pages.rendering import page

router = APIRouter(include_in_schema=False)
_SAYS_NOTHING = "Finished in state Completed()"  # of a task, which the line does not name


@router.get("/runs/{run_id}")
def show(request: Request, run_id: UUID, _who: Reader) -> Response:
    """How far it is, and the end of its log."""
    found = runs.get_run(run_id)
    if found.ended and found.backup_id and found.backup_id not in LISTING.look().backups.by_id:
        LISTING.changed()  # the way on from here leads to it
    log = [line for line in found.log if line.message != _SAYS_NOTHING]
    return page(request, "run.html", run=found, log=log)
