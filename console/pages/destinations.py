"""The pages of destinations: cards, a form for each kind with a test before it is saved, and removal."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from console import destinations
from console.access import Admin, Reader
from console.destination_kinds import kinds
from console.models.destinations import (
    AddDestination,
    ChangeDestination,
    Destination,
    DestinationKind,
    HostKeyShown,
    TryDestination,
)
from console.pages.flash import redirect
from console.pages.forms import MISTAKES, Form, Posted, submit
from console.pages.rendering import page
from console.problems import Problem, not_found

router = APIRouter(include_in_schema=False)
_FIELDS = "fields."


@router.get("/destinations")
def list_page(request: Request, who: Reader) -> Response:
    """A card for each."""
    found = destinations.list_destinations()
    titles = {kind.kind: kind.title for kind in kinds()}
    return page(request, "destinations.html", found=found, titles=titles, may_change=who.may("admin"))


@router.get("/destinations/add")
def add_page(request: Request, _who: Admin, kind: str = "local") -> Response:
    """The form of one kind."""
    return page(request, "destination_form.html", form=_at_first(_kind(kind)), **_about(_kind(kind)))


@router.post("/destinations/add")
def add(request: Request, form: Posted, _who: Admin) -> Response:
    """Test it, and save it."""
    kind = _kind(form.text("kind"))

    def do() -> tuple[str, str]:
        fields = _typed(form, kind, saved=False)
        given = AddDestination(name=form.text("name"), kind=kind.kind, fields=fields, test=not form.on("untested"))
        made = destinations.add_destination(given)
        return "/destinations", f"Saved destination {made.name}" + ("." if given.test else ", not tested.")

    return _saved(request, form, kind, do, None)


@router.get("/destinations/{name}/edit")
def edit_page(request: Request, name: str, _who: Admin) -> Response:
    """The form, with what is saved; secrets only as being there."""
    saved = destinations.get_destination(name)
    values = {_FIELDS + field: value for field, value in saved.fields.items()}
    form = Form.of(etag=saved.etag, **values)
    return page(request, "destination_form.html", form=form, **_about(_kind(saved.kind), saved))


@router.post("/destinations/{name}/edit")
def edit(request: Request, name: str, form: Posted, _who: Admin) -> Response:
    """Test the change, and save it."""
    saved = destinations.get_destination(name)
    kind = _kind(saved.kind)

    def do() -> tuple[str, str]:
        given = ChangeDestination(fields=_typed(form, kind, saved=True), test=not form.on("untested"))
        destinations.change_destination(name, given, form.maybe("etag"))
        return "/destinations", f"Changed destination {name}" + ("." if given.test else ", not tested.")

    return _saved(request, form, kind, do, saved)


@router.post("/destinations/try")
def try_it(request: Request, form: Posted, _who: Admin) -> Response:
    """The same form again, with what its test found; nothing is saved."""
    of = form.maybe("of")
    saved = destinations.get_destination(of) if of else None
    kind = _kind(saved.kind if saved else form.text("kind"))
    more: dict[str, Any] = {"trying": True}
    status = 200
    try:
        given = TryDestination(kind=kind.kind, fields=_typed(form, kind, saved=saved is not None), of=of)
        more["tried"] = destinations.try_destination(given)
    except MISTAKES as error:
        form, more["asked"], status = form.failed(error), _asked(error), 422
    # A page of its own without JavaScript; with it only what came out is shown.
    return page(request, "destination_form.html", status=status, form=form, **{**_about(kind, saved, form), **more})


@router.post("/destinations/{name}/test")
def probe_saved(request: Request, name: str, form: Posted, _who: Admin) -> Response:
    """Test a saved one, and show what came out."""
    del request, form
    found = destinations.test_destination(name)
    if found.works:
        return redirect("/destinations", f"Destination {name} works.")
    return redirect(f"/destinations#destination-{name}", f"Destination {name}: {found.steps[-1].result}", "failed")


@router.get("/destinations/{name}/remove")
def remove_page(request: Request, name: str, _who: Admin) -> Response:
    """What it means, and the name to be typed."""
    destinations.get_destination(name)
    return page(request, "destination_remove.html", form=Form(), name=name)


@router.post("/destinations/{name}/remove")
def remove(request: Request, name: str, form: Posted, _who: Admin) -> Response:
    """Forget it."""

    def do() -> tuple[str, str]:
        destinations.remove_destination(name, form.text("confirm"), form.on("force"))
        return "/destinations", f"Forgot destination {name}. What lies there was not touched."

    return submit(request, form, "destination_remove.html", do, name=name)


def _saved(request: Request, form: Form, kind: DestinationKind, do: Any, saved: Destination | None) -> Response:
    """Go on to the list; or the form again, with the host key to be compared where that is what is missing."""
    try:
        to, message = do()
    except MISTAKES as error:
        failed = form.failed(error)
        about = {**_about(kind, saved, failed), "asked": _asked(error)}
        return page(request, "destination_form.html", status=422, form=failed, **about)
    return redirect(to, message)


def _kind(name: str) -> DestinationKind:
    found = {kind.kind: kind for kind in kinds()}.get(name)
    if found is None:
        raise not_found(f"kind of destination {name}")
    return found


def _about(kind: DestinationKind, saved: Destination | None = None, form: Form | None = None) -> dict[str, Any]:
    """What the form needs to know besides what was typed."""
    advanced = {_FIELDS + field.name for field in kind.fields if field.advanced}
    return {
        "kind": kind,
        "kinds": kinds(),
        "name": saved.name if saved else "",
        "secrets": saved.secrets if saved else {},
        "has_secrets": any(field.secret for field in kind.fields),
        "more_wrong": bool(form and advanced & set(form.errors)),
        "trying": False,
        "tried": None,
        "asked": None,
    }


def _at_first(kind: DestinationKind) -> Form:
    return Form.of(**{_FIELDS + field.name: field.default for field in kind.fields if field.default not in ("", 0)})


def _typed(form: Form, kind: DestinationKind, saved: bool) -> dict[str, Any]:
    """The fields that were typed. What is empty is left out, but for a text that a *saved* one may have to lose."""
    found: dict[str, Any] = {}
    for field in kind.fields:
        name = _FIELDS + field.name
        if field.type == "boolean":
            found[field.name] = form.on(name)
        elif saved and field.fixed:
            continue
        elif field.secret and form.raw(name):
            found[field.name] = form.raw(name)
        elif not field.secret and (form.text(name) or (saved and field.type == "string" and name in form.values)):
            found[field.name] = form.text(name)
    pinned = form.maybe("pin")
    return {**found, "host_key": pinned} if pinned and any(field.name == "host_key" for field in kind.fields) else found


def _asked(error: Exception) -> HostKeyShown | None:
    """The host key that a person has to compare, where that is what the error is about."""
    more = error.more if isinstance(error, Problem) else {}
    if "host_key" not in more:
        return None
    return HostKeyShown(host_key=more["host_key"], fingerprint=more["fingerprint"])
