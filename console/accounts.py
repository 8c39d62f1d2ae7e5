"""Accounts and tokens of the console itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from blocks import console_accounts as kept
from console.models.accounts import Account, AddAccount, AddToken, NewToken, Token
from console.problems import Problem, not_found
from vault.record import utc
from vault.store import check_name


def list_accounts() -> list[Account]:
    """Every account, by name."""
    return [_account(one) for _, one in sorted(kept.read()[1].accounts.items())]


def add_account(given: AddAccount) -> Account:
    """Add it; ``Problem`` 409 where there is one of that name."""
    if given.name in kept.read()[1].accounts:
        raise Problem(HTTPStatus.CONFLICT, f"there is an account {given.name} already", "Take another name.")
    return _account(kept.add_account(given.name, given.password.get_secret_value(), given.scope))


def change_password(name: str, password: str) -> Account:
    """Give it another password, which ends its sessions; ``Problem`` 404 where there is none of that name."""
    _there(name)
    return _account(kept.change_password(name, password))


def remove_account(name: str, confirm: str) -> Account:
    """Take it away, with its sessions; ``Problem`` 409 where nobody would be left who may do that."""
    account = _there(name)
    _confirmed(name, confirm)
    admins = {one.name for one in kept.read()[1].accounts.values() if one.scope == "admin"}
    if admins == {name}:
        raise Problem(
            HTTPStatus.CONFLICT,
            f"{name} is the only account of scope admin",
            f"Add another first; or, on the server: backups console user remove {name}",
        )
    kept.remove_account(name)
    return _account(account)


def list_tokens() -> list[Token]:
    """Every token, by name."""
    return [_token(one) for _, one in sorted(kept.read()[1].tokens.items())]


def add_token(given: AddToken) -> NewToken:
    """A new token; ``Problem`` 409 where there is one of that name."""
    if given.name in kept.read()[1].tokens:
        raise Problem(HTTPStatus.CONFLICT, f"there is a token {given.name} already", "Revoke it, or take another name.")
    expires = None if given.days is None else datetime.now(UTC) + timedelta(days=given.days)
    return NewToken(name=given.name, token=kept.add_token(given.name, given.scope, expires))


def revoke_token(name: str, confirm: str) -> Token:
    """Take it away; ``Problem`` 404 where there is none of that name."""
    if check_name(name, "token") not in kept.read()[1].tokens:
        raise not_found(f"token {name}", "See GET /api/tokens.")
    _confirmed(name, confirm)
    return _token(kept.revoke_token(name))


def _there(name: str) -> kept.Account:
    found = kept.read()[1].accounts.get(check_name(name, "account"))
    if found is None:
        raise not_found(f"account {name}", "See GET /api/accounts.")
    return found


def _confirmed(name: str, confirm: str) -> None:
    if confirm != name:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "this has to be confirmed", f"Send confirm={name}.")


def _account(of: kept.Account) -> Account:
    return Account(name=of.name, scope=of.scope, created_at=utc(of.created))


def _token(of: kept.Token) -> Token:
    return Token(
        name=of.name,
        scope=of.scope,
        created_at=utc(of.created),
        expires_at=utc(of.expires) if of.expires else None,
        expired=not of.valid(datetime.now(UTC)),
    )
