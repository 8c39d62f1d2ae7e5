"""Places where a test may stop a run, so as to kill it exactly there."""

from __future__ import annotations

import os
import signal
import threading

ENVIRONMENT = "BACKUPS_STOP_AT"


def milestone(name: str) -> None:
    """Stop this process (SIGSTOP) when ``BACKUPS_STOP_AT`` is *name*; else do nothing.

    A kill-point test starts the real command with that variable, waits for the stop
    (``waitpid`` with ``WUNTRACED``), kills the process with SIGKILL, and looks at what is left.
    The signal goes to the calling thread, which therefore does nothing more. One to the process would go to the main
    thread, and on a busy machine the calling one goes on until that is scheduled (kernel/signal.c, complete_signal).
    """
    if os.environ.get(ENVIRONMENT) == name:
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
