"""Preflight: find what would make the run fail, before the first byte is read (T06, O07, S19, F01)."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from socket import gethostname

from prefect import runtime, task

from blocks.app import App, load_destinations, type_of
from blocks.destinations.base import Destination
from blocks.loading import load
from blocks.signing_key import keyring
from blocks.sources.base import Source
from tasks.policy import STEP
from tasks.progress import Progress
from tasks.run import Limits, Run
from vault.catalog import Catalog
from vault.errors import BackupError, ConfigError, NoSpace, Transient
from vault.milestone import milestone
from vault.orphans import sweep_orphans
from vault.record import BackupId, BackupRecord, BackupType
from vault.store import check_name
from vault.workspace import Turn, Workspace, contains, default_root, sweep

APP_SLUG = "backup-app"
GROWTH = 1.2
"""A backup may be this much larger than the last one before a destination counts as too small."""


def prepare_run(
    app: str, backup_type: BackupType | None, destinations: list[str] | None, recipients: list[str] | None
) -> Run:
    """Load every block, check every door, and make the run's private directory."""
    check_name(app, "app")
    sweep_orphans()
    sweep(default_root())
    milestone("preflight:begun")
    saved = load(f"{APP_SLUG}/{app}", App)
    sources = saved.load_sources(backup_type)
    doors = load_destinations(destinations or saved.destinations)
    _refuse_overlap(sources, doors)
    kind = backup_type or type_of(sources)
    progress = Progress(app)
    with ExitStack() as undo:
        turn = Turn(default_root(), f"{app}-{kind}")
        undo.callback(turn.end)
        turn.take(lambda: progress.stage("waiting for another run of it to end"))
        tools = {name: source.check() for name, source in sources.items()}
        backup_id = BackupId.new(datetime.now(UTC), kind)
        workspace = Workspace(default_root(), str(backup_id))
        undo.callback(workspace.remove)
        run = Run(
            id=backup_id,
            app=app,
            codec=saved.codec if not recipients else replace(saved.codec, recipients=tuple(recipients)),
            sources=sources,
            destinations=doors,
            keyring=keyring(),
            workspace=workspace,
            turn=turn,
            progress=progress,
            keep_last=saved.keep_last,
            limits=limits(),
            producer=_producer(tools),
        )
        for name, destination in doors.items():
            _check_destination(run, name, destination)
        if not run.live:
            raise _nothing_left(run)
        undo.pop_all()
    return run


def _check_destination(run: Run, name: str, destination: Destination) -> None:
    """A destination that fails here is out; the run goes on with the others and ends as a partial failure."""
    try:
        destination.check()
        last = Catalog(destination, run.app, run.keyring.trust).newest(run.id.type)
        _refuse_too_small(destination, last)
        if last is not None:
            run.progress.expect(sum(artifact.plain_size for artifact in last.artifacts))
    except BackupError as error:
        run.fail(name, error)


def _nothing_left(run: Run) -> BaseException:
    errors = list(run.failures.values())
    if len(errors) == 1 or all(isinstance(error, Transient) for error in errors):
        return errors[0]
    return next(error for error in errors if not isinstance(error, Transient))


def _refuse_too_small(destination: Destination, last: BackupRecord | None) -> None:
    free = destination.free_space()
    if last is None or free is None or last.size * GROWTH <= free:
        return
    raise NoSpace(
        f"{destination.location} has {free:,} bytes free; the last backup {last.id} took {last.size:,}"
        f" and the next one needs up to {int(last.size * GROWTH):,}",
        "Free space there, or keep fewer backups.",
    )


def _refuse_overlap(sources: dict[str, Source], destinations: dict[str, Destination]) -> None:
    targets = {f"destination {name}": path for name, door in destinations.items() for path in door.paths}
    targets["work directory"] = default_root()
    for source_name, source in sources.items():
        for path in source.paths:
            for what, target in targets.items():
                if contains(path, target):
                    raise ConfigError(
                        f"source {source_name} ({path}) contains the {what} ({target}): it would back itself up",
                        "Move the one out of the other; the work directory is where BACKUPS_WORK_DIR says.",
                    )


def limits() -> Limits:
    """What a run may use of this machine: the default, or what the environment says."""
    spool = os.environ.get("BACKUPS_SPOOL_LIMIT")
    if spool is None:
        return Limits()
    if not spool.isdigit():
        raise ConfigError(f"BACKUPS_SPOOL_LIMIT is {spool!r}, not a number of bytes", "Such as 1073741824.")
    return Limits(spool=int(spool))


def _producer(tools: dict[str, str]) -> dict[str, str]:
    return {
        "prefect-backups": version("prefect-backups"),
        "host": gethostname(),
        "flow_run": str(runtime.flow_run.id or ""),
        **{f"source {name}": tool for name, tool in tools.items()},
    }


@task(name="preflight", **STEP)
def preflight(
    app: str, backup_type: BackupType | None, destinations: list[str] | None, recipients: list[str] | None
) -> Run:
    """See ``prepare_run``."""
    return prepare_run(app, backup_type, destinations, recipients)
