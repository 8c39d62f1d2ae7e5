"""The prune flow: retention by hand. What a backup would let go after its commit goes now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from blocks.signing_key import keyring
from flows.backup import AppName, DestinationName, Reference
from flows.report import error_text
from flows.retention_table import show_retention
from flows.transfer import error_of, wait_all
from tasks.log import run_log
from tasks.policy import as_it_is
from tasks.prune import Pruned, Pruning, Saved, prune_task
from vault.errors import BackupError, ConfigError
from vault.plan import MAX_DELETES
from vault.record import BackupType
from vault.retention import RetentionPolicy
from vault.store import NAME_PATTERN

ScheduleName = Annotated[str, Field(pattern=NAME_PATTERN)]


@dataclass(frozen=True)
class PruneResult:
    """What became of the app's backups, by destination and type."""

    app: str
    dry_run: bool
    pruned: tuple[Pruned, ...]

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "app": self.app,
            "dry_run": self.dry_run,
            "places": [
                {
                    "destination": one.destination,
                    "type": one.type or None,
                    "error": error_text(one.error) or None,
                    "deleted": [str(backup_id) for backup_id in one.judged.dropped] if one.judged else [],
                    "would_be_refused": (one.judged and one.judged.refused) or None,
                    "backups": [*one.judged.rows()] if one.judged else [],
                    "orphans": [*one.garbage.rows()] if one.garbage else [],
                }
                for one in self.pruned
            ],
        }


class PruneRefused(BackupError):
    """At one destination or more nothing was deleted; elsewhere what had to go went."""

    def __init__(self, result: PruneResult) -> None:
        errors = [one for one in result.pruned if one.error]
        lines = [f"{one.destination}{one.type and f' ({one.type})'}: {error_text(one.error)}" for one in errors]
        super().__init__(f"app {result.app} was not pruned at {len(errors)} of {len(result.pruned)}", "\n".join(lines))
        self.result = result

    def __reduce__(self) -> tuple[type[PruneRefused], tuple[PruneResult]]:
        return type(self), (self.result,)


@flow(
    name="prune",
    flow_run_name="prune {app}",
    task_runner=ThreadPoolTaskRunner(max_workers=8),  # type: ignore[arg-type]
    persist_result=False,
)
def prune(
    app: AppName,
    type: BackupType | None = None,
    destinations: list[Reference] | None = None,
    keep: RetentionPolicy | None = None,
    keep_at: dict[DestinationName, RetentionPolicy] | None = None,
    instead_of: list[ScheduleName] | None = None,
    max_deletes: Annotated[int, Field(ge=0)] = MAX_DELETES,
    accept_missing: bool = False,
    dry_run: bool = False,
    orphans: bool = False,
) -> PruneResult:
    """Delete the backups of an app that newer ones replace and none of its schedules keeps, and what has no record.

    Args:
        app: The app. It may have been removed, or be one of safety backups, such as shop-before-restore.
        type: Only database, files or full; empty takes all types.
        destinations: Where, each as block-type-slug/name; empty takes all to which its backups go.
        keep: Which backups stay besides those that its schedules keep; without a schedule, empty: as the app says.
        keep_at: The same for single destinations, by name, where that differs.
        instead_of: Schedules whose policies do not count: what is given here takes their place.
        max_deletes: Delete nothing where more than so many of one type would go.
        accept_missing: Go on although backups that were there the last time are gone.
        dry_run: Only show what would go.
        orphans: Delete no backup: remove only what lies there without a record.
    """
    saved = Saved.read(app)
    places = saved.places(destinations)
    keepers = {} if orphans else saved.keepers(keep, keep_at or {}, places, instead_of or [])
    pruning = Pruning(app, places, keyring().trust, type, keepers, max_deletes, accept_missing, dry_run)
    futures = {name: prune_task.submit(as_it_is(pruning), name) for name in places}
    wait_all(None, [*futures.values()])
    pruned: list[Pruned] = []
    for name, future in futures.items():
        error = error_of(future)
        if error is None:
            pruned += future.result()
        elif isinstance(error, BackupError):
            pruned.append(Pruned(name, "", error=error))
        else:
            raise error
    if not pruned and saved.policies is None:
        raise ConfigError(f"no app {app} is saved, and nothing of it lies at {', '.join(places) or 'any destination'}")
    result = PruneResult(app, dry_run, tuple(pruned))
    show_retention(app, [one.judged for one in pruned if one.judged], [one.garbage for one in pruned if one.garbage])
    for one in pruned:
        run_log().info("%s %s: %s", one.destination, one.type, _said(one, dry_run))
    if any(one.error for one in pruned):
        raise PruneRefused(result)
    return result


def _said(one: Pruned, dry_run: bool) -> str:
    if one.error is not None:
        return error_text(one.error)
    said = []
    if one.judged is not None:
        go, refused = len(one.judged.go), one.judged.refused
        would = f"; this would be refused: {refused}" if refused else ""
        going = f"{go} would go, {len(one.judged.records) - go} stay{would}"
        said.append(going if dry_run else f"{len(one.judged.dropped)} went")
    if one.garbage is not None and one.garbage.verdicts:
        go, found = one.garbage.going if dry_run else len(one.garbage.removed), len(one.garbage.verdicts)
        said.append(f"{go} of {found} without a record {'would go' if dry_run else 'went'}")
    return "; ".join(said)
