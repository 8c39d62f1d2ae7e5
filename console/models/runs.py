"""Runs: what was asked for, on its way."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from console.models.backups import Progress
from console.models.common import Time


class LogLine(BaseModel):
    """A line of a run's log, as the run wrote it: without secrets."""

    at: Time
    level: Literal["debug", "info", "warning", "error"]
    message: str


class RunDetail(BaseModel):
    """A run in Prefect of one of our flows. *message* is what Prefect says of its state; *log* its last lines."""

    id: str
    flow: str
    name: str
    app: str | None
    backup_id: str | None
    state: str
    ended: bool
    succeeded: bool
    message: str
    started_at: Time | None
    ended_at: Time | None
    progress: Progress | None
    url: str | None
    log: list[LogLine]
