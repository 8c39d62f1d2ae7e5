"""Sessions of browsers: a signed cookie says whose, since when, and when it was last used."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime

from itsdangerous import BadData, URLSafeSerializer

IDLE, LONGEST = 3600, 12 * 3600
"""Seconds after which a session ends that nobody uses; and any session."""
_RENEWED = 60  # seconds after which the cookie says anew when it was used


@dataclass(frozen=True)
class Session:
    """A browser that has logged in. It is of one *generation* of the account: see ``Account``."""

    id: str
    account: str
    generation: str
    since: int
    seen: int

    @classmethod
    def begin(cls, account: str, generation: str, now: float) -> Session:
        """A new one, with an id that nobody has seen before."""
        return cls(secrets.token_urlsafe(16), account, generation, int(now), int(now))

    @property
    def ends(self) -> datetime:
        """When it is over at the latest."""
        return datetime.fromtimestamp(self.since + LONGEST, UTC)

    def lasts(self, now: float) -> bool:
        """Whether it is not over by time."""
        return now < self.since + LONGEST and now < self.seen + IDLE

    def renewed(self, now: float) -> Session | None:
        """The same, used now; None where its cookie says that well enough."""
        return replace(self, seen=int(now)) if now > self.seen + _RENEWED else None


def seal(key: str, session: Session) -> str:
    """*session* as a cookie's value."""
    return str(_serializer(key).dumps(list(astuple(session))))


def unseal(key: str, text: str) -> Session | None:
    """The session that ``seal`` made the text of; None where somebody else made it."""
    try:
        return Session(*_serializer(key).loads(text))
    except (BadData, TypeError):  # TypeError: an older console's
        return None


def _serializer(key: str) -> URLSafeSerializer:
    how = {"digest_method": hashlib.sha256, "key_derivation": "hmac"}
    return URLSafeSerializer(key, salt="backups console session", signer_kwargs=how)
