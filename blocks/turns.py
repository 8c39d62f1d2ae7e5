"""Turns: how many runs may do the same thing at once, as global concurrency limits of Prefect's.

A turn has a lease: where its holder is killed, it is free again when that ends. Prefect is asked as long as it answers:
a run whose API is gone goes on, with or without its turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress

from httpx import HTTPError, HTTPStatusError
from prefect.client.orchestration import get_client
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

LEASE = 120.0
"""Seconds after which the turn of a holder that was killed is free again; Prefect looks for those every 15 s."""

_LOCKED = 423
_log = logging.getLogger("prefect.backups")


@contextmanager
def turn(limits: Collection[str], waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold one turn of each of *limits*, all of them or none; *waiting* is called when others have them now.

    A limit that does not exist limits nothing.
    """
    names = sorted(name for name in limits if name)
    held = _taken(names, waiting) if names else ExitStack()
    try:
        yield
    finally:
        try:
            held.close()
        except HTTPError as error:
            _log.warning("Prefect could not be told that a turn has ended (%s): it is free in %g s", error, LEASE)


def _taken(names: list[str], waiting: Callable[[], None]) -> ExitStack:
    held = ExitStack()
    try:
        try:
            held.enter_context(concurrency(names, max_retries=0, lease_duration=LEASE))
        except ConcurrencySlotAcquisitionError as error:
            cause = error.__cause__
            if not (isinstance(cause, HTTPStatusError) and cause.response.status_code == _LOCKED):
                raise
            waiting()
            held.enter_context(concurrency(names, lease_duration=LEASE))
    except ConcurrencySlotAcquisitionError as error:
        _log.warning("Prefect could not be asked for a turn (%s): going on without one", error.__cause__ or error)
    return held


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
