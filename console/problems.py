"""What goes wrong, as a client is told: ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import httpx
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from vault.errors import (
    BackupError,
    ConfigError,
    DestinationError,
    NotFound,
    RestoreRefused,
    RetentionRefused,
    Transient,
)

MEDIA_TYPE = "application/problem+json"
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}}
    for status, text in {
        400: "It cannot be read",
        401: "Nobody is logged in, and no token that counts was sent",
        403: "The scope is too low, or no page of the console sent this",
        404: "There is no such thing",
        409: "It is not possible as things are",
        412: "It was changed meanwhile: the ETag is another",
        413: "It is too large",
        422: "Something that was sent does not fit; errors has it field by field",
        429: "Too many tries: Retry-After says when",
        502: "A destination or a server failed",
        503: "Prefect or a destination does not answer now",
    }.items()
}
"""What any request may be answered with besides success."""
_LOG = logging.getLogger(__name__)
_KINDS: tuple[tuple[type[BackupError], HTTPStatus], ...] = (  # the first that fits
    (NotFound, HTTPStatus.NOT_FOUND),
    (Transient, HTTPStatus.SERVICE_UNAVAILABLE),
    (RestoreRefused, HTTPStatus.CONFLICT),
    (RetentionRefused, HTTPStatus.CONFLICT),
    (ConfigError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (DestinationError, HTTPStatus.BAD_GATEWAY),
    (BackupError, HTTPStatus.BAD_GATEWAY),
)


class Problem(Exception):
    """An answer that is no success. *more* are members of its own, such as ``errors``: field by field what is wrong."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        remedy: str = "",
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.remedy, self.headers, self.more = status, detail, remedy, headers, more

    @classmethod
    def of(cls, error: BackupError) -> Problem:
        """The same error, as the answer to a client."""
        status = next(status for kind, status in _KINDS if isinstance(error, kind))
        return cls(status, error.message, error.remedy)

    def document(self, request: Request) -> dict[str, Any]:
        """The members of RFC 9457, and ``remedy``: what to do about it."""
        return {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": self.detail,
            **({"remedy": self.remedy} if self.remedy else {}),
            "instance": request.url.path,
            **self.more,
        }


def not_found(what: str, remedy: str = "") -> Problem:
    """That there is no such thing."""
    return Problem(HTTPStatus.NOT_FOUND, f"there is no {what}", remedy)


def unavailable(detail: str, remedy: str = "") -> Problem:
    """That it may work later."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, remedy)


def problem_of(error: Exception) -> Problem:
    """What to tell a client of *error*. What we did not expect is logged, and told only by the number of its line."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, BackupError):
        return Problem.of(error)
    if isinstance(error, RequestValidationError):
        found = [{"field": _field(one["loc"]), "message": str(one["msg"])} for one in error.errors()]
        detail = "; ".join(f"{one['field']}: {one['message']}" for one in found)
        return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=found)
    if isinstance(error, HTTPException):
        headers = dict(error.headers) if error.headers else None
        return Problem(HTTPStatus(error.status_code), str(error.detail), headers=headers)
    if isinstance(error, httpx.TransportError):
        return unavailable("Prefect's API does not answer", "Start it, then try again.")
    if isinstance(error, httpx.HTTPStatusError):
        said = f"Prefect's API answered {error.response.status_code}"
        return Problem(HTTPStatus.BAD_GATEWAY, said, "See the log of its server, and how the console may reach it.")
    number = uuid4().hex[:8]
    _LOG.error("unexpected error %s", number, exc_info=error)
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "this is not an error we expected", f"The console's log has it as {number}."
    )


Answer = Callable[[Request, Exception], Response]


def add_handlers(app: FastAPI, page: Callable[[Request, Problem], Response]) -> Answer:
    """Have *app* answer with problems, whatever goes wrong: as JSON, or as *page* makes one for a browser.

    Returns what makes these answers, for what is not of *app* itself.
    """

    def answer(request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        if "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/"):
            return page(request, problem)
        return JSONResponse(
            problem.document(request), status_code=problem.status, headers=problem.headers, media_type=MEDIA_TYPE
        )

    for kind in (Problem, BackupError, RequestValidationError, HTTPException, httpx.HTTPError, Exception):
        app.add_exception_handler(kind, answer)
    return answer


def _field(location: tuple[int | str, ...]) -> str:
    """``body.keep.keep_last`` without its first part, which only says where in the request."""
    return ".".join(str(part) for part in location[1:] or location)
