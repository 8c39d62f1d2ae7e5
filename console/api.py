"""The console as an ASGI application: ``uvicorn console.api:app``, or ``python -m console``, which looks at more."""

from __future__ import annotations

from fastapi import FastAPI

from console.pages.rendering import mount_static, problem_page
from console.problems import add_handlers
from console.routes import apps

_DESCRIPTION = """Backups of databases and files: proven, encrypted, restorable without us.

Errors are `application/problem+json` (RFC 9457) with a `remedy`. Times are RFC 3339, in UTC; sizes are bytes.
"""


def create() -> FastAPI:
    """A new application."""
    made = FastAPI(title="Backups", version="1", description=_DESCRIPTION, redoc_url=None)
    add_handlers(made, problem_page)
    mount_static(made)
    made.include_router(apps.router, prefix="/api")
    return made


app = create()
