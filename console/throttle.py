"""Who guesses has to wait: longer with each try."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

LONGEST = 900.0
"""Seconds that one may have to wait at most."""
_FORGOTTEN = 3600.0  # seconds after the last try
_MOST = 10_000  # keys; the one that was tried longest ago goes first


class Throttle:
    """Counts tries by key, such as an account or an address. *free* of them cost nothing; then one waits 2 s, 4 s, …"""

    def __init__(self, free: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._free, self._clock = free, clock
        self._tries: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, key: str) -> float:
        """How many seconds *key* has to wait yet. Where it is none, this counts as a try: ``forgive`` takes it back."""
        with self._lock:
            now = self._clock()
            tries, last = self._tries.get(key, (0, now))
            if now - last > _FORGOTTEN:
                tries = 0
            left = last + self._delay(tries) - now
            if left > 0:
                return left
            self._tries[key] = (tries + 1, now)
            self._tries.move_to_end(key)
            while len(self._tries) > _MOST:
                self._tries.popitem(last=False)
            return 0.0

    def forgive(self, key: str) -> None:
        """The last try was good: all before it are forgotten."""
        with self._lock:
            self._tries.pop(key, None)

    def _delay(self, tries: int) -> float:
        return 0.0 if tries < self._free else min(2.0 ** min(tries - self._free + 1, 20), LONGEST)
