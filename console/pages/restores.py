"""The guided restore: what and where to, then what would happen, confirmed by the app's name, then its run."""

from __future__ import annotations

from http import HTTPStatus
from uuid import uuid4

from fastapi import APIRouter, Request, Response

from console import backups, restores
from console.access import Operator
from console.models.restores import StartRestore
from console.pages.forms import MISTAKES, Form, Posted, submit
from console.pages.rendering import page
from console.problems import Problem

router = APIRouter(include_in_schema=False)
ELSEWHERE, IN_PLACE = "elsewhere", "in-place"
FIELDS = (
    "where",
    "target",
    "source",
    "destination",
    "server",
    "paths",
    "tables",
    "overwrite",
    "create_roles",
    "identity_file",
)
"""What the first step asks, and the second sends along."""


@router.get("/backups/{id}/restore")
def choose(request: Request, id: str, _who: Operator) -> Response:
    """What and where to; once that was said, what would happen."""
    found = backups.get_backup(id)
    given = {name: request.query_params.getlist(name) for name in request.query_params if name in FIELDS}
    if "where" not in given:
        return page(request, "restore.html", form=Form.of(where=ELSEWHERE), backup=found)
    form = Form(given)
    try:
        preview = restores.preview(found.id, _wanted(form))
    except MISTAKES as error:
        return page(request, "restore.html", status=422, form=form.failed(error), backup=found)
    return page(
        request, "restore_preview.html", form=form, backup=found, preview=preview, fields=FIELDS, key=uuid4().hex
    )


@router.post("/backups/{id}/restore")
def begin(request: Request, id: str, form: Posted, _who: Operator) -> Response:
    """Begin it, where the app's name was typed, and look at its run."""
    found = backups.get_backup(id)

    def do() -> tuple[str, str]:
        wanted = _wanted(form).model_copy(update={"confirm": form.text("confirm")})
        if form.text("confirm") != found.app:
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "nothing was restored: it was not confirmed",
                f"Type {found.app}, the name of the app.",
                errors=[{"field": "confirm", "message": f"this is not {found.app}"}],
            )
        started = restores.start_restore(found.id, wanted, form.maybe("key"))
        said = f"The restore of {found.app} was asked for."
        return f"/runs/{started.run_id}", f"{said} But {started.warning}." if started.warning else said

    try:
        preview = restores.preview(found.id, _wanted(form))
    except MISTAKES as error:
        return page(request, "restore.html", status=422, form=form.failed(error), backup=found)
    return submit(
        request, form, "restore_preview.html", do, backup=found, preview=preview, fields=FIELDS, key=form.text("key")
    )


def _wanted(form: Form) -> StartRestore:
    """What was chosen; a target counts only where it goes elsewhere."""
    target = form.maybe("target")
    if form.text("where") == ELSEWHERE and not target:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "it is not known where to restore to",
            "Type a directory or a database that may be filled.",
            errors=[{"field": "target", "message": "say where to"}],
        )
    return StartRestore.model_validate(
        {
            "target": target if form.text("where") == ELSEWHERE else None,
            "source": form.maybe("source"),
            "destination": form.maybe("destination"),
            "server": form.maybe("server"),
            "paths": form.lines("paths"),
            "tables": form.lines("tables"),
            "overwrite": form.on("overwrite"),
            "create_roles": form.on("create_roles"),
            "identity_file": form.maybe("identity_file"),
        }
    )
