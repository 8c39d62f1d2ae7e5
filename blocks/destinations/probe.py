"""The steps of ``Destination.check``, each with its time, for whoever wants to show them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vault.errors import BackupError

if TYPE_CHECKING:
    from blocks.destinations.base import Destination


@dataclass(frozen=True)
class Step:
    """One step of a check; *error* is None where it succeeded."""

    name: str
    seconds: float
    error: BackupError | None = None

    def as_row(self) -> dict[str, Any]:
        """For a table or JSON: a row with the remedy where it failed."""
        return {
            "step": self.name,
            "seconds": round(self.seconds, 3),
            "result": self.error.message if self.error else "ok",
            "remedy": self.error.remedy if self.error else "",
        }


_steps: ContextVar[list[Step] | None] = ContextVar("steps", default=None)


@contextmanager
def step(name: str) -> Iterator[None]:
    """What is done within is one step of a check; where nobody asked for the steps, this does nothing."""
    began = time.monotonic()
    try:
        yield
    except BackupError as error:
        _note(Step(name, time.monotonic() - began, error))
        raise
    _note(Step(name, time.monotonic() - began))


def _note(done: Step) -> None:
    steps = _steps.get()
    if steps is not None:
        steps.append(done)


def probe(destination: Destination) -> tuple[Step, ...]:
    """Check *destination*, and return the steps up to the one that failed, which is the last: see its ``error``."""
    steps: list[Step] = []
    before = _steps.set(steps)
    began = time.monotonic()
    try:
        destination.check()
    except BackupError as error:
        if not steps or steps[-1].error is None:  # it failed on its way to the first step, or between two
            steps.append(Step("reach", time.monotonic() - began, error))
    finally:
        _steps.reset(before)
    return tuple(steps)


def failure(steps: tuple[Step, ...]) -> BackupError | None:
    """Why the check failed; None where it did not."""
    return steps[-1].error if steps else None
