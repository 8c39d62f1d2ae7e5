"""A worker that ends without harm: asked to end, it begins no run any more, and waits for those that it has begun."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from prefect.workers.process import ProcessWorker

from tasks.again import again_soon
from vault.orphans import children

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

_TICK = 0.2
_INTERRUPTED = 60.0
"""Seconds for interrupted runs to clean up and to tell Prefect how they ended."""


class DrainingWorker(ProcessWorker):
    """Prefect's process worker, which can be told to begin no more runs."""

    type = "process"

    def __init__(self, pool: str, name: str, limit: int) -> None:
        super().__init__(work_pool_name=pool, name=name, limit=limit)
        self._draining = False
        self._submitting = asyncio.Lock()

    @classmethod
    def __dispatch_key__(cls) -> str:
        """Prefect knows it beside its own process worker, not in its place."""
        return "backups-process"

    async def setup(self) -> None:
        """Get ready; a run whose beginning meets another write in SQLite is no run that crashed."""
        await super().setup()
        again_soon(self.client)

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Begin the runs that are due, unless this worker is to end."""
        async with self._submitting:
            return [] if self._draining else await super().get_and_submit_flow_runs()

    async def begin_no_more(self) -> None:
        """From now on. Afterwards ``running`` only falls."""
        self._draining = True
        async with self._submitting:
            return

    @property
    def running(self) -> int:
        """How many runs it has begun that have not ended."""
        return int(self.limiter.borrowed_tokens) if self._limiter else 0


def run(pool: str, name: str, limit: int, patience: float, say: Callable[[str], None]) -> None:
    """Run what *pool* has to run, *limit* at once, until SIGTERM or SIGINT; then wait for what runs, and return.

    After *patience* seconds, or at a second signal, those that still run are interrupted: they clean up, and end as
    Crashed.
    """
    asyncio.run(_run(DrainingWorker(pool, name, limit), patience, say))


async def _run(worker: DrainingWorker, patience: float, say: Callable[[str], None]) -> None:
    asked, urged = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (urged if asked.is_set() else asked).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled)
    work = asyncio.create_task(worker.start(printer=say))
    ending = asyncio.create_task(asked.wait())
    await asyncio.wait({work, ending}, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        await _drain(worker, patience, urged, say)
        work.cancel()
    ending.cancel()
    with suppress(asyncio.CancelledError):
        await work


async def _drain(worker: DrainingWorker, patience: float, urged: asyncio.Event, say: Callable[[str], None]) -> None:
    await worker.begin_no_more()
    if worker.running:
        say(f"{worker.running} runs go on; waiting for them at most {patience:.0f} s. A second signal interrupts them.")
    if not await _ended(worker, patience, urged):
        say(f"Interrupting {worker.running} runs.")
        for child in children():  # the processes of the runs
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)
        await _ended(worker, _INTERRUPTED, asyncio.Event())


async def _ended(worker: DrainingWorker, seconds: float, urged: asyncio.Event) -> bool:
    """Whether all runs have ended, once they have, or when *seconds* have passed or *urged* is set."""
    deadline = time.monotonic() + seconds
    while worker.running and time.monotonic() < deadline and not urged.is_set():
        await asyncio.sleep(_TICK)
    return not worker.running
