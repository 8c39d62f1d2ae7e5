"""How far a run is: counted by the steps, shown by whoever listens (a terminal line, Prefect's timeline)."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

_SAID = re.compile(r"(?s)([^:]*): (.*); ([0-9,]+)(?: of ([0-9,]+))? bytes")


@dataclass(frozen=True)
class Snapshot:
    """One moment of a run. ``done`` and ``expected`` are bytes of the plain streams; 0 expected: not known."""

    title: str = ""
    stage: str = ""
    done: int = 0
    expected: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        """For a person, and for ``parse``: ``shop: dump; 1,234 of 5,678 bytes``."""
        of = f" of {self.expected:,}" if self.expected else ""
        return f"{self.title}: {self.stage}; {self.done:,}{of} bytes"

    @classmethod
    def parse(cls, text: str) -> Snapshot | None:
        """What a text says that was made of one; None where it was not. *seconds* are not in it."""
        found = _SAID.fullmatch(text)
        if found is None:
            return None
        done, expected = (int((number or "0").replace(",", "")) for number in found.groups()[2:])
        return cls(found[1], found[2], done, expected)


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
        self._sizes: dict[str, int] = {}
        self._stages: dict[str, str] = {}

    def stage(self, stage: str, part: str = "") -> None:
        """The run now does *stage*; with *part*, that part of it does, beside what the others do."""
        with self._lock:
            self._stages = {**self._stages, part: stage} if part else {"": stage}
            if part:
                self._stages.pop("", None)
            said = ", ".join(filter(None, self._stages.values()))
            self._now = replace(self._now, stage=said)
        self._publish()

    def expect(self, size: int) -> None:
        """So many plain bytes are expected in all."""
        with self._lock:
            self._now = replace(self._now, expected=size)
        self._publish()

    def reach(self, part: str, size: int) -> None:
        """So many bytes of *part* went through in all."""
        with self._lock:
            self._sizes[part] = size
            self._now = replace(self._now, done=sum(self._sizes.values()))
        self._publish()

    @property
    def now(self) -> Snapshot:
        """This moment."""
        return replace(self._now, seconds=time.monotonic() - self._began)

    def _publish(self) -> None:
        for listener in tuple(_listeners):
            listener(self.now)
