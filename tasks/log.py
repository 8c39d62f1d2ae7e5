"""Where a step says what a person should read: in the log of its run, else on this process's own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect import get_run_logger
from prefect.exceptions import MissingContextError

from vault.log import fields
from vault.said import hearing


def run_log() -> logging.Logger | logging.LoggerAdapter[Any]:
    """The log of the run that is going on, which Prefect's UI shows; of no run, this process's log.

    Its records have the fields of ``vault.log``. Prefect's API keeps a record's message, level and run alone.
    """
    try:
        return get_run_logger(**fields())
    except MissingContextError:
        return logging.LoggerAdapter(logging.getLogger("prefect.backups"), fields())


@contextmanager
def logging_tools(name: str | None = None) -> Iterator[None]:
    """What tools say that are begun within goes to the run's log, as it comes; with *name* instead of the tool's."""
    log = run_log()
    with hearing(lambda line: log.info("%s", line), name):
        yield
