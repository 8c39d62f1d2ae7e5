"""Schedules."""

from __future__ import annotations

from typing import Annotated, Any, cast

from pydantic import BaseModel, Field, ValidatorFunctionWrapHandler, WrapValidator

from console.models.common import Given, Name, Size, Time, Trouble
from vault.errors import ConfigError
from vault.record import BackupType
from vault.retention import RetentionPolicy


def _names_its_field(value: Any, handler: ValidatorFunctionWrapHandler) -> RetentionPolicy:
    try:
        return cast("RetentionPolicy", handler(value))
    except ConfigError as error:
        raise ValueError(error.message) from None


Keep = Annotated[RetentionPolicy, WrapValidator(_names_its_field)]
"""Which backups stay. Days and weeks count in the time zone of its schedule, where it names none."""


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
    keep: Keep | None = None
    keep_at: dict[Name, Keep] | None = None
    ping: Name | None = None
    grace_hours: float | None = None
    active: bool = True


class ChangeSchedule(Given):
    """What is not sent stays as it was; null takes it away. ``{"active": false}`` pauses."""

    cron: str | None = None
    timezone: str | None = None
    type: BackupType | None = None
    destinations: list[Name] | None = Field(default=None, min_length=1)
    keep: Keep | None = None
    keep_at: dict[Name, Keep] | None = None
    ping: Name | None = None
    grace_hours: float | None = None
    active: bool | None = None


class NextRuns(BaseModel):
    """What a cron expression means: in words, and its next five times (local with offset, and UTC)."""

    words: str
    local: list[str]
    utc: list[Time]


class AskPreview(Given):
    """A policy that is not saved. What the app's schedules keep stays too; without either, what the app says."""

    type: BackupType | None = Field(default=None, description="Only backups of this type; else of each.")
    keep: Keep | None = None
    keep_at: dict[Name, Keep] | None = None
    instead_of: Name | None = Field(default=None, description="The schedule whose policy this one shall replace.")


class PreviewRow(BaseModel):
    """A backup, and whether it would stay, and why."""

    id: str
    created_at: Time
    size: Size
    stays: bool
    why: str


class PreviewAt(BaseModel):
    """What would become of the backups of one type at one destination. *trouble*: why nothing would be deleted."""

    destination: str
    type: BackupType | None = None
    stay: int = 0
    go: int = 0
    backups: list[PreviewRow] = []
    note: str = ""
    trouble: Trouble | None = None


class RetentionPreview(BaseModel):
    """With this policy, today these would stay. Nothing was deleted."""

    app: str
    places: list[PreviewAt]
    as_of: Time
