"""Work that several threads do, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from typing import TypeVar

_A = TypeVar("_A")
_B = TypeVar("_B")


def ordered(pool: Executor, work: Callable[[_A], _B], items: Iterable[_A], ahead: int) -> Generator[_B]:
    """`work` of each item, in order, at most `ahead` items before the one that is taken."""
    pending: deque[Future[_B]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
