"""A console of which every name, message and log line wants to be a script: ``create_hostile`` is its factory."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from fastapi import FastAPI

from console import apps, backups, restores, runs, status
from console.api import create
from console.models.backups import Artifact, BackupDetail, BackupPage, Copy, Progress, Run
from console.models.common import Trouble
from console.models.restores import Outlook, RestorePreview
from console.models.runs import LogLine, RunDetail
from console.models.status import AppInfo, AppStatus, SourceInfo, Status

TEXT = "\"'><script>window.harmed = 1</script><img src=x onerror='window.harmed = 1'></textarea>{{ 7 * 191 }}"
ID, RUN = "20261128T023000Z-full-3f9a2c", "00000000-0000-4000-8000-000000000001"
AT, LATER = "2026-11-28T02:30:00Z", "2026-11-28T02:31:00Z"


def backup(**changes: Any) -> BackupDetail:
    """A backup that says it."""
    copies = [
        Copy.model_construct(destination=TEXT, status="committed", verified=TEXT, pinned=True, size=1),
        Copy.model_construct(destination=f"{TEXT}2", status="damaged", detail=TEXT, remedy=TEXT),
    ]
    run = Run.model_construct(id=RUN, state=TEXT, url=None, progress=Progress(stage=TEXT, done=1, expected=2))
    artifact = {name: TEXT for name in ("source", "kind", "key", "sha256", "tool", "restore_with")}
    return BackupDetail.model_construct(
        **{
            **{"id": ID, "app": TEXT, "type": "full", "status": "partial", "created_at": AT, "completed_at": LATER},
            **{"size": 10, "plain_size": 20, "encrypted": True, "copies": copies, "run": run, "detail": TEXT},
            "artifacts": [
                Artifact.model_construct(
                    **artifact, size=1, plain_size=1, recipients=[TEXT], warnings=[TEXT], facts={TEXT: TEXT}
                )
            ]
            * 2,
            "warnings": [TEXT],
            "troubles": [trouble()],
            **changes,
        }
    )


def trouble() -> Trouble:
    """Something that could not be looked at."""
    return Trouble(name=TEXT, detail=TEXT, remedy=TEXT)


def listed(_filters: object) -> BackupPage:
    """Two of them, the one on its way."""
    rows = [backup(status="running"), backup(id=f"{ID[:-1]}d")]
    return BackupPage.model_construct(items=rows, next=TEXT, total=2, as_of=AT, troubles=[trouble()])


def run(_id: object) -> RunDetail:
    """A run that failed."""
    lines = [LogLine.model_construct(at=AT, level="error", message=TEXT)]
    said = {name: TEXT for name in ("flow", "name", "app", "backup_id", "state", "message")}
    return RunDetail.model_construct(
        id=RUN, **said, ended=True, succeeded=False, started_at=AT, ended_at=LATER, progress=None, url=None, log=lines
    )


def preview(_id: object, _wanted: object) -> RestorePreview:
    """What one would do."""
    names = {name: TEXT for name in ("source", "kind", "target", "there", "what_happens", "remedy")}
    sources = [Outlook.model_construct(**names, size=1, refused=refused) for refused in (None, TEXT)]
    return RestorePreview.model_construct(id=ID, app=TEXT, destination=TEXT, sources=sources, warnings=[TEXT])


def how_all_is() -> Status:
    """One app, overdue."""
    app = AppStatus.model_construct(
        app=TEXT,
        last_backup=backup(),
        next_run_at=LATER,
        overdue_since=AT,
        running=False,
        copies=1,
        off_site=True,
        encrypted=True,
        last_failure=AT,
        problem=TEXT,
    )
    return Status(apps=[app], troubles=[trouble()], workers_online=0, as_of=AT)


def saved() -> list[AppInfo]:
    """The same app."""
    source = SourceInfo.model_construct(name=TEXT, kind=TEXT, category="files", location=TEXT, trouble=trouble())
    return [
        AppInfo.model_construct(
            name=TEXT,
            sources=[source],
            destinations=[TEXT],
            encrypted=True,
            consistent=False,
            keep_last=None,
            schedules=[TEXT],
        )
    ]


def create_hostile() -> FastAPI:
    """A console of them, in a process that does nothing else."""
    for module, name, says in (
        (backups, "list_backups", listed),
        (backups, "get_backup", lambda _id: backup()),
        (runs, "get_run", run),
        (restores, "preview", preview),
        (status, "status", how_all_is),
        (apps, "list_apps", saved),
    ):
        patch.object(module, name, says).start()
    return create()
