"""Backups, and the runs that make them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, Field

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
    state: str | None = Field(description="As Prefect has it; null where the run ended well, or long ago.")
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
    """One backup: committed somewhere, on its way, or failed. *id* is ``run-UUID`` before the run has given it one.

    *status* is over all copies: *success*: committed wherever its run meant to; *partial*: its run failed, and some
    copies are there; *damaged*: a copy is, or is signed by somebody who is not trusted, whatever the others are.
    """

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
    troubles: list[Trouble] = Field(default=[], description="Destinations whose record could not be read now.")


class Filters(Given):
    """Which backups: those that fit everything that is given. *q* is looked for in ids, names and messages."""

    app: Name | None = None
    type: BackupType | None = None
    status: list[BackupStatus] = Field(default_factory=list)
    destination: Name | None = None
    since: AwareDatetime | None = None
    q: str | None = Field(default=None, max_length=200)
    cursor: str | None = Field(default=None, max_length=200, description="The *next* of the page before.")
    limit: int = Field(default=50, ge=1, le=500)


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
    warning: str = Field(default="", description="Why nothing may come of it for now, such as no worker online.")


class Outcome(BaseModel):
    """What happened at one destination."""

    destination: str
    result: Literal["done", "absent", "failed"]
    detail: str = ""
    remedy: str = ""


class Changed(BaseModel):
    """What became of a backup, destination by destination."""

    id: str
    app: str
    destinations: list[Outcome]
