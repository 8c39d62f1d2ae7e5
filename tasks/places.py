"""The turns that a run has at the servers of its sources, from before it holds anything up until it has read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import BoundedSemaphore, Lock

from blocks.sources.base import Source
from blocks.turns import Taken, Turn, take, take_each


@dataclass
class _Place:
    """At one server: the turns there, how many sources are read there at once, and those that are to be read."""

    held: Turn
    at_once: BoundedSemaphore
    unread: set[str] = field(default_factory=set)


class Places:
    """Turns that are taken before the first source is read, so that none waits for one while something is down."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._lock = Lock()

    def take(self, sources: Mapping[str, Source], parallel: int) -> Turn:
        """A turn at each server of *sources* that has a limit, until what is given is closed; ``Taken`` where there is
        none now. As many more as they could use at once are taken where they are free: for those nobody waits."""
        lying: dict[str, dict[str, Source]] = {}
        for name, source in sources.items():
            if source.server.limit:
                lying.setdefault(source.server.limit, {})[name] = source
        for limit, held in take_each(lying).items():
            turns, most = 1, max(Counter(source.category for source in lying[limit].values()).values())
            with suppress(Taken):
                while turns < min(parallel, most):
                    held.push(take([limit]))
                    turns += 1
            self._places[limit] = _Place(held, BoundedSemaphore(turns), {*lying[limit]})
        given = Turn()
        given.callback(self._close)
        return given

    @contextmanager
    def reading(
        self, name: str, source: Source, waiting: Callable[[], None], pause: Callable[[float], object]
    ) -> Iterator[None]:
        """The right to read *source* now. Where no turn was taken before, nothing is down, and one is waited for."""
        place = self._places.get(source.server.limit)
        if place is None:
            with source.server.turn(waiting, pause):
                yield
            return
        with place.at_once, Turn() as again:
            if name not in place.unread:  # once more, for what was sent of it got lost: if need be without a turn
                with suppress(Taken):
                    again.push(take([source.server.limit]))
            yield

    def was_read(self, name: str) -> None:
        """*name* has been read; the turns at a server end when all that lies there has."""
        with self._lock:
            for place in self._places.values():
                place.unread.discard(name)
                if not place.unread:
                    place.held.close()

    def _close(self) -> None:
        with self._lock:
            for place in self._places.values():
                place.held.close()
            self._places.clear()
