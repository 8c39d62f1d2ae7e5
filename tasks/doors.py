"""Look at every destination of a run before anything is read: one that fails here is out of the run."""

from __future__ import annotations

import time
from collections.abc import Callable

from tasks.log import run_log
from tasks.policy import RETRIES, RETRY_DELAY
from tasks.run import Run
from vault.errors import BackupError, Transient


def look_at_each(run: Run, look: Callable[[str], None], whole: bool) -> None:
    """Every destination of *run* passes *look*, or has failed; the run goes on with the others.

    Where it failed for the moment, it is looked at again, after the pauses of any step, and the others wait for it no
    longer than that. *whole*: when all failed for the moment, the caller tries the whole step again; then not here.
    """
    left = [*run.live]
    for attempt in range(RETRIES + 1):
        passing: dict[str, BackupError] = {}
        for name in left:
            try:
                look(name)
            except BackupError as error:
                if isinstance(error, Transient):
                    passing[name] = error
                else:
                    run.fail(name, error)
        left = [*passing]
        if not left:
            return
        if attempt == RETRIES or (whole and len(left) == len(run.destinations)):
            break
        delay = RETRY_DELAY * 2**attempt
        for name, found in passing.items():
            run_log().warning("destination %s: %s; trying again in %g s", name, found.message, delay)
        time.sleep(delay)
    for name, found in passing.items():
        run.fail(name, found)
