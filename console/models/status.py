"""Apps, and how they are."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from console.models.backups import Backup
from console.models.common import Time, Trouble


class SourceInfo(BaseModel):
    """A source of an app."""

    name: str
    kind: str
    category: Literal["database", "files"]
    location: str
    trouble: Trouble | None = None


class AppInfo(BaseModel):
    """A saved app."""

    name: str
    sources: list[SourceInfo]
    destinations: list[str]
    encrypted: bool
    consistent: bool
    keep_last: int | None
    schedules: list[str]


class AppStatus(BaseModel):
    """How an app is. *problem* says in words what is wrong, empty where nothing is."""

    app: str
    last_backup: Backup | None
    next_run_at: Time | None
    overdue_since: Time | None
    running: bool
    copies: int
    off_site: bool
    encrypted: bool
    last_failure: Time | None = None
    problem: str = ""


class Status(BaseModel):
    """How all is. *apps* has those in trouble first."""

    apps: list[AppStatus]
    troubles: list[Trouble] = []
    workers_online: int | None = None
    as_of: Time


class Health(BaseModel):
    """Whether the console can do its work: whether Prefect's API answers."""

    status: Literal["ok", "unavailable"]
    prefect: bool
