"""Accounts, tokens, and who asks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from console import accounts
from console.access import Admin, Reader, csrf_token, forget_accounts
from console.models.accounts import (
    Account,
    AddAccount,
    AddToken,
    Asking,
    ChangePassword,
    NewToken,
    Token,
)

router = APIRouter(tags=["access"])
Confirm = Annotated[str, Query(description="The name once more.")]


@router.get("/session")
def who_asks(request: Request, who: Reader) -> Asking:
    """Who asks, and what he has to send along when he changes something."""
    return Asking(name=who.name, scope=who.scope, via=who.via, csrf_token=csrf_token(request))


@router.get("/accounts")
def list_accounts(_who: Admin) -> list[Account]:
    """Every account."""
    return accounts.list_accounts()


@router.post("/accounts", status_code=201)
def add_account(request: Request, given: AddAccount, _who: Admin) -> Account:
    """A new account. With the first one the login is needed from now on."""
    with forget_accounts(request):
        return accounts.add_account(given)


@router.put("/accounts/{name}/password")
def change_password(request: Request, name: str, given: ChangePassword, _who: Admin) -> Account:
    """Another password, which ends all sessions of the account."""
    with forget_accounts(request):
        return accounts.change_password(name, given.password.get_secret_value())


@router.delete("/accounts/{name}")
def remove_account(request: Request, name: str, _who: Admin, confirm: Confirm = "") -> Account:
    """Take an account away, with its sessions."""
    with forget_accounts(request):
        return accounts.remove_account(name, confirm)


@router.get("/tokens")
def list_tokens(_who: Admin) -> list[Token]:
    """Every token, without itself."""
    return accounts.list_tokens()


@router.post("/tokens", status_code=201)
def add_token(request: Request, given: AddToken, _who: Admin) -> NewToken:
    """A new token. It is shown this once."""
    with forget_accounts(request):
        return accounts.add_token(given)


@router.delete("/tokens/{name}")
def revoke_token(request: Request, name: str, _who: Admin, confirm: Confirm = "") -> Token:
    """Take a token away: it counts no more."""
    with forget_accounts(request):
        return accounts.revoke_token(name, confirm)
