"""The keeper of the door: knows the accounts and tokens, from Prefect, and tells who asks."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus

from starlette.requests import HTTPConnection

from blocks import console_accounts
from blocks.console_accounts import Held
from blocks.passwords import TOKEN_PREFIX, digest, fits
from console.problems import Problem
from console.sessions import Session, seal, unseal
from console.throttle import Throttle
from console.who import Who

FRESH = 2.0
"""Seconds for which what Prefect has said of the accounts is believed."""
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")


def is_loopback(host: str | None) -> bool:
    """Whether only this machine is reached, or reaches, by *host*."""
    name = (host or "").strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Keeper:
    """One for each application. *bind* is the address it listens on; *closed*: open to nobody, nor on loopback."""

    def __init__(self, bind: str = "127.0.0.1", closed: bool = False, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.loopback = is_loopback(bind)
        self._may_open = self.loopback and not closed
        self._own_key = secrets.token_urlsafe(48)  # for as long as there is none in Prefect
        self._lock = threading.Lock()
        self._known: tuple[float, str, Held] | None = None
        self._by_account, self._by_address = Throttle(5), Throttle(30)

    def look(self) -> tuple[str, Held]:
        """The session key, and who there is, as of a moment ago."""
        with self._lock:
            now = time.monotonic()
            if self._known is None or now - self._known[0] > FRESH:
                self._known = (now, *console_accounts.read())
            _, key, held = self._known
            return key or self._own_key, held

    def forget(self) -> None:
        """Ask Prefect at once: something has been changed."""
        with self._lock:
            self._known = None

    def open_to(self, request: HTTPConnection) -> bool:
        """Whether login is off: there is no account, and only this machine can ask, without somebody in between."""
        server = request.scope.get("server") or (None,)
        passed_on = any(name in request.headers for name in _FORWARDED)
        return self._may_open and is_loopback(server[0]) and not passed_on and not self.look()[1].accounts

    def secure(self, request: HTTPConnection) -> bool:
        """Whether cookies go over HTTPS only."""
        return request.scope.get("scheme") == "https" or not self.loopback

    def by_token(self, sent: str) -> Who | None:
        """Whose token that is; None where it is nobody's, or over."""
        if not sent.startswith(TOKEN_PREFIX):
            return None
        found, mine = None, digest(sent)
        for token in self.look()[1].tokens.values():  # all of them, whichever it is
            if hmac.compare_digest(token.sha256, mine):
                found = token
        if found is None or not found.valid(datetime.fromtimestamp(self.clock(), UTC)):
            return None
        return Who(found.name, found.scope, "token")

    def by_cookie(self, sent: str) -> tuple[Who, Session] | None:
        """Whose session that is; None where it is nobody's, or over."""
        key, held = self.look()
        session = unseal(key, sent)
        if session is None or session.id in held.ended or not session.lasts(self.clock()):
            return None
        account = held.accounts.get(session.account)
        if account is None or not hmac.compare_digest(account.generation, session.generation):
            return None
        return Who(account.name, account.scope, "session"), session

    def log_in(self, name: str, password: str, address: str) -> Session:
        """A new session; ``Problem`` 401 where one of both is wrong, whichever, 429 where it was tried too often."""
        known = name[:80]
        for throttle, key in ((self._by_address, _network(address)), (self._by_account, known)):
            left = throttle.wait(key)
            if left:
                wait = str(math.ceil(left))
                raise Problem(
                    HTTPStatus.TOO_MANY_REQUESTS, f"too many tries: wait {wait} s", headers={"Retry-After": wait}
                )
        account = self.look()[1].accounts.get(known)
        if not fits(password, account.password if account else None) or account is None:
            raise Problem(HTTPStatus.UNAUTHORIZED, "the name or the password is wrong")
        self._by_account.forgive(known)
        self._by_address.forgive(_network(address))
        return Session.begin(account.name, account.generation, self.clock())

    def cookie_of(self, session: Session) -> str:
        """What its cookie says."""
        return seal(self.look()[0], session)

    def log_out(self, session: Session) -> None:
        """End it, here and wherever its cookie may be used."""
        console_accounts.end_session(session.id, session.ends)
        self.forget()

    def csrf_token(self, bound_to: str | None) -> str:
        """What only a page that we gave to this session can send along; None: where login is off."""
        key = self._own_key if bound_to is None else self.look()[0]
        return hmac.new(key.encode(), f"csrf {bound_to or ''}".encode(), hashlib.sha256).hexdigest()


def _network(address: str) -> str:
    """An address as it is counted: of IPv6 the 64 bits that one customer has."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)
