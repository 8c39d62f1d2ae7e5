"""Schedules."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from console.models.common import Given, Name, Time
from vault.record import BackupType
from vault.retention import RetentionPolicy


class Schedule(BaseModel):
    """A schedule. *cron* and *timezone* are None where it was made elsewhere, of something else: see *when*."""

    name: str
    app: str
    type: BackupType | None
    destinations: list[str]
    when: list[str]
    cron: str | None
    timezone: str | None
    active: bool
    next_run_at: Time | None
    next_run_at_local: str | None
    keep: dict[str, Any] | None
    keep_at: dict[str, dict[str, Any]] | None
    ping: str | None
    grace_hours: float | None
    overdue_since: Time | None
    etag: str = ""


class AddSchedule(Given):
    """A schedule of an app. *name* is at first APP-TYPE."""

    name: Name | None = None
    cron: str = Field(examples=["30 2 * * *"])
    timezone: str = Field(default="UTC", examples=["Europe/Paris"])
    type: BackupType | None = None
    destinations: list[Name] | None = Field(default=None, min_length=1)
    keep: RetentionPolicy | None = None
    keep_at: dict[Name, RetentionPolicy] | None = None
    ping: Name | None = None
    grace_hours: float | None = None
    active: bool = True


class ChangeSchedule(Given):
    """What is not sent stays as it was; null takes it away. ``{"active": false}`` pauses."""

    cron: str | None = None
    timezone: str | None = None
    type: BackupType | None = None
    destinations: list[Name] | None = Field(default=None, min_length=1)
    keep: RetentionPolicy | None = None
    keep_at: dict[Name, RetentionPolicy] | None = None
    ping: Name | None = None
    grace_hours: float | None = None
    active: bool | None = None


class NextRuns(BaseModel):
    """What a cron expression means: in words, and its next times (local with offset, and UTC)."""

    words: str
    local: list[str]
    utc: list[Time]
