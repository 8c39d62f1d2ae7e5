"""Idempotency-Key: a POST that is sent again, since its answer was lost, is answered again and not done again."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from console.problems import Problem

KEPT = 24 * 3600.0
"""Seconds for which an answer is kept, as long as the console runs."""
LONGEST_KEY = 200
_MOST, _LARGEST = 1000, 64 * 1024  # answers, and the bytes of one


@dataclass(frozen=True)
class Answer:
    """What was answered."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass
class _Entry:
    request: bytes  # a digest of what was asked
    at: float
    answer: Answer | None = None


class Replays:
    """The answers to what was done. What failed may be tried again with the same key: it is not kept."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, ...], _Entry] = OrderedDict()

    def begin(self, key: tuple[str, ...], body: bytes) -> Answer | None:
        """The answer there was to the same; None where it has to be done, and then ``end`` is called.

        *key* names who asks, what for, and the header. ``Problem`` 422 where it was sent with another body, 409 where
        the same is being done now, 503 where too much is.
        """
        asked = hashlib.sha256(body).digest()
        with self._lock:
            self._forget_old()
            entry = self._entries.get(key)
            if entry is None:
                if len(self._entries) >= _MOST:
                    raise Problem(
                        HTTPStatus.SERVICE_UNAVAILABLE, "too many requests go on", headers={"Retry-After": "5"}
                    )
                self._entries[key] = _Entry(asked, self._clock())
                return None
            if entry.request != asked:
                raise Problem(
                    HTTPStatus.UNPROCESSABLE_ENTITY,
                    "this Idempotency-Key was sent before with another body",
                    "Send another key with another request.",
                )
            if entry.answer is None:
                raise Problem(
                    HTTPStatus.CONFLICT,
                    "the same request is being done now",
                    "Send it again with the same key in a moment.",
                    headers={"Retry-After": "2"},
                )
            return entry.answer

    def end(self, key: tuple[str, ...], answer: Answer | None) -> None:
        """Keep the *answer* for who asks again; None, or one of an error: it was not done."""
        with self._lock:
            if answer is None or answer.status >= 400 or len(answer.body) > _LARGEST:
                self._entries.pop(key, None)
            else:
                self._entries[key].answer = answer

    def _forget_old(self) -> None:
        """Those that are too old; and of too many the oldest that are done."""
        old = self._clock() - KEPT
        for key in [key for key, entry in self._entries.items() if entry.answer is not None]:
            if self._entries[key].at >= old and len(self._entries) < _MOST:
                return
            del self._entries[key]


def checked(key: str) -> str:
    """*key* as it may be; ``Problem`` 422 otherwise."""
    if key and key.isascii() and key.isprintable() and len(key) <= LONGEST_KEY:
        return key
    raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"an Idempotency-Key is 1 to {LONGEST_KEY} ASCII characters")
