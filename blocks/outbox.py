"""An outbox: mails go at once, a flood of them as a digest, and what was not taken is tried again."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock, Timer
from typing import TypeAlias

from vault.errors import BackupError

BURST = 10
"""So many mails go at once in one ``pause``; the others wait for its end, and go as one."""
_SLOWEST = 3600.0  # seconds between two tries
_KEPT = 1000  # mails that wait; of more than that the oldest are only counted
_SHORT = 1500  # characters of each in a digest
_LONG = 20_000  # characters of one that waits
_LOG = logging.getLogger("prefect.backups")

Send: TypeAlias = Callable[[str, str], None]
Mail: TypeAlias = tuple[datetime, str, str]


class Refused(BackupError):
    """What trying again cannot help: others have got it already."""


@dataclass
class Outbox:
    """What one process sends to the same people, by the same server. Threads may share it."""

    pause: float
    """Seconds in which only ``BURST`` mails go, and before another try; with each that fails twice as long."""
    _send: Send = field(default=lambda _subject, _body: None, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)
    _begun: deque[float] = field(default_factory=lambda: deque(maxlen=BURST))
    _waiting: list[Mail] = field(default_factory=list)
    _lost: int = 0
    _tries: int = 0
    _problem: BackupError | None = None
    """Why the last try failed."""
    _timer: Timer | None = None
    """Runs as long as something waits."""

    def post(self, send: Send, subject: str, body: str) -> None:
        """Send it, or keep it for the digest. Raises what *send* raises, or raised last; it is kept then too."""
        with self._lock:
            self._send = send
            now = time.monotonic()
            if self._timer or (len(self._begun) == BURST and self._begun[0] > now - self.pause):
                self._keep(subject, body)
                if self._problem is not None:
                    raise type(self._problem)(*self._problem.args)
                return
            self._begun.append(now)
        try:
            send(subject, body)
        except Refused:
            raise
        except BackupError as error:
            with self._lock:
                self._problem = error
                self._keep(subject, body)
            raise

    def _keep(self, subject: str, body: str) -> None:
        self._put([*self._waiting, (datetime.now(UTC), subject, body[:_LONG])])
        if self._timer is None:
            self._wait()

    def _put(self, mails: list[Mail]) -> None:
        self._lost += max(0, len(mails) - _KEPT)
        self._waiting = mails[-_KEPT:]

    def _wait(self) -> None:
        self._timer = Timer(min(self.pause * 2**self._tries, _SLOWEST), self._flush)
        self._timer.daemon = True
        self._timer.start()

    def _flush(self) -> None:
        with self._lock:
            mails, self._waiting = self._waiting, []
            lost, self._lost = self._lost, 0
        sent = self._try(*digest(mails, lost))
        with self._lock:
            if not sent:
                self._put([*mails, *self._waiting])
                self._lost += lost
            self._tries = 0 if sent else self._tries + 1
            self._problem = None if sent else self._problem
            self._timer = None
            if self._waiting:
                self._wait()

    def _try(self, subject: str, body: str) -> bool:
        try:
            self._send(subject, body)
        except Refused as error:
            _LOG.warning("%s", error)
        except Exception as error:  # noqa: BLE001 - whatever it is: they wait for the next try
            _LOG.warning("mails wait: %s", error if isinstance(error, BackupError) else type(error).__name__)
            return False
        return True


def digest(mails: list[Mail], lost: int = 0) -> tuple[str, str]:
    """Subject and text of one mail that stands for all of *mails*, and for *lost* that are not kept any more."""
    if len(mails) == 1 and not lost:
        return mails[0][1:]
    count = len(mails) + lost
    parts = [f"{at:%Y-%m-%d %H:%M:%S} UTC  {subject}\n\n{_indented(body)}" for at, subject, body in mails]
    gone = [f"{lost} older ones are left out: see Prefect's UI."] if lost else []
    heads = "\n".join(subject for _, subject, _ in mails)
    return f"{count} mails in one: {mails[0][1]}, …", "\n\n".join([heads, *gone, *parts])


def _indented(body: str) -> str:
    return "\n".join(f"    {line}" for line in body.strip()[:_SHORT].splitlines())


_outboxes: dict[tuple[object, ...], Outbox] = {}
_lock = Lock()


def outbox(pause: float, *whom: object) -> Outbox:
    """The one of this process for *whom*."""
    with _lock:
        return _outboxes.setdefault((pause, *whom), Outbox(pause))
