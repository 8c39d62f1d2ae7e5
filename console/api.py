"""The console as an ASGI application: ``uvicorn console.api:app``, or ``python -m console``, which looks at more."""

from __future__ import annotations

from fastapi import FastAPI

from console.gate import Gate
from console.keeper import Keeper
from console.pages import access, login
from console.pages import apps as app_pages
from console.pages import destinations as destination_pages
from console.pages import schedules as schedule_pages
from console.pages.rendering import mount_static, problem_page
from console.problems import add_handlers
from console.routes import accounts, apps, destinations, schedules

_DESCRIPTION = """Backups of databases and files: proven, encrypted, restorable without us.

Errors are `application/problem+json` (RFC 9457) with a `remedy`. Times are RFC 3339, in UTC; sizes are bytes.
"""


def create(bind: str = "127.0.0.1") -> FastAPI:
    """A new application, which listens on the address *bind*: beyond loopback nobody may ask who has not logged in."""
    keeper = Keeper(bind)
    made = FastAPI(title="Backups", version="1", description=_DESCRIPTION, redoc_url=None)
    made.state.keeper = keeper
    answer = add_handlers(made, problem_page)
    made.add_middleware(Gate, keeper=keeper, answer=answer)
    mount_static(made)
    made.include_router(apps.router, prefix="/api")
    made.include_router(accounts.router, prefix="/api")
    made.include_router(login.router)
    made.include_router(access.router)
    made.include_router(destinations.router, prefix="/api")
    made.include_router(schedules.router, prefix="/api")
    made.include_router(app_pages.router)
    made.include_router(destination_pages.router)
    made.include_router(schedule_pages.router)
    return made


app = create()
