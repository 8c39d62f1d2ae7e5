"""The gate: each request goes through here first. What it lets through comes from somebody who may ask at all, is no
longer than it may be, and was meant: no page of somebody else's has made a browser send it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from hmac import compare_digest
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from fastapi import Request
from fastapi.dependencies.models import Dependant
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console import audit, headers
from console.exchange import Heard, again, cookie, read, replay, secured
from console.idempotency import Replays, checked
from console.keeper import Keeper, is_loopback
from console.problems import Problem
from console.sessions import IDLE, Session
from console.who import NOBODY, Who

SAFE = ("GET", "HEAD", "OPTIONS")
CSRF_HEADER = "X-CSRF-Token"
SCRIPT_HEADER = "X-Requested-With"
"""What a script sends where login is off. A page of another site cannot: its browser would ask us first, by a
``preflight``, and we agree to none; and by a name that was bound to us (DNS rebinding) nobody gets in."""
LOGIN = "/login"
_PUBLIC = (LOGIN, "/api/health")
_FIELD = "csrf"
_VISITOR = "backups-visitor"


@dataclass
class Passage:
    """What the gate knows of a request. *cookie* is set by the login and the logout."""

    who: Who | None = None
    session: Session | None = None
    csrf: str = ""
    is_open: bool = False
    visitor: str | None = None  # a new one's mark
    cookie: str | None = None  # what the session's cookie becomes; nothing: none any more
    said: list[str] = field(default_factory=list)


def passage(request: Request) -> Passage:
    """What the gate knows of *request*."""
    found: Passage = request.scope["backups"]
    return found


class Gate:
    """ASGI middleware, the outermost but for Starlette's own. *answer* makes a response of what goes wrong."""

    def __init__(self, app: ASGIApp, keeper: Keeper, answer: Callable[[Request, Exception], Response]) -> None:
        self._app, self._keeper, self._answer = app, keeper, answer
        self._replays = Replays()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        known = scope["backups"] = Passage(said=audit.begin())
        request, begun = Request(scope, receive), False

        async def send_out(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                self._dress(request, known, message)
            await send(message)

        try:
            await self._let_through(request, known, send_out)
        except Exception as error:
            if begun:
                raise
            await self._answer(request, error)(scope, receive, send_out)

    async def _let_through(self, request: Request, known: Passage, send: Send) -> None:
        path, changes = request.scope["path"], request.method not in SAFE
        if path.startswith("/static/") and not changes:
            await self._app(request.scope, request.receive, send)
            return
        body = await read(request) if changes else b""
        await run_in_threadpool(self._identify, request, known)
        if known.is_open and not is_loopback(_host(request)):
            raise Problem(
                HTTPStatus.MISDIRECTED_REQUEST,
                "this console has no login, and is for this machine only",
                "Ask it as http://127.0.0.1, or make an account: backups console user add NAME --scope admin.",
            )
        if known.who is None and path not in _PUBLIC:
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "nobody is logged in, and no token that counts was sent",
                "Log in at /login, or send the header Authorization: Bearer TOKEN (backups console token add).",
                headers={"WWW-Authenticate": 'Bearer realm="backups"'},
            )
        if changes and (known.who is None or known.who.via != "token"):
            _refuse_others(request, known, body)
        if not changes:
            await self._app(request.scope, request.receive, send)
            return
        await self._change(request, known, body, send)

    async def _change(self, request: Request, known: Passage, body: bytes, send: Send) -> None:
        """Let through what changes something: once for each Idempotency-Key, and audited."""
        sent, key = request.headers.get("idempotency-key"), None
        if sent is not None and request.method == "POST" and known.who is not None:
            who = known.who
            where = (request.scope["path"], request.scope["query_string"].decode("latin-1"))
            key = (who.name, who.via, who.scope, *where, checked(sent))
            before = self._replays.begin(key, body)
            if before is not None:
                await replay(before, send)
                return
        heard = Heard(send)
        try:
            await self._app(request.scope, again(body, request.receive), heard)
        finally:
            if key is not None:
                self._replays.end(key, heard.answer)
            if known.who is not None and not known.said and scope_of(request.scope.get("route")) != "read":
                await run_in_threadpool(_audit, request, known.who, body, heard.status)

    def _identify(self, request: Request, known: Passage) -> None:
        keeper = self._keeper
        if request.scope["path"] == "/api/health" and "authorization" not in request.headers:
            return  # it has to answer when Prefect does not
        known.is_open = keeper.open_to(request)
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        sealed = request.cookies.get(session_cookie(keeper.secure(request)))
        if kind.lower() == "bearer":
            known.who = keeper.by_token(token.strip())
        elif sealed and (found := keeper.by_cookie(sealed)):
            known.who, known.session = found
            known.csrf = keeper.csrf_token(f"session {known.session.id}")
            renewed = known.session.renewed(keeper.clock())
            known.cookie = keeper.cookie_of(renewed) if renewed else None
        elif known.is_open:
            known.who, known.csrf = NOBODY, keeper.csrf_token(None)
        elif request.scope["path"] == LOGIN:
            mark = request.cookies.get(_VISITOR)
            if not mark or len(mark) > 100:
                mark = known.visitor = secrets.token_urlsafe(16)
            known.csrf = keeper.csrf_token(f"visitor {mark}")

    def _dress(self, request: Request, known: Passage, message: Message) -> None:
        """The headers and cookies of an answer that begins."""
        made = MutableHeaders(scope=message)
        headers.secure(made, request.scope, message["status"], known.is_open)
        secure = self._keeper.secure(request)
        if secure:  # the cookies that a page has set, too
            kept = [secured(value) for value in made.getlist("Set-Cookie")]
            del made["Set-Cookie"]
            for value in kept:
                made.append("Set-Cookie", value)
        if known.cookie is not None:
            made.append("Set-Cookie", cookie(session_cookie(secure), known.cookie, IDLE if known.cookie else 0, secure))
        if known.visitor is not None:
            made.append("Set-Cookie", cookie(_VISITOR, known.visitor, IDLE, secure))


