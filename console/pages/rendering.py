"""Pages as HTML: one Jinja2 environment that escapes everything, and what all templates may use."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from console.access import Who, csrf_token, who_asks
from console.pages.flash import clear_flash, flashed
from console.problems import Problem
from vault.record import utc
from vault.units import age, human

_HERE = Path(__file__).parents[1]
STATIC = _HERE / "static"
NAVIGATION = (  # address, what it is called, its icon
    ("/", "Status", "pulse"),
    ("/backups", "Backups", "archive"),
    ("/destinations", "Destinations", "server"),
    ("/apps", "Apps", "box"),
    ("/schedules", "Schedules", "clock"),
)
WORDS = {  # the status of a backup, in words
    "pending": "waiting",
    "running": "running",
    "success": "success",
    "partial": "partial",
    "failed": "failed",
    "cancelled": "cancelled",
    "damaged": "damaged",
}


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """The page that *template* makes of *values*. Every value is escaped. A flash message is shown once."""
    messages = flashed(request)
    text = (
        _environment()
        .get_template(template)
        .render(request=request, who=_who(request), here=request.url.path, messages=messages, **values)
    )
    answer = HTMLResponse(text, status_code=status, headers={"Cache-Control": "no-store"})
    if messages:
        clear_flash(answer)
    return answer


def problem_page(request: Request, problem: Problem) -> Response:
    """What went wrong, as a page; where nobody can tell who asks, the way to the login."""
    if problem.status == 401:
        there = quote(request.scope["path"], safe="/")
        return RedirectResponse(f"/login?next={there}" if request.method == "GET" else "/login", status_code=303)
    answer = page(request, "problem.html", status=problem.status, problem=problem)
    answer.headers.update(problem.headers or {})
    return answer


def mount_static(app: FastAPI) -> None:
    """Serve the files of ``static/`` at ``/static``."""
    app.mount("/static", StaticFiles(directory=STATIC), name="static")


@cache
def static(name: str) -> str:
    """The address of a file in ``static/``; another one whenever its content is another."""
    return f"/static/{name}?v={sha256((STATIC / name).read_bytes()).hexdigest()[:12]}"


def moment(value: str | datetime | None) -> datetime | None:
    """A time as the API writes it, as a ``datetime`` in UTC."""
    if value is None or isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value).astimezone(UTC)


def time(value: str | datetime | None) -> Markup:
    """A time as ``<time>``: in UTC here, and in the local time of whoever looks once our JavaScript has run."""
    at = moment(value)
    if at is None:
        return Markup('<span class="none">never</span>')
    return Markup('<time datetime="{}" data-local>{}</time>').format(utc(at), at.strftime("%Y-%m-%d %H:%M UTC"))


def ago(value: str | datetime | None) -> Markup:
    """How long ago, or how long until: ``3 h ago``, ``in 14 min``; the time itself is its title."""
    at = moment(value)
    if at is None:
        return Markup('<span class="none">never</span>')
    since = datetime.now(UTC) - at
    words = f"{age(since)} ago" if since.total_seconds() >= 0 else f"in {age(-since)}"
    return Markup('<time datetime="{}" data-title title="{}">{}</time>').format(
        utc(at), at.strftime("%Y-%m-%d %H:%M UTC"), words
    )


def wall(value: str) -> str:
    """A local time with its offset, as a clock there shows it: ``Sun 2026-11-29 02:30 (+01:00)``."""
    at = datetime.fromisoformat(value)
    return f"{at:%a %Y-%m-%d %H:%M} ({at.isoformat()[-6:]})"


def duration(start: str | datetime | None, end: str | datetime | None) -> str:
    """From *start* to *end*: ``12 s``, ``3 min 5 s``, ``2 h 10 min``; nothing where one is missing."""
    first, last = moment(start), moment(end)
    if first is None or last is None:
        return ""
    seconds = max(0, round((last - first).total_seconds()))
    minutes, hours = seconds // 60, seconds // 3600
    if seconds < 60:
        return f"{seconds} s"
    return f"{minutes} min {seconds % 60} s" if hours < 1 else f"{hours} h {minutes % 60} min"


def size(value: int | None) -> str:
    """Bytes as people read them; nothing where it is not known."""
    return "" if value is None else human(value)


def _who(request: Request) -> Who | None:
    """Whoever asks; None on the pages that are for those who have not logged in."""
    try:
        return who_asks(request)
    except Problem:
        return None


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        time=time,
        ago=ago,
        size=size,
        wall=wall,
        words=lambda status: WORDS.get(status, status),
        pair=lambda name: (name, name),
    )
    shared: Mapping[str, Any] = {
        "static": static,
        "navigation": NAVIGATION,
        "csrf_token": csrf_token,
        "duration": duration,
    }
    made.globals.update(shared)
    return made
