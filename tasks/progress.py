"""How far a run is: counted by the steps, shown by whoever listens (a terminal line, Prefect's timeline)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Snapshot:
    """One moment of a run. ``done`` and ``expected`` are bytes of the plain streams; 0 expected: not known."""

    title: str = ""
    stage: str = ""
    done: int = 0
    expected: int = 0
    seconds: float = 0.0


Listener = Callable[[Snapshot], None]
_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have *listener* called, from any thread, whenever a run of this process moves on."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class Progress:
    """Counts for one run; every method may be called by any thread."""

    def __init__(self, title: str, expected: int = 0) -> None:
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._now = Snapshot(title=title, expected=expected)

    def stage(self, stage: str) -> None:
        """The run now does *stage*."""
        self._publish(lambda now: replace(now, stage=stage))

    def expect(self, size: int) -> None:
        """So many plain bytes are expected in all."""
        self._publish(lambda now: replace(now, expected=size))

    def add(self, size: int) -> None:
        """So many more plain bytes went through."""
        self._publish(lambda now: replace(now, done=now.done + size))

    def reach(self, size: int) -> None:
        """So many plain bytes went through in all."""
        self._publish(lambda now: replace(now, done=size))

    @property
    def now(self) -> Snapshot:
        """This moment."""
        return replace(self._now, seconds=time.monotonic() - self._began)

    def _publish(self, change: Callable[[Snapshot], Snapshot]) -> None:
        with self._lock:
            self._now = change(self._now)
        for listener in tuple(_listeners):
            listener(self.now)
