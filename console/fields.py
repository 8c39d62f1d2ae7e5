"""What a client sent, judged: problems that name the field, and the confirmation of what cannot be taken back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from console.problems import Problem
from vault.errors import ConfigError


def wrong(field: str, message: str, remedy: str = "") -> Problem:
    """422: what is wrong with one field."""
    errors = [{"field": field, "message": message}]
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{field}: {message}", remedy, errors=errors)


@contextmanager
def in_field(field: str) -> Iterator[None]:
    """What cannot be, within, is because of *field*."""
    try:
        yield
    except ConfigError as error:
        raise wrong(field, error.message, error.remedy) from None


def confirmed(name: str, confirm: str | None) -> None:
    """Pass when *confirm* is *name*; else ``Problem`` 422 that says what to send."""
    if confirm != name:
        raise wrong("confirm", f"has to be {name}, which cannot be taken back", f"Send confirm={name}.")
