"""Passwords as scrypt keeps them, and tokens as SHA-256 does: what is stored lets nobody in."""

from __future__ import annotations

import hashlib
import secrets
import threading
from base64 import b64decode, b64encode
from hmac import compare_digest

from vault.errors import ConfigError

SHORTEST, LONGEST = 12, 1024
"""Characters of a password."""
TOKEN_PREFIX = "backups_"  # noqa: S105 - what tells a token from other words, for people and for secret scanners
_COST, _BLOCK, _LANES, _LENGTH = 2**15, 8, 3, 32  # 32 MiB and about a quarter of a second
_MEMORY = 256 * 1024 * 1024
_few_at_once = threading.BoundedSemaphore(2)  # who sends many passwords at once must not take all memory


def hashed(password: str) -> str:
    """What to keep of *password*: ``scrypt$N$r$p$salt$hash``; ``ConfigError`` where it is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise ConfigError(f"a password has {SHORTEST} to {LONGEST} characters", "Three or four random words are good.")
    salt = secrets.token_bytes(16)
    found = _scrypt(password, salt, _COST, _BLOCK, _LANES)
    return "$".join(["scrypt", str(_COST), str(_BLOCK), str(_LANES), _text(salt), _text(found)])


def fits(password: str, kept: str | None) -> bool:
    """Whether *kept* is of *password*. Without one it is False, and takes as long as with one."""
    kind, cost, block, lanes, salt, found = (kept or _NOBODYS).split("$")
    if kind != "scrypt" or len(password) > LONGEST:
        return False
    given = _scrypt(password, b64decode(salt), int(cost), int(block), int(lanes))
    return compare_digest(given, b64decode(found)) and kept is not None


def new_token() -> str:
    """A token of 256 random bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What to keep of a token. It is random, so that no dictionary helps: one round is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def _scrypt(password: str, salt: bytes, cost: int, block: int, lanes: int) -> bytes:
    with _few_at_once:
        return hashlib.scrypt(
            password.encode(errors="surrogatepass"),
            salt=salt,
            n=cost,
            r=block,
            p=lanes,
            maxmem=_MEMORY,
            dklen=_LENGTH,
        )


def _text(data: bytes) -> str:
    return b64encode(data).decode()


_NOBODYS = f"scrypt${_COST}${_BLOCK}${_LANES}${_text(bytes(16))}${_text(bytes(_LENGTH))}"
