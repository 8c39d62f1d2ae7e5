"""The console as an ASGI application: ``uvicorn console.api:app``, or ``python -m console``, which looks at more."""

from __future__ import annotations

from fastapi import FastAPI

from console.gate import Gate
from console.keeper import Keeper
from console.openapi import Console
from console.pages import access, docs, login
from console.pages import apps as app_pages
from console.pages import backups as backup_pages
from console.pages import destinations as destination_pages
from console.pages import restores as restore_pages
from console.pages import runs as run_pages
from console.pages import schedules as schedule_pages
from console.pages import status as status_page
from console.pages.rendering import mount_static, problem_page
from console.problems import RESPONSES, add_handlers
from console.routes import accounts, apps, backups, destinations, metrics, restores, runs, schedules, status

_API = (accounts, apps, backups, destinations, restores, runs, schedules, status)
_PAGES = (
    status_page,
    backup_pages,
    restore_pages,
    run_pages,
    destination_pages,
    app_pages,
    schedule_pages,
    access,
    login,
    docs,
)
_DESCRIPTION = """Backups of databases and files: proven, encrypted, restorable without us.

Errors are `application/problem+json` (RFC 9457) with a `remedy`. Times are RFC 3339, in UTC; sizes are bytes.
"""


def create(bind: str = "127.0.0.1", closed: bool = False) -> FastAPI:
    """A new application, which listens on the address *bind*.

    Beyond loopback, and with *closed* here too, nobody may ask who has not logged in.
    """
    keeper = Keeper(bind, closed)
    made = Console(
        title="Backups", version="1", description=_DESCRIPTION, responses=RESPONSES, openapi_url=None, docs_url=None
    )
    made.state.keeper = keeper
    answer = add_handlers(made, problem_page)
    made.add_middleware(Gate, keeper=keeper, answer=answer)
    mount_static(made)
    for noun in _API:
        made.include_router(noun.router, prefix="/api")
    made.include_router(metrics.router)
    for pages in _PAGES:
        made.include_router(pages.router)
    return made


app = create()
