"""Schedules: which app is backed up when, and what of it stays."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from console import retention, schedules
from console.access import Admin, Operator, Reader
from console.models.schedules import (
    AddSchedule,
    AskPreview,
    ChangeSchedule,
    NextRuns,
    RetentionPreview,
    Schedule,
)
from console.problems import Problem

router = APIRouter(tags=["schedules"])
IfMatch = Annotated[str | None, Header(description="The ETag of what you have seen: 412 where it was changed since.")]
Confirm = Annotated[str | None, Query(description="The name, once more: this cannot be taken back.")]


@router.get("/backup-schedules")
def list_schedules(_who: Reader) -> list[Schedule]:
    """Every schedule of every app, with its next run."""
    return schedules.list_schedules()


@router.get("/apps/{app}/backup-schedules")
def list_schedules_of(app: str, _who: Reader) -> list[Schedule]:
    """The schedules of an app."""
    return schedules.list_schedules(app)


@router.post("/apps/{app}/backup-schedules", status_code=HTTPStatus.CREATED)
def add_schedule(app: str, given: AddSchedule, _who: Admin, response: Response) -> Schedule:
    """Have an app backed up by itself. Everything that it names has to exist; 409 where the name is taken."""
    made = schedules.add_schedule(app, given)
    response.headers["Location"] = f"/api/backup-schedules/{made.name}"
    return _tagged(made, response)


@router.get("/backup-schedules/{name}")
def get_schedule(name: str, _who: Reader, response: Response) -> Schedule:
    """A schedule, with its ETag."""
    return _tagged(schedules.get_schedule(name), response)


@router.put("/backup-schedules/{name}")
def change_schedule(
    name: str, given: ChangeSchedule, who: Operator, response: Response, if_match: IfMatch = None
) -> Schedule:
    """Change a schedule; what is not sent stays. `{"active": false}` pauses it, `true` resumes it.

    To pause and to resume takes `operate`; any other change `admin`.
    """
    if given.model_fields_set - {"active"} and not who.may("admin"):
        raise Problem(HTTPStatus.FORBIDDEN, f"this takes the scope admin, and {who.name} has {who.scope}")
    return _tagged(schedules.change_schedule(name, given, if_match), response)


@router.delete("/backup-schedules/{name}", status_code=HTTPStatus.NO_CONTENT)
def remove_schedule(name: str, _who: Admin, confirm: Confirm = None) -> None:
    """Forget a schedule. Its backups are not touched."""
    schedules.remove_schedule(name, confirm)


@router.get("/cron")
def next_runs(cron: str, _who: Reader, timezone: str = "UTC") -> NextRuns:
    """What a cron expression means: in words, and its next five times."""
    return schedules.next_runs(cron, timezone)


@router.post("/apps/{app}/retention-preview")
def retention_preview(app: str, given: AskPreview, _who: Operator) -> RetentionPreview:
    """With this policy today these would stay: a reason for each backup at each destination. Nothing is deleted.

    What the app's schedules keep stays too, and is named; but for the schedule `instead_of`.
    It looks at every destination of the app, so it takes `operate`.
    """
    return retention.retention_preview(app, given.type, given.keep, given.keep_at, given.instead_of)


def _tagged(found: Schedule, response: Response) -> Schedule:
    response.headers["ETag"] = found.etag
    return found
