"""Places where a test may stop a run, so as to kill it exactly there."""

from __future__ import annotations

import os
import signal

ENVIRONMENT = "BACKUPS_STOP_AT"


def milestone(name: str) -> None:
    """Stop this process (SIGSTOP) when ``BACKUPS_STOP_AT`` is *name*; else do nothing.

    A kill-point test starts the real command with that variable, waits for the stop
    (``waitpid`` with ``WUNTRACED``), kills the process with SIGKILL, and looks at what is left.
    """
    if os.environ.get(ENVIRONMENT) == name:
        os.kill(os.getpid(), signal.SIGSTOP)
