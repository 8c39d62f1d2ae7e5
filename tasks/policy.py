"""How every step with an effect runs: never cached, never stored, tried again only after ``Transient``."""

from __future__ import annotations

import os
from typing import Any, TypeVar, cast

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.tasks import exponential_backoff
from prefect.utilities.annotations import opaque

from vault.errors import Transient

T = TypeVar("T")

RETRIES = int(os.environ.get("BACKUPS_RETRIES", "3"))
RETRY_DELAY = float(os.environ.get("BACKUPS_RETRY_DELAY", "2"))
"""Seconds before the first retry; doubled for each further one."""


def as_it_is(value: T) -> T:
    """*value* as a parameter of a task into which Prefect does not look for futures of its own.

    What other threads change meanwhile, it cannot walk through: "Set changed size during iteration".
    """
    return cast("T", opaque(value))


def is_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """The retry policy: whether the failure says that trying again may help."""
    return isinstance(state.result(raise_on_failure=False), Transient)


def is_final(error: BaseException) -> bool:
    """Whether the task that is running will not be tried again after *error*."""
    context = TaskRunContext.get()
    return not isinstance(error, Transient) or context is None or context.task_run.run_count > RETRIES


STEP: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": RETRIES,
    "retry_delay_seconds": exponential_backoff(backoff_factor=RETRY_DELAY),
    "retry_jitter_factor": 0.3,
    "retry_condition_fn": is_transient,
}
ONCE: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
"""For steps whose retry is a matter of the flow, or which retry within."""