def session_cookie(secure: bool) -> str:
    """What the cookie is called; a browser lets nobody but us set the first one, over HTTPS."""
    return "__Host-backups-session" if secure else "backups-session"


def _refuse_others(request: Request, known: Passage, body: bytes) -> None:
    """``Problem`` 403 where another site's page may have made a browser send this."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    own = urlsplit(origin).netloc == request.headers.get("host") if origin else True
    form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    sent = request.headers.get(CSRF_HEADER) or (_field(body) if form else "")
    fits = compare_digest(sent.encode(), known.csrf.encode()) and bool(known.csrf)
    script = known.who is not None and known.who.via == "nobody" and bool(request.headers.get(SCRIPT_HEADER))
    if site not in (None, "same-origin", "none") or not own or not (fits or script):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "this was not sent by a page of this console, or the page is too old",
            "Load the page again. A script sends a token: Authorization: Bearer TOKEN (backups console token add);"
            f" where login is off, {SCRIPT_HEADER}: script will do.",
        )


def scope_of(route: object) -> str | None:
    """The scope that *route* asks for, by its dependencies; None where it asks for none."""
    return _rule(getattr(route, "dependant", None))


def _rule(dependant: Dependant | None) -> str | None:
    if dependant is None:
        return None
    own = getattr(dependant.call, "scope", None)
    return own or next(filter(None, map(_rule, dependant.dependencies)), None)


def _host(request: Request) -> str:
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def _field(body: bytes) -> str:
    try:
        return parse_qs(body.decode(), max_num_fields=1000).get(_FIELD, [""])[0]
    except ValueError:
        return ""


def _audit(request: Request, who: Who, body: bytes, status: int) -> None:
    """What was asked for, by the name of the function that does it, and what became of it."""
    route = request.scope.get("route")
    action = str(getattr(route, "name", "") or "unknown").replace("_", "-")
    named = [str(value) for value in request.scope.get("path_params", {}).values()]
    result = "succeeded" if 0 < status < 400 else f"refused: {status}" if 0 < status < 500 else "failed"
    audit.audit(who, action, "/".join(named) or request.scope["path"], result)
