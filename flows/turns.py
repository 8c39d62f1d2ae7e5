"""A run takes its turns: at destinations that let only so many upload at once, and at the servers of its sources."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from blocks.turns import Turn, turns_in_time
from tasks.log import run_log
from tasks.run import Run
from vault.errors import DestinationUnavailable
from vault.milestone import milestone


@contextmanager
def in_turn(run: Run) -> Iterator[bool]:
    """The right to read at the servers of *run* and to upload to its destinations; whether it had to be waited for.

    It is one for the whole run: whoever waits holds nothing up, neither another run nor a container that is stopped. A
    destination that is busy for longer than it may be is out of the run, which goes on with the others.
    """
    limits = {name: place.limit for name, place in run.live.items() if place.limit}
    patience = {place.limit: float(place.max_wait) for place in run.live.values() if place.limit}
    servers = {source.server.limit: source.server.location for source in run.sources.values() if source.server.limit}
    if len(servers) > 1 and not (run.still or run.hooks):
        servers = {}  # nothing is held up: each dump waits for the one server that it needs

    def before() -> Turn:
        return run.places.take(run.sources, run.limits.parallel) if servers else Turn()

    began, waiting = datetime.now(UTC), _Waiting(run, [*limits, *sorted(servers.values())])
    with turns_in_time(patience, waiting, more=len(limits) < len(run.live), before=before) as busy:
        for name, limit in limits.items():
            if limit in busy:
                place = run.destinations[name]
                run.fail(name, _busy(place.location, place.max_runs, began), "wait for its turn")
        yield waiting.happened


class _Waiting:
    """Says once that a run waits for its turn, and where."""

    def __init__(self, run: Run, places: list[str]) -> None:
        self._run, self._where, self.happened = run, ", ".join(places), False

    def __call__(self) -> None:
        self.happened = True
        self._run.progress.stage(f"waiting for its turn at {self._where}")
        run_log().info("waiting for its turn at %s: as many runs as may be there at once are so now", self._where)
        milestone("turn:waiting")


def _busy(location: str, runs: int, since: datetime) -> DestinationUnavailable:
    return DestinationUnavailable(
        f"{location} is busy: {runs} runs, as many as may upload there at once, have held its places since"
        f" {since:%Y-%m-%d %H:%M} UTC",
        "Let more runs in (backups destination update NAME --max-runs), have them wait for longer (--max-wait), or have"
        " them begin at other times.",
    )
