"""Where a step says what a person should read: in the log of its run, else on this process's own."""

from __future__ import annotations

import logging
from typing import Any

from prefect import get_run_logger
from prefect.exceptions import MissingContextError


def run_log() -> logging.Logger | logging.LoggerAdapter[Any]:
    """The log of the run that is going on, which Prefect's UI shows; of no run, this process's log."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("prefect.backups")
