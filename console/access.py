"""Who asks, and what he may do: ``read`` looks, ``operate`` backs up, restores and deletes, ``admin`` configures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hmac import compare_digest
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Request

from console.audit import audit
from console.gate import CSRF_HEADER, passage
from console.keeper import Keeper
from console.problems import Problem
from console.who import NOBODY, SCOPES, Scope, Who

__all__ = [
    "NOBODY",
    "SCOPES",
    "Admin",
    "Operator",
    "Reader",
    "Scope",
    "Who",
    "audit",
    "check_csrf",
    "csrf_token",
    "forget_accounts",
    "keeper_of",
    "needs",
    "who_asks",
]


def who_asks(request: Request) -> Who:
    """Whoever asks. Raises ``Problem`` 401 where nobody can tell."""
    who = passage(request).who
    if who is None:
        raise Problem(HTTPStatus.UNAUTHORIZED, "nobody is logged in", headers={"WWW-Authenticate": "Bearer"})
    return who


def needs(scope: Scope) -> Callable[[Who], Who]:
    """A dependency: whoever asks, where he has *scope*; else 403."""

    def allowed(who: Annotated[Who, Depends(who_asks)]) -> Who:
        if not who.may(scope):
            raise Problem(HTTPStatus.FORBIDDEN, f"this takes the scope {scope}, and {who.name} has {who.scope}")
        return who

    allowed.scope = scope  # type: ignore[attr-defined]  # a test looks at it
    return allowed


Reader = Annotated[Who, Depends(needs("read"))]
Operator = Annotated[Who, Depends(needs("operate"))]
Admin = Annotated[Who, Depends(needs("admin"))]


def keeper_of(request: Request) -> Keeper:
    """The keeper of the door of this application."""
    keeper: Keeper = request.app.state.keeper
    return keeper


@contextmanager
def forget_accounts(request: Request) -> Iterator[None]:
    """Within, accounts or tokens are changed: whoever asks after it is judged by how they are then."""
    try:
        yield
    finally:
        keeper_of(request).forget()


def csrf_token(request: Request) -> str:
    """What a form of ours has to send along: a page of somebody else's cannot know it."""
    return passage(request).csrf


def check_csrf(request: Request, sent: str) -> None:
    """That *sent* is what ``csrf_token`` gave to this session; ``Problem`` 403 otherwise. A token needs none."""
    known, sent = passage(request), sent or request.headers.get(CSRF_HEADER, "")
    if (known.who is None or known.who.via != "token") and not compare_digest(sent.encode(), known.csrf.encode()):
        raise Problem(HTTPStatus.FORBIDDEN, "this was not sent by a page of this console", "Load the page again.")
