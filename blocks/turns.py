"""Turns: how many runs may do the same thing at once, as global concurrency limits of Prefect's.

A turn has a lease: where its holder is killed, it is free again when that ends. Prefect is asked as long as it answers:
a run whose API is gone goes on, with or without its turn. Whoever waits for several turns holds none of them meanwhile,
so that no two can wait for each other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from httpx import HTTPError, HTTPStatusError
from prefect.client.orchestration import get_client
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

LEASE = 120.0
"""Seconds after which the turn of a holder that was killed is free again; Prefect looks for those every 15 s."""

Pause = Callable[[float], object]
"""Waits for so many seconds; raises where there is nothing to wait for any more."""

_LOCKED = 423
_SOON = 2.0  # seconds, where Prefect does not say when to ask again
_log = logging.getLogger("prefect.backups")


class Taken(Exception):
    """Others have the turns now; *again*: after how many seconds to ask again."""

    def __init__(self, again: float) -> None:
        super().__init__(f"taken; to be asked for again in {again:g} s")
        self.again = again


class Turn(ExitStack):
    """A turn that one has. Giving it back never fails: where Prefect cannot be told, its lease ends."""

    def __exit__(self, *error: Any) -> bool:
        """Give it back. Idempotent."""
        try:
            return bool(super().__exit__(*error))
        except HTTPError as problem:
            _log.warning("Prefect could not be told that a turn has ended (%s): it is free in %g s", problem, LEASE)
            return False


@contextmanager
def turn(
    limits: Collection[str], waiting: Callable[[], None] = lambda: None, pause: Pause = time.sleep
) -> Iterator[None]:
    """Hold one turn of each of *limits*, all of them or none; *waiting* is called when others have them now.

    A limit that does not exist limits nothing.
    """
    with turns_in_time(dict.fromkeys(limits, 0.0), waiting, pause):
        yield


@contextmanager
def turns_in_time(
    limits: Mapping[str, float],
    waiting: Callable[[], None] = lambda: None,
    pause: Pause = time.sleep,
    more: bool = False,
    before: Callable[[], Turn] = Turn,
) -> Iterator[frozenset[str]]:
    """Hold one turn of each of *limits* but of those, given, that others kept for too long: so many seconds, 0: never.

    None is given up before there is something to go on without it: another turn, or whatever *more* stands for.
    *before* takes what is never given up, or raises ``Taken``; that is not held either while others are waited for.
    """
    wanted, began, said = sorted(name for name in limits if name), time.monotonic(), False
    while True:
        passed = time.monotonic() - began
        try:
            with before() as first:
                held, got = _in_time(wanted, limits, passed, more)
                held.push(first.pop_all())
            break
        except Taken as taken:
            again = taken.again
        if not said:
            waiting()
            said = True
        pause(min([again, *(limits[name] - passed for name in wanted if limits[name] > passed)]))
    try:
        yield frozenset(wanted) - got
    finally:
        held.close()


def _in_time(wanted: list[str], limits: Mapping[str, float], passed: float, more: bool) -> tuple[Turn, frozenset[str]]:
    """A turn of all of *wanted* but of those that are taken though their time has *passed*; which it is of."""
    try:
        return take(wanted), frozenset(wanted)
    except Taken:
        late = {name for name in wanted if 0 < limits[name] <= passed}
        if not late:
            raise
        held, free = _free_ones(wanted)
        if (free or more) and free | late == set(wanted):
            return held, free
        held.close()
        raise


def take_each(limits: Collection[str]) -> dict[str, Turn]:
    """One turn of each of *limits*, now, all of them or ``Taken``; each can be given back alone."""
    held: dict[str, Turn] = {}
    try:
        for name in sorted(limits):
            held[name] = take([name])
    except BaseException:
        for one in held.values():
            one.close()
        raise
    return held


def take(names: Collection[str]) -> Turn:
    """One turn of each of *names* at once, now; ``Taken`` where others have one of them."""
    held = Turn()
    if not names:
        return held
    try:
        held.enter_context(concurrency([*names], max_retries=0, lease_duration=LEASE))
    except ConcurrencySlotAcquisitionError as error:
        cause = error.__cause__
        if isinstance(cause, HTTPStatusError) and cause.response.status_code == _LOCKED:
            raise Taken(float(cause.response.headers.get("Retry-After", _SOON))) from None
        _log.warning("Prefect could not be asked for a turn (%s): going on without one", cause or error)
    return held


def _free_ones(names: Collection[str]) -> tuple[Turn, frozenset[str]]:
    """A turn of each of *names* that has one now, and which these are."""
    held, free = Turn(), set()
    for name in names:
        with suppress(Taken):
            held.push(take([name]))
            free.add(name)
    return held, frozenset(free)


def set_limit(limit: str, turns: int) -> None:
    """Have Prefect give so many turns of *limit* at once; 0: as many as are asked for."""
    if not turns:
        drop_limit(limit)
        return
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(limit, turns)


def drop_limit(limit: str) -> None:
    """Have Prefect forget *limit*."""
    with get_client(sync_client=True) as client, suppress(ObjectNotFound):
        client.delete_global_concurrency_limit_by_name(limit)
