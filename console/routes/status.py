"""How all is."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Response

from console import status
from console.access import Reader
from console.models.status import Health, Status

router = APIRouter(tags=["status"])


@router.get("/status")
def get_status(_who: Reader) -> Status:
    """Every saved app: its last backup, its next one, and what is wrong; those in trouble first."""
    return status.status()


@router.get("/health", responses={503: {"model": Health}})
def get_health(response: Response) -> Health:
    """Whether the console can do its work; for whoever watches it, without a login."""
    if status.is_healthy():
        return Health(status="ok", prefect=True)
    response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return Health(status="unavailable", prefect=False)
