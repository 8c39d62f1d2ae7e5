"""Apps."""

from __future__ import annotations

from fastapi import APIRouter

from console import apps
from console.access import Reader
from console.models.status import AppInfo

router = APIRouter(tags=["apps"])


@router.get("/apps")
def list_apps(_who: Reader) -> list[AppInfo]:
    """Every saved app, with its sources, destinations and schedules."""
    return apps.list_apps()


@router.get("/apps/{app}")
def get_app(app: str, _who: Reader) -> AppInfo:
    """A saved app."""
    return apps.get_app(app)
