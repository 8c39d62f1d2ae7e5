"""A message that the next page shows once. It travels in a cookie: the console keeps nothing."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Literal, NamedTuple

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

_COOKIE = "backups-flash"
_LONGEST = 1000  # characters; a cookie has 4096 bytes
Kind = Literal["done", "note", "failed"]


class Message(NamedTuple):
    """What the next page says."""

    kind: Kind
    text: str


def redirect(to: str, message: str = "", kind: Kind = "done") -> RedirectResponse:
    """Go on to the page *to*, which then says *message*: the answer to a form that succeeded."""
    answer = RedirectResponse(to, status_code=303)
    if message:
        value = urlsafe_b64encode(json.dumps([kind, message[:_LONGEST]]).encode()).decode()
        answer.set_cookie(_COOKIE, value, max_age=60, httponly=True, samesite="strict")
    return answer


def flashed(request: Request) -> list[Message]:
    """What the page before wanted said. Whatever a client sends in its place that is not ours is not shown."""
    try:
        kind, text = json.loads(urlsafe_b64decode(request.cookies.get(_COOKIE, "")))
    except (ValueError, TypeError):
        return []
    return [Message(kind, text)] if kind in ("done", "note", "failed") and isinstance(text, str) else []


def clear_flash(answer: Response) -> None:
    """Once is enough."""
    answer.delete_cookie(_COOKIE, httponly=True, samesite="strict")
