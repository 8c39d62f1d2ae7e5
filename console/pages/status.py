"""The home page: how every app is."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from console import status
from console.access import Reader
from console.models.status import AppStatus
from console.pages.rendering import page

router = APIRouter(include_in_schema=False)


@router.get("/")
def home(request: Request, _who: Reader) -> Response:
    """One row for each app, those in trouble first."""
    found = status.status()
    wrong = [app for app in found.apps if _needs_attention(app)]
    return page(request, "status.html", found=found, wrong=wrong, live=any(app.running for app in found.apps))


def _needs_attention(app: AppStatus) -> bool:
    return bool(app.problem or app.overdue_since)
