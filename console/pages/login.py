"""Login, logout, and one's own password."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from console import accounts
from console.access import Reader, Who, audit, forget_accounts, keeper_of
from console.gate import passage
from console.pages.flash import redirect
from console.pages.forms import Form, Posted
from console.pages.rendering import page
from console.problems import Problem
from vault.errors import BackupError

router = APIRouter(include_in_schema=False)
_SHOWN = 40  # characters of a name that nobody has


@router.get("/login")
def login_page(request: Request, next: str = "/") -> Response:
    """The form; whoever is known already is sent on."""
    if passage(request).who is not None:
        return RedirectResponse(_local(next), status_code=303)
    return _form(request, Form.of(), _local(next))


@router.post("/login")
def log_in(request: Request, form: Posted) -> Response:
    """A new session, whatever there was before; else the form again, which does not say what was wrong with it."""
    to, name = _local(form.text("next", "/")), form.text("name")
    keeper, address = keeper_of(request), request.client.host if request.client else ""
    try:
        session = keeper.log_in(name, form.raw("password"), address)
    except Problem as problem:
        known = name in keeper.look()[1].accounts
        audit(Who(name if known else "unknown", "read", "session"), "log-in", "console", "refused", address=address)
        shown = _form(request, Form.of(name=name[:_SHOWN]).failed(problem), to, problem.status)
        shown.headers.update(problem.headers or {})
        return shown
    passage(request).cookie = keeper.cookie_of(session)
    audit(Who(session.account, "read", "session"), "log-in", "console", "succeeded", address=address)
    return RedirectResponse(to, status_code=303)


@router.post("/logout")
def log_out(request: Request, who: Reader, _form: Posted) -> Response:
    """End this session, wherever its cookie may be used."""
    known = passage(request)
    if known.session is not None:
        keeper_of(request).log_out(known.session)
        known.cookie = ""
    audit(who, "log-out", "console", "succeeded")
    return RedirectResponse("/login", status_code=303)


@router.get("/account")
def account_page(request: Request, who: Reader) -> Response:
    """One's own account."""
    return page(request, "account.html", form=Form.of(), own=who)


@router.post("/account/password")
def change_own_password(request: Request, who: Reader, form: Posted) -> Response:
    """Another password, for whoever knows the present one; all sessions but this one end."""
    keeper, known = keeper_of(request), passage(request)
    try:
        if known.session is None:
            raise Problem(HTTPStatus.FORBIDDEN, "only who has logged in has a password")
        if form.raw("new") != form.raw("again"):
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "the new password is not the same twice")
        address = request.client.host if request.client else ""
        keeper.log_in(who.name, form.raw("current"), address)
        with forget_accounts(request):
            accounts.change_password(who.name, form.raw("new"))
        session = keeper.log_in(who.name, form.raw("new"), address)
    except (Problem, BackupError) as error:
        return page(request, "account.html", status=422, form=Form.of().failed(error), own=who)
    known.cookie = keeper.cookie_of(session)
    audit(who, "change-own-password", who.name, "succeeded")
    return redirect("/account", "Your password is another one now. All other sessions of yours have ended.")


def _form(request: Request, form: Form, to: str, status: int = 200) -> Response:
    keeper = keeper_of(request)
    in_clear = keeper.secure(request) and request.scope["scheme"] != "https"
    nobody = not keeper.look()[1].accounts
    return page(request, "login.html", status=status, form=form, next=to, nobody=nobody, in_clear=in_clear)


def _local(address: str) -> str:
    """*address* where it is one of this console, so that nobody is sent elsewhere by a link of somebody's."""
    ours = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if ours and "\\" not in address and not urlsplit(address).netloc else "/"
