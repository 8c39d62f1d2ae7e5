"""The pages of schedules: the list, a form that shows the next runs while one types, pause, resume and removal."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

from fastapi import APIRouter, Request
from fastapi.responses import Response

from blocks.app import APP_SLUG
from blocks.destinations import DESTINATIONS
from blocks.loading import block_name, saved
from blocks.ping import PING_SLUG
from console import retention, schedules
from console.access import Admin, Operator, Reader
from console.models.schedules import AddSchedule, ChangeSchedule, NextRuns, Schedule
from console.pages.flash import redirect
from console.pages.forms import MISTAKES, Form, Posted, submit
from console.pages.policy import KEEP_FIELDS, TYPES, keep_values, policies_at, policy
from console.pages.rendering import page
from console.problems import problem_of
from vault.retention import RetentionPolicy

router = APIRouter(include_in_schema=False)
_CRONS = (
    ("30 2 * * *", "each night at half past two"),
    ("0 * * * *", "each hour"),
    ("0 */6 * * *", "every six hours"),
    ("0 3 * * 1-5", "at three, Monday to Friday"),
    ("0 4 * * 0", "each Sunday at four"),
    ("0 5 1 * *", "on the first of each month at five"),
)
_FORM = "schedule_form.html"


@router.get("/schedules")
def list_page(request: Request, who: Reader) -> Response:
    """Every schedule with its next run."""
    may = {"may_change": who.may("admin"), "may_operate": who.may("operate")}
    return page(request, "schedules.html", found=schedules.list_schedules(), apps=saved([APP_SLUG]), **may)


@router.get("/schedules/next")
def next_page(request: Request, _who: Reader, cron: str = "", timezone: str = "UTC") -> Response:
    """What is being typed means this: for the preview in the form."""
    runs, wrong = _next(cron.strip(), timezone.strip())
    return page(request, "schedule_next_page.html", runs=runs, wrong=wrong, zone=timezone)


@router.get("/schedules/add")
def add_page(request: Request, _who: Admin, app: str = "") -> Response:
    """The form of a new one."""
    form = Form.of(app=app, cron="30 2 * * *", timezone=_own_zone())
    return page(request, _FORM, form=form, **_about(form, app=app))


@router.post("/schedules/add")
def add(request: Request, form: Posted, _who: Admin) -> Response:
    """Save it."""

    def do() -> tuple[str, str]:
        when = {"cron": form.text("cron"), "timezone": form.text("timezone")}
        given = AddSchedule(name=form.maybe("name"), **when, **_said(form, None))
        made = schedules.add_schedule(form.text("app"), given)
        return "/schedules", f"Saved schedule {made.name}. It runs next at {made.next_run_at_local}."

    return submit(request, form, _FORM, do, **_about(form, app=form.text("app")))


@router.get("/schedules/{name}/edit")
def edit_page(request: Request, name: str, _who: Admin) -> Response:
    """The form with what is saved."""
    one = schedules.get_schedule(name)
    form = Form.of(
        app=one.app,
        cron=one.cron or "",
        timezone=one.timezone or "UTC",
        type=one.type,
        destinations=one.destinations,
        ping=one.ping,
        grace_hours=one.grace_hours,
        etag=one.etag,
        **keep_values(one.keep),
        **{name: value for at, rules in (one.keep_at or {}).items() for name, value in keep_values(rules, at).items()},
    )
    return page(request, _FORM, form=form, **_about(form, one.app, one))


@router.post("/schedules/{name}/edit")
def edit(request: Request, name: str, form: Posted, _who: Admin) -> Response:
    """Save the change. What the form does not ask for stays."""
    one = schedules.get_schedule(name)

    def do() -> tuple[str, str]:
        given = ChangeSchedule(cron=form.text("cron"), timezone=form.text("timezone"), **_said(form, one))
        schedules.change_schedule(name, given, form.maybe("etag"))
        return "/schedules", f"Changed schedule {name}."

    return submit(request, form, _FORM, do, **_about(form, one.app, one))


@router.post("/schedules/retention")
def retention_page(request: Request, form: Posted, _who: Operator) -> Response:
    """The form again, with what would stay today; nothing is saved."""
    app, name, one, preview, status = form.text("app"), form.maybe("schedule"), None, None, 200
    try:
        one = schedules.get_schedule(name) if name else None
        given = policy(form), _said_of_places(form, one)
        preview = retention.retention_preview(app, form.maybe("type"), *given, instead_of=name)  # type: ignore[arg-type]
    except MISTAKES as error:
        form, status = form.failed(error), 422
    about = {**_about(form, app, one), "preview": preview, "trying": True}
    return page(request, _FORM, status=status, form=form, **about)


@router.post("/schedules/{name}/pause")
def pause(name: str, form: Posted, _who: Operator) -> Response:
    """Have it run no more until it is resumed."""
    schedules.change_schedule(name, ChangeSchedule(active=False))
    return redirect(_back(form), f"Paused schedule {name}. Nothing of it is backed up until it is resumed.", "note")


@router.post("/schedules/{name}/resume")
def resume(name: str, form: Posted, _who: Operator) -> Response:
    """Have it run again."""
    one = schedules.change_schedule(name, ChangeSchedule(active=True))
    return redirect(_back(form), f"Resumed schedule {name}. It runs next at {one.next_run_at_local}.")


@router.get("/schedules/{name}/remove")
def remove_page(request: Request, name: str, _who: Admin) -> Response:
    """What it means, and the name to be typed."""
    schedules.get_schedule(name)
    return page(request, "schedule_remove.html", form=Form(), name=name)


@router.post("/schedules/{name}/remove")
def remove(request: Request, name: str, form: Posted, _who: Admin) -> Response:
    """Forget it."""

    def do() -> tuple[str, str]:
        schedules.remove_schedule(name, form.text("confirm"))
        return "/schedules", f"Removed schedule {name}. Its backups were not touched."

    return submit(request, form, "schedule_remove.html", do, name=name)


def _said(form: Form, one: Schedule | None) -> dict[str, Any]:
    """What the form has in common for new ones and changes, as the API takes it."""
    return {
        "type": form.maybe("type"),
        "destinations": form.texts("destinations") or None,
        "keep": policy(form),
        "keep_at": _said_of_places(form, one) or None,
        "ping": form.maybe("ping"),
        "grace_hours": form.maybe("grace_hours"),
    }


def _said_of_places(form: Form, one: Schedule | None) -> dict[str, RetentionPolicy]:
    return policies_at(form, (one and one.keep_at) or {}, (one and one.timezone) or form.text("timezone"))


def _about(form: Form, app: str = "", one: Schedule | None = None) -> dict[str, Any]:
    """What the form needs to know besides what was typed."""
    runs, wrong = _next(form.text("cron"), form.text("timezone"))
    return {
        "name": one.name if one else "",
        "app": app,
        "apps": [(block_name(ref), block_name(ref)) for ref in saved([APP_SLUG])],
        "types": TYPES,
        "crons": _CRONS,
        "zones": _zones(),
        "places": [(block_name(ref), block_name(ref)) for ref in saved(DESTINATIONS)],
        "pings": [("", "none"), *((block_name(ref), block_name(ref)) for ref in saved([PING_SLUG]))],
        "keep_fields": KEEP_FIELDS,
        "keep_at": sorted({*map(block_name, saved(DESTINATIONS)), *((one and one.keep_at) or {})}),
        "more_wrong": any(form.text(name) for name in ("ping", "grace_hours")),
        "runs": runs,
        "wrong": wrong,
        "zone": form.text("timezone"),
        "trying": False,
        "preview": None,
    }


def _next(cron: str, timezone: str) -> tuple[NextRuns | None, str]:
    if not cron:
        return None, ""
    try:
        return schedules.next_runs(cron, timezone or "UTC"), ""
    except MISTAKES as error:
        return None, problem_of(error).detail


def _back(form: Form) -> str:
    """The page from which it was asked for: one of ours, and never another host's."""
    app = form.text("back").removeprefix("/apps/")
    return f"/apps/{app}" if app in {block_name(ref) for ref in saved([APP_SLUG])} else "/schedules"


@cache
def _zones() -> list[str]:
    return sorted(available_timezones())


def _own_zone() -> str:
    """That of this machine, where it says so; else UTC."""
    place = str(Path("/etc/localtime").resolve()).partition("/zoneinfo/")[2]
    return place if place in _zones() and place != "Etc/UTC" else "UTC"
