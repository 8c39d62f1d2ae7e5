"""What takes long to read, kept in memory: given at once, and read again in the background when it is old."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from console.problems import Problem, problem_of

T = TypeVar("T")
_SHARE = 10
"""What took a second to read is good for so many: reading never takes more than such a part of the time."""


@dataclass(frozen=True)
class Seen(Generic[T]):
    """What is known. *value* is None before it was read once; *problem*: why the last reading failed.

    *version* is another one whenever *value* may be another; *late*: it is known to have changed, and is still read.
    """

    value: T | None
    at: datetime | None
    problem: Problem | None
    version: int
    late: bool


class Kept(Generic[T]):
    """What *read* returned last. Where it fails, what it returned before stays. May be asked by any thread."""

    def __init__(self, read: Callable[[], T], fresh: float, stale: float) -> None:
        self._read, self._fresh, self._stale = read, fresh, stale
        self._known = threading.Condition()
        self._seen: Seen[T] = Seen(None, None, None, 0, late=True)
        self._began = self._ended = self._took = 0.0  # of the last reading, by the monotonic clock
        self._wanted, self._have = 1, 0  # how often it was changed, and which of that is seen
        self._reading = False

    def get(self, patience: float) -> Seen[T]:
        """What is known. What is more than *fresh* seconds old is read again meanwhile.

        Where nothing is known, where it is more than *stale* seconds old, or where it was ``changed`` since, wait for
        that until it has been read for *patience* seconds: where it takes longer, nobody waits for it.
        """
        with self._known:
            age = time.monotonic() - self._ended
            if age > max(self._stale, _SHARE * self._took) and not self._reading:
                self._wanted += 1
            if self._have < self._wanted or age > max(self._fresh, _SHARE * self._took):
                self._begin()
            wanted = self._wanted
            left = patience - (time.monotonic() - self._began)
            self._known.wait_for(lambda: self._have >= wanted, max(0.0, left))
            seen = self._seen
            return Seen(seen.value, seen.at, seen.problem, seen.version, late=self._have < wanted)

    def changed(self) -> None:
        """What is known is out of date: the next one who asks waits for it."""
        with self._known:
            self._wanted += 1

    def _begin(self) -> None:
        if not self._reading:
            self._reading, self._began = True, time.monotonic()
            threading.Thread(target=self._run, name="reading", daemon=True).start()

    def _run(self) -> None:
        while self._read_once():
            pass

    def _read_once(self) -> bool:
        """Whether it was changed meanwhile."""
        with self._known:
            wanted, before = self._wanted, self._seen
            began = self._began = time.monotonic()
        try:
            value = self._read()
            seen = Seen(value, datetime.now(UTC), None, before.version + (value != before.value), late=False)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told to those who ask
            seen = Seen(before.value, before.at, problem_of(error), before.version, late=False)
        ended = time.monotonic()
        with self._known:
            self._seen, self._have = seen, wanted
            self._ended, self._took = ended, ended - began
            self._reading = self._wanted > wanted
            self._known.notify_all()
            return self._reading
