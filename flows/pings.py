"""Pings: a watchdog outside hears how a run goes. That it cannot be reached is a warning, never a failure."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLong
from contextvars import copy_context

from blocks.loading import load
from blocks.ping import PING_SLUG, Ping, Signal
from tasks.log import run_log
from vault.errors import BackupError, Transient

_TRIES = 3
_PAUSE = 2.0  # seconds before it is tried again
_LONGEST = 45.0  # seconds for all that is to be sent
_HURRY = 10.0  # the same for a run that is told to end


class Pings:
    """Sent in the background while the run goes on, in order. Without a *name* none are."""

    def __init__(self, name: str | None) -> None:
        self._name, self._problems = name, list[str]()
        self._queue = ThreadPoolExecutor(1, "ping")
        self._door: Future[Ping] | None = None
        if name is not None:
            self._door = self._queue.submit(copy_context().run, load, f"{PING_SLUG}/{name}", Ping)
            self._send("start", "")

    def failed(self, error: BaseException) -> None:
        """The run fails with *error*, which then says also that the watchdog could not be told."""
        text = str(error) if isinstance(error, BackupError) else f"{type(error).__name__}: see the log of the run"
        problems = self._end("fail", text, _LONGEST if isinstance(error, Exception) else _HURRY)
        if isinstance(error, BackupError):
            error.remedy = "\n".join(filter(None, [error.remedy, *problems]))

    def succeeded(self, text: str) -> tuple[str, ...]:
        """The run succeeds; returns what could not be told, as warnings."""
        return self._end("success", text, _LONGEST)

    def _end(self, signal: Signal, text: str, seconds: float) -> tuple[str, ...]:
        try:
            self._send(signal, text).result(seconds)
        except TooLong:
            self._say(signal, f"no answer in {seconds:.0f} s")
        self._queue.shutdown(wait=False, cancel_futures=True)
        return tuple(self._problems)

    def _send(self, signal: Signal, text: str) -> Future[None]:
        return self._queue.submit(copy_context().run, self._tell, signal, text)

    def _tell(self, signal: Signal, text: str) -> None:
        tries = _TRIES if self._door else 0
        while self._door and tries:
            try:
                self._door.result().send(signal, text)
                tries = 0
            except Exception as error:  # noqa: BLE001 - whatever it is, the backup goes on
                tries = tries - 1 if isinstance(error, Transient) else 0
                if not tries:
                    self._say(signal, _told(error))
                else:
                    time.sleep(_PAUSE)

    def _say(self, signal: Signal, problem: str) -> None:
        said = f"{signal} could not be told to the ping {self._name}: {problem}"
        self._problems.append(said)
        run_log().warning("%s", said)


def _told(error: Exception) -> str:
    return error.message if isinstance(error, BackupError) else type(error).__name__
