"""Accounts and tokens, for those who may change them."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import Response

from console import accounts
from console.access import SCOPES, Admin, forget_accounts
from console.models.accounts import AddAccount, AddToken, ChangePassword
from console.pages.flash import redirect
from console.pages.forms import MISTAKES, Form, Posted
from console.pages.rendering import page

router = APIRouter(prefix="/access", include_in_schema=False)
_WORDS = {"read": "read: look", "operate": "operate: back up, restore, delete", "admin": "admin: everything"}
_LIFETIMES = (("30", "30 days"), ("90", "90 days"), ("365", "a year"), ("never", "never"))
_HERE = "/access"


@router.get("")
def access_page(request: Request, _who: Admin) -> Response:
    """All of them, and the forms to add one."""
    return _page(request)


@router.post("/accounts")
def add_account(request: Request, _who: Admin, form: Posted) -> Response:
    """A new account."""

    def do() -> str:
        given = {"name": form.text("name"), "scope": form.text("scope"), "password": form.raw("password")}
        made = accounts.add_account(AddAccount.model_validate(given))
        return f"Added the account {made.name}. Whoever opens this console has to log in."

    return _done(request, do, account=form)


@router.post("/accounts/{name}/password")
def change_password(request: Request, name: str, _who: Admin, form: Posted) -> Response:
    """Another password for somebody."""

    def do() -> str:
        given = ChangePassword.model_validate({"password": form.raw("password")})
        accounts.change_password(name, given.password.get_secret_value())
        return f"{name} has another password now, and has to log in with it."

    return _done(request, do, account=form)


@router.post("/accounts/{name}/remove")
def remove_account(request: Request, name: str, _who: Admin, form: Posted) -> Response:
    """Take an account away."""

    def do() -> str:
        accounts.remove_account(name, form.text("confirm"))
        return f"Removed the account {name}, and ended its sessions."

    return _done(request, do)


@router.post("/tokens")
def add_token(request: Request, _who: Admin, form: Posted) -> Response:
    """A new token: the page that answers is the only one that shows it."""
    days = form.text("days")
    given = {"name": form.text("name"), "scope": form.text("scope"), "days": None if days == "never" else days}
    try:
        with forget_accounts(request):
            made = accounts.add_token(AddToken.model_validate(given))
    except MISTAKES as error:
        return _page(request, token=form.failed(error), status=422)
    return _page(request, new_token=made, status=201)


@router.post("/tokens/{name}/revoke")
def revoke_token(request: Request, name: str, _who: Admin, form: Posted) -> Response:
    """Take a token away."""

    def do() -> str:
        accounts.revoke_token(name, form.text("confirm"))
        return f"Revoked the token {name}."

    return _done(request, do)


def _done(request: Request, do: Callable[[], str], account: Form | None = None) -> Response:
    try:
        with forget_accounts(request):
            message = do()
    except MISTAKES as error:
        return _page(request, account=(account or Form()).failed(error), status=422)
    return redirect(_HERE, message)


def _page(
    request: Request, status: int = 200, account: Form | None = None, token: Form | None = None, **values: object
) -> Response:
    return page(
        request,
        "access.html",
        status=status,
        accounts=accounts.list_accounts(),
        tokens=accounts.list_tokens(),
        account_form=account or Form.of(scope="operate"),
        token_form=token or Form.of(scope="read", days="90"),
        scopes=[(scope, _WORDS[scope]) for scope in SCOPES],
        lifetimes=_LIFETIMES,
        **{"new_token": None, **values},
    )
