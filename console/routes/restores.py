"""Restores."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Response

from console import restores
from console.access import Operator
from console.models.backups import Started
from console.models.restores import RestorePreview, StartRestore
from console.routes.backups import Key, accepted

router = APIRouter(tags=["restores"])


@router.post("/backups/{id}/restore/preview")
def preview_restore(id: str, wanted: StartRestore, _who: Operator) -> RestorePreview:
    """What such a restore would do: source by source where to, what is there now, and what becomes of that."""
    return restores.preview(id, wanted)


@router.post("/backups/{id}/restore", status_code=HTTPStatus.ACCEPTED)
def start_restore(id: str, wanted: StartRestore, response: Response, _who: Operator, key: Key = None) -> Started:
    """Restore a backup. Where anything may be replaced, *confirm* has to be the app's name."""
    return accepted(restores.start_restore(id, wanted, key), response)
