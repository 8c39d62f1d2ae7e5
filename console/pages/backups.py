"""Backups: the list, each one by itself, and what is done to them. Restores: ``console.pages.restores``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args
from urllib.parse import urlencode
from uuid import uuid4

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from blocks.destinations import DESTINATIONS
from blocks.loading import block_name, saved
from console import apps, backups, changes
from console.access import Operator, Reader
from console.models.backups import BackupDetail, BackupStatus, Filters, StartBackup
from console.pages.charts import HEIGHT, WIDTH, Chart, charts
from console.pages.flash import redirect
from console.pages.forms import Form, Posted, act, submit
from console.pages.rendering import page
from vault.record import BackupType

router = APIRouter(include_in_schema=False)
_SHORT = 6  # of an id: what a person types to delete it
_CHARTED = 60


@router.get("/backups")
def list_backups(request: Request, _who: Reader) -> Response:
    """The list, with its filters in the address."""
    form = Form({name: request.query_params.getlist(name) for name in request.query_params})
    try:
        filters = _filters(form)
    except ValidationError as error:
        form, filters = form.failed(error), Filters()
    found = backups.list_backups(filters)
    narrowed = {name: value for name, value in request.query_params.items() if value and name != "cursor"}
    return page(
        request,
        "backups.html",
        status=422 if form.errors else 200,
        form=form,
        found=found,
        narrowed=bool(narrowed),
        first=_address(narrowed) if filters.cursor else None,
        next=_address({**narrowed, "cursor": found.next}) if found.next else None,
        live=any(one.status in ("running", "pending") for one in found.items),
        charts=_charts(filters),
        size={"width": WIDTH, "height": HEIGHT},
        app_names=[app.name for app in apps.list_apps()],
        destination_names=destination_names(),
        types=get_args(BackupType),
        statuses=get_args(BackupStatus),
    )


@router.get("/backups/new")
def new(request: Request, _who: Operator) -> Response:
    """The form that begins a backup."""
    form = Form.of(app=request.query_params.get("app"), key=uuid4().hex)
    return page(request, "backup_new.html", form=form, **_choices())


@router.post("/backups")
def create(request: Request, form: Posted, _who: Operator) -> Response:
    """Begin one, and look at its run."""

    def do() -> tuple[str, str]:
        wanted: dict[str, Any] = {"type": form.maybe("type"), "destinations": form.texts("destinations") or None}
        started = backups.start_backup(form.text("app"), StartBackup.model_validate(wanted), form.maybe("key"))
        said = f"A backup of {form.text('app')} was asked for."
        return f"/runs/{started.run_id}", f"{said} But {started.warning}." if started.warning else said

    return submit(request, form, "backup_new.html", do, **_choices())


@router.get("/backups/{id}")
def show(request: Request, id: str, _who: Reader) -> Response:
    """One backup; one that is only on its way is its run."""
    found = backups.get_backup(id)
    if found.run and not found.copies:
        return redirect(f"/runs/{found.run.id}")
    return page(request, "backup.html", backup=found)


@router.post("/backups/{id}/pin")
def pin(id: str, _form: Posted, _who: Operator) -> Response:
    """Have it stay, whatever any policy says."""
    return act(lambda: f"{changes.pin(id, True).id} is pinned: no policy deletes it.", f"/backups/{id}")


@router.post("/backups/{id}/unpin")
def unpin(id: str, _form: Posted, _who: Operator) -> Response:
    """Have the policy say again."""
    return act(lambda: f"{changes.pin(id, False).id} is not pinned any more.", f"/backups/{id}")


@router.get("/backups/{id}/delete")
def ask_to_delete(request: Request, id: str, _who: Operator) -> Response:
    """What would be deleted, and the form that asks for it."""
    found = backups.get_backup(id)
    return page(request, "backup_delete.html", form=Form(), backup=found, short=found.id[-_SHORT:])


@router.post("/backups/{id}/delete")
def delete(request: Request, id: str, form: Posted, _who: Operator) -> Response:
    """Delete it, where the end of its id was typed."""
    found = backups.get_backup(id)
    short = found.id[-_SHORT:]

    def do() -> tuple[str, str]:
        confirmed = found.id if form.text("confirm") == short else None
        changes.remove_backup(found.id, confirmed, form.on("force"), form.maybe("destination"))
        return f"/backups?app={found.app}", f"Backup {found.id} of {found.app} was deleted{_where(form, found)}."

    return submit(request, form, "backup_delete.html", do, backup=found, short=short)


def destination_names() -> list[str]:
    """Those of all saved destinations."""
    return sorted(map(block_name, saved(DESTINATIONS)))


def _where(form: Form, found: BackupDetail) -> str:
    chosen = form.maybe("destination")
    return f" at {chosen}" if chosen else " everywhere" if len(found.copies) > 1 else ""


def _filters(form: Form) -> Filters:
    """What the address says; a day is meant from its beginning, in UTC."""
    given: dict[str, Any] = {name: form.maybe(name) for name in ("app", "type", "destination", "q", "cursor")}
    since = form.maybe("since")
    return Filters.model_validate(
        {**given, "status": form.texts("status"), "since": f"{since}T00:00:00Z" if since else None}
    )


def _address(query: Mapping[str, object]) -> str:
    return f"/backups?{urlencode(query)}" if query else "/backups"


def _charts(filters: Filters) -> list[Chart]:
    """Of one app alone, and on the first page of its list."""
    if not filters.app or filters.cursor:
        return []
    wanted = Filters(app=filters.app, type=filters.type, status=["success", "partial"], limit=_CHARTED)
    return charts(backups.list_backups(wanted).items)


def _choices() -> dict[str, Any]:
    known = apps.list_apps()
    return {
        "apps": known,
        "places": destination_names(),
        "types": [("", "as the app says: all of it"), *((kind, kind) for kind in get_args(BackupType))],
    }
