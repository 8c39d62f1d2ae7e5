"""Preflight: find what would make the run fail, before the first byte is read (T06, O07, S19, F01)."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from socket import gethostname

from prefect import runtime, task

from blocks.app import APP_SLUG, App, load_destinations, type_of
from blocks.destinations.base import Destination
from blocks.loading import load
from blocks.signing_key import keyring
from blocks.sources.base import Source
from tasks.doors import look_at_each
from tasks.hook import remarks_on_killed_runs
from tasks.limits import limits
from tasks.policy import STEP
from tasks.progress import Progress
from tasks.run import Run
from vault.catalog import Catalog
from vault.errors import ConfigError, NoSpace, Transient
from vault.milestone import milestone
from vault.orphans import sweep_orphans
from vault.record import BackupId, BackupRecord, BackupType
from vault.retention import RetentionPolicy
from vault.store import check_name
from vault.workspace import Turn, Workspace, contains, default_root, sweep

GROWTH = 1.2
"""A backup may be this much larger than the last one before a destination counts as too small."""


@dataclass(frozen=True)
class Wanted:
    """What to back up, and how; what is None is as the saved app says."""

    app: str
    type: BackupType | None = None
    destinations: list[str] | None = None
    encrypt_to: list[str] | None = None
    consistent: bool | None = None
    keep: RetentionPolicy | None = None
    keep_at: dict[str, RetentionPolicy] | None = None


def prepare_run(wanted: Wanted) -> Run:
    """Load every block, check every door, and make the run's private directory."""
    app = check_name(wanted.app, "app")
    sweep_orphans()
    sweep(default_root())
    milestone("preflight:begun")
    saved = load(f"{APP_SLUG}/{app}", App)
    sources = saved.load_sources(wanted.type)
    doors = load_destinations(wanted.destinations or saved.destinations)
    hooks = saved.load_hooks()
    still = saved.find_still(sources) if (saved.consistent if wanted.consistent is None else wanted.consistent) else []
    _refuse_overlap(sources, doors)
    kind = wanted.type or type_of(sources)
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
            saved=saved,
            codec=replace(saved.codec, recipients=tuple(wanted.encrypt_to or saved.recipients)),
            sources=sources,
            destinations=doors,
            keyring=keyring(),
            workspace=workspace,
            turn=turn,
            progress=progress,
            keep=wanted.keep or saved.keep,
            keep_at=_known(wanted.keep_at or {}, doors),
            limits=limits().between(saved.parallel, len(sources), len(doors)),
            hooks=hooks,
            still=still,
            remarks=remarks_on_killed_runs(app),
            producer=_producer(tools),
        )
        look_at_each(run, lambda name: _check_destination(run, doors[name]), whole=True)
        if not run.live:
            raise _nothing_left(run)
        undo.pop_all()
    return run


def _known(keep_at: dict[str, RetentionPolicy], doors: dict[str, Destination]) -> dict[str, RetentionPolicy]:
    for name in keep_at:
        if name not in doors:
            raise ConfigError(
                f"keep_at names {name}, which is no destination of this run", f"It has: {', '.join(doors)}"
            )
    return keep_at


def _check_destination(run: Run, destination: Destination) -> None:
    destination.check()
    last = Catalog(destination, run.app, run.keyring.trust).newest(run.id.type, datetime.now(UTC)).record
    _refuse_too_small(destination, last)
    if last is not None:
        run.progress.expect(sum(artifact.plain_size for artifact in last.artifacts))


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


def _producer(tools: dict[str, str]) -> dict[str, str]:
    return {
        "prefect-backups": version("prefect-backups"),
        "host": gethostname(),
        "flow_run": str(runtime.flow_run.id or ""),
        **{f"source {name}": tool for name, tool in tools.items()},
    }


@task(name="preflight", **STEP)
def preflight(wanted: Wanted) -> Run:
    """See ``prepare_run``."""
    return prepare_run(wanted)
