"""Read all sources of a run: its databases side by side, then its files, so that what the rows name is in the files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any

from prefect import Task

from flows.transfer import Carried, carry
from tasks.run import Run, Transfer
from vault.milestone import milestone
from vault.process import kill_all

_FAREWELL = 60
"""Seconds for what still runs to end when the run is to."""


def read_all(run: Run, fill: Task[[Transfer], Any], when_read: Callable[[], None]) -> list[Carried]:
    """Every source lies at every destination that has not failed. Raises what the first of them to fail does.

    Files are read as soon as all databases are, while those are still being sent and proven. Where one source
    fails, or we are told to end, the others are stopped, and have ended before this raises. *when_read* is called as
    soon as all is read, while it is still being sent.
    """
    pool = ThreadPoolExecutor(len(run.sources), "source")
    carried: dict[str, Future[Carried]] = {}
    try:
        for category in ("database", "files"):
            names = [name for name, source in run.sources.items() if source.category == category]
            for name in names:
                carried[name] = pool.submit(copy_context().run, carry, run, name, fill)
            _until([run.reads[name] for name in names], [*carried.values()])
            milestone(f"read:{category}")
        when_read()
        _until([*carried.values()], [*carried.values()])
    except BaseException as error:
        _stop(run, error, [*carried.values()])
        raise
    finally:
        pool.shutdown(wait=False)
    found = [future.result() for future in carried.values()]
    run.offset = _offset(run, found)
    return found


def _until(wanted: Sequence[Future[Any]], carried: Sequence[Future[Carried]]) -> None:
    """All that is *wanted* is there; raises as soon as anything has failed."""
    while True:
        for future in (*wanted, *carried):
            if future.done():
                future.result()
        if all(future.done() for future in wanted):
            return
        wait([future for future in (*wanted, *carried) if not future.done()], return_when=FIRST_COMPLETED)


def _stop(run: Run, error: BaseException, carried: Sequence[Future[Carried]]) -> None:
    """End whatever goes on. No step may go on behind the back of cleanup: an upload would commit what was removed."""
    run.stopping.set()
    for _ in range(_FAREWELL):
        for transfer in tuple(run.transfers):
            transfer.spool.abort(error)
        kill_all()  # again and again: a step may be about to start a tool
        if not wait(carried, timeout=1.0).not_done:
            return


def _offset(run: Run, carried: Sequence[Carried]) -> float | None:
    """See ``BackupRecord.offset``. Below zero a database had to be read again, since what was sent of it got lost."""
    began: dict[str, list[float]] = {"database": [], "files": []}
    for one in carried:
        if one.transfer.read is not None:
            began[run.sources[one.transfer.source].category].append(one.transfer.read.began)
    if not (began["database"] and began["files"]):
        return None
    offset = round(min(began["files"]) - max(began["database"]), 3)
    if offset < 0:
        run.remarks.append("a database had to be read again after its files: it may name files that are not in here")
    return offset
