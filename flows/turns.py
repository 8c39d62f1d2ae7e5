"""A run takes its turn at the destinations that let only so many upload at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from blocks.turns import turn
from tasks.log import run_log
from tasks.run import Run
from vault.milestone import milestone


@contextmanager
def uploading(run: Run) -> Iterator[bool]:
    """The right to upload to all destinations of *run*, before anything is read; whether it had to be waited for.

    It is one for the whole run: whoever waits holds nothing up, neither a dump nor a container that is stopped.
    """
    limits = {name: place.limit for name, place in run.live.items() if place.limit}
    waited = False

    def waiting() -> None:
        nonlocal waited
        waited = True
        run.progress.stage(f"waiting for its turn at {', '.join(limits)}")
        run_log().info("waiting for its turn at %s: as many runs as may upload there do so now", ", ".join(limits))
        milestone("turn:waiting")

    with turn(limits.values(), waiting):
        yield waited
