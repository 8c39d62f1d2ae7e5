"""Backups."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from console import backups, changes
from console.access import Operator, Reader
from console.models.backups import BackupDetail, BackupPage, Changed, Filters, StartBackup, Started

router = APIRouter(tags=["backups"])
Key = Annotated[
    str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200, description="Sent twice: done once.")
]
At = Annotated[str | None, Query(description="Only at this destination.")]


@router.get("/backups")
def list_backups(filters: Annotated[Filters, Query()], _who: Reader) -> BackupPage:
    """All backups of all apps, the newest first: committed, running, waiting and failed ones."""
    return backups.list_backups(filters)


@router.get("/backups/{id}")
def get_backup(id: str, _who: Reader) -> BackupDetail:
    """A backup, with what its record says. The id may be run-UUID while it has no other."""
    return backups.get_backup(id)


@router.get("/apps/{app}/backups")
def list_backups_of_app(app: str, filters: Annotated[Filters, Query()], _who: Reader) -> BackupPage:
    """The backups of an app, of a saved one or of one that only its backups are left of."""
    return backups.list_backups_of(app, filters)


@router.post("/apps/{app}/backups", status_code=HTTPStatus.ACCEPTED)
def start_backup(app: str, wanted: StartBackup, response: Response, _who: Operator, key: Key = None) -> Started:
    """Back up an app now. The answer comes at once; what becomes of it is at its *status*."""
    return accepted(backups.start_backup(app, wanted, key), response)


@router.delete("/backups/{id}")
def remove_backup(
    id: str,
    _who: Operator,
    confirm: Annotated[str | None, Query(description="The id of the backup, once more.")] = None,
    force: Annotated[bool, Query(description="Also where it is pinned, or the last valid one.")] = False,
    destination: At = None,
) -> Changed:
    """Delete a backup, its record first, wherever it lies; it says what happened at each destination."""
    return changes.remove_backup(id, confirm, force, destination)


@router.post("/backups/{id}/pin")
def pin_backup(id: str, _who: Operator, destination: At = None) -> Changed:
    """Have a backup stay, whatever any policy says."""
    return changes.pin(id, True, destination)


@router.delete("/backups/{id}/pin")
def unpin_backup(id: str, _who: Operator, destination: At = None) -> Changed:
    """Have the policy say again whether a backup stays."""
    return changes.pin(id, False, destination)


def accepted(started: Started, response: Response) -> Started:
    """The same, with the address of what becomes of it."""
    response.headers["Location"] = started.status
    return started
