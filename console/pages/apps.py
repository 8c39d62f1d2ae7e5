"""The pages of apps: their sources, their schedules, and what a policy would keep."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from console import apps, retention, schedules
from console.access import Operator, Reader, Who
from console.pages.forms import MISTAKES, Form, Posted
from console.pages.policy import KEEP_FIELDS, TYPES, policy
from console.pages.rendering import page

router = APIRouter(include_in_schema=False)


@router.get("/apps")
def list_page(request: Request, _who: Reader) -> Response:
    """A card for each."""
    return page(request, "apps.html", found=apps.list_apps())


@router.get("/apps/{name}")
def show_page(request: Request, name: str, who: Reader) -> Response:
    """All of one."""
    return page(request, "app.html", form=Form(), preview=None, **_about(name, who))


@router.post("/apps/{name}/retention")
def retention_page(request: Request, name: str, form: Posted, who: Operator) -> Response:
    """What a policy would keep today; nothing is saved, and nothing deleted."""
    preview, status = None, 200
    try:
        preview = retention.retention_preview(name, form.maybe("type"), policy(form))  # type: ignore[arg-type]
    except MISTAKES as error:
        form, status = form.failed(error), 422
    return page(request, "app.html", status=status, form=form, preview=preview, **_about(name, who))


def _about(name: str, who: Who) -> dict[str, Any]:
    return {
        "app": apps.get_app(name),
        "schedules": schedules.list_schedules(name),
        "types": (("", "every type"), *TYPES[1:]),
        "keep_fields": KEEP_FIELDS,
        "may_change": who.may("admin"),
        "may_operate": who.may("operate"),
    }
