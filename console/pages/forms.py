"""Forms: what was typed, what is wrong with it, and the way on.

A page shows a form with ``Form.of(...)``; its POST takes ``Posted`` and ends in ``submit``: on success it goes on to
another page, on error the same form comes again with all that was typed, what is wrong and what to do about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import parse_qs

import httpx
from fastapi import Depends, Request
from fastapi.responses import Response
from pydantic import ValidationError

from console.access import check_csrf
from console.pages.flash import redirect
from console.pages.rendering import page
from console.problems import Problem, problem_of
from vault.errors import BackupError

_LARGEST = 1 << 20
MISTAKES = (Problem, BackupError, ValidationError, httpx.TransportError)
"""What a form shows; anything else is an error of ours."""


@dataclass(frozen=True)
class Form:
    """What was typed, by field. *errors* says by field what is wrong, *detail* and *remedy* as a whole."""

    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    detail: str = ""
    remedy: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)
    """What the problem has besides."""

    @classmethod
    def of(cls, **values: object) -> Form:
        """A form as it is at first: a list for several values, True for a box that is ticked, None for nothing."""
        return cls({name: _texts(value) for name, value in values.items()})

    def text(self, name: str, default: str = "") -> str:
        """What was typed into *name*, without space around it."""
        return self.values[name][0].strip() if self.values.get(name) else default

    def raw(self, name: str) -> str:
        """The same, as it was typed: a password may begin with a space."""
        return self.values[name][0] if self.values.get(name) else ""

    def maybe(self, name: str) -> str | None:
        """The same; None where nothing was typed."""
        return self.text(name) or None

    def texts(self, name: str) -> list[str]:
        """What was chosen of several."""
        return [value.strip() for value in self.values.get(name, ()) if value.strip()]

    def lines(self, name: str) -> list[str]:
        """The lines of a text area that are not empty."""
        return [line.strip() for line in self.text(name).splitlines() if line.strip()]

    def on(self, name: str) -> bool:
        """Whether the box was ticked."""
        return bool(self.values.get(name))

    def failed(self, error: Exception) -> Form:
        """The same form, with what is wrong."""
        if isinstance(error, ValidationError):
            found = {".".join(map(str, one["loc"])): str(one["msg"]) for one in error.errors(include_input=False)}
            return replace(self, errors=found, detail="Some of this cannot be used as it is.")
        problem = problem_of(error)
        errors = {str(one["field"]): str(one["message"]) for one in problem.more.get("errors", ())}
        return replace(self, errors=errors, detail=problem.detail, remedy=problem.remedy, more=problem.more)


async def read_form(request: Request) -> Form:
    """The form that was sent, and that a page of ours sent it: else 403."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST:
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "this form is larger than any of ours")
    try:
        values = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        raise Problem(HTTPStatus.BAD_REQUEST, "this is not what a form of ours sends") from None
    check_csrf(request, values.pop("csrf", [""])[0])
    return Form(values)


Posted = Annotated[Form, Depends(read_form)]


def submit(request: Request, form: Form, template: str, do: Callable[[], tuple[str, str]], **values: Any) -> Response:
    """Do it, and go on to the page that it returns, with the message that it returns; on error *template* again,
    with status 422 and all that was typed."""
    try:
        to, message = do()
    except MISTAKES as error:
        return page(request, template, status=422, form=form.failed(error), **values)
    return redirect(to, message)


def act(do: Callable[[], str], back: str) -> Response:
    """Do what a single button asks for, and go *back* to its page, which says what came of it."""
    try:
        return redirect(back, do())
    except MISTAKES as error:
        form = Form().failed(error)
        return redirect(back, f"{form.detail}. {form.remedy}" if form.remedy else form.detail, "failed")


def _texts(value: object) -> list[str]:
    if value is None or value is False:
        return []
    if isinstance(value, list | tuple):
        return [str(one) for one in value]
    return ["on" if value is True else str(value)]
