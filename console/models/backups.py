"""Backups, and the runs that make them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from console.models.common import Given, Name, Size, Time, Trouble
from vault.record import BackupType, Verification

BackupStatus = Literal["pending", "running", "success", "partial", "failed", "cancelled", "damaged"]


class Progress(BaseModel):
    """How far a run is. *expected* is None where it is not known."""

    stage: str = ""
    done: Size = 0
    expected: Size | None = None


class Run(BaseModel):
    """The flow run in Prefect that made a backup, or is making it."""

    id: str
    state: str
    url: str | None = Field(default=None, description="The run in Prefect's UI.")
    progress: Progress | None = None


class Copy(BaseModel):
    """A backup at one destination. *verified* says how what lies there was proven."""

    destination: str
    status: Literal["committed", "damaged", "untrusted"]
    verified: Verification | None = None
    pinned: bool = False
    size: Size | None = None
    detail: str = ""
    remedy: str = ""


class Backup(BaseModel):
    """One backup: committed somewhere, on its way, or failed. *id* is ``run-UUID`` before the run has given it one."""

    id: str
    app: str
    type: BackupType | None
    status: BackupStatus
    created_at: Time
    completed_at: Time | None = None
    size: Size | None = None
    plain_size: Size | None = None
    encrypted: bool | None = None
    pinned: bool = False
    copies: list[Copy] = []
    run: Run | None = None
    detail: str = ""


class Artifact(BaseModel):
    """What a backup has of one source."""

    source: str
    kind: str
    key: str
    size: Size
    plain_size: Size
    sha256: str
    tool: str
    recipients: list[str]
    warnings: list[str]
    facts: dict[str, Any]
    restore_with: str


class BackupDetail(Backup):
    """The same with what its record says."""

    artifacts: list[Artifact] = []
    warnings: list[str] = []


class BackupPage(BaseModel):
    """Backups, newest first. *next* is the cursor of the page after it; *troubles* what could not be listed."""

    items: list[Backup]
    next: str | None = None
    total: int
    as_of: Time
    troubles: list[Trouble] = []


class StartBackup(Given):
    """What is left out is as the app says."""

    type: BackupType | None = None
    destinations: list[Name] | None = Field(default=None, min_length=1)
    consistent: bool | None = None


class Started(BaseModel):
    """A run that was asked for. *status* is the API's address of what becomes of it."""

    run_id: str
    run_url: str | None
    status: str
