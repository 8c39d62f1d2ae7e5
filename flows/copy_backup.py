"""The copy flow: preflight; read, checksum and uploads at once; verify; commit; cleanup, always."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from blocks.destinations import Place
from flows.report import Landing, best_effort, error_text, showing, told
from flows.transfer import NoDestinationLeft, carry, error_of, wait_all
from flows.turns import in_turn
from tasks.copy import Copy, cleanup_task, commit_task, prepare_task, read_task, refuse_changed
from tasks.run import Origin
from vault.errors import BackupError
from vault.log import about
from vault.milestone import milestone
from vault.record import Reference


@dataclass(frozen=True)
class CopyResult:
    """How a copy ended, target by target. *there*: those that had the backup already."""

    id: str
    app: str
    origin: str
    seconds: float
    destinations: tuple[Landing, ...]
    there: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "id": self.id,
            "app": self.app,
            "from": self.origin,
            "seconds": self.seconds,
            "destinations": [
                {**landing.as_json(), **({"status": "already there"} if landing.name in self.there else {})}
                for landing in self.destinations
            ],
        }


class CopyFailed(BackupError):
    """One target or all of them failed; what could be committed is committed and kept."""

    def __init__(self, result: CopyResult) -> None:
        super().__init__(*told(f"copy of backup {result.id} of {result.app}", result.destinations))
        self.result = result

    def __reduce__(self) -> tuple[type[CopyFailed], tuple[CopyResult]]:
        return type(self), (self.result,)


@flow(
    name="copy",
    flow_run_name="copy {backup}",
    task_runner=ThreadPoolTaskRunner(max_workers=64),  # type: ignore[arg-type]
    persist_result=False,
)
def copy_backup(
    backup: Reference,
    origin: Place,
    destinations: list[Place],
    trust: list[Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]] | None = None,
) -> CopyResult:
    """Copy a backup to other destinations.

    Args:
        backup: Its id, or the beginning or the last six digits of it.
        origin: Where it lies: a saved destination, or a path.
        destinations: Where to: saved destinations, or paths.
        trust: Ids of signing keys to believe besides our own.
    """
    copy = prepare_task(backup, origin, destinations, trust or [])
    try:
        if copy.run.live:
            with about(app=copy.run.app, id=copy.record.id), in_turn(copy.run), showing(copy.run.progress):
                _copy(copy)
    except NoDestinationLeft:
        pass  # the result says why, for each of them
    finally:
        copy.run.progress.stage("cleanup")
        cleanup_task(copy)
    result = _outcome(copy)
    _publish(result)
    if copy.run.failures:
        raise CopyFailed(result)
    return result


def _copy(copy: Copy) -> None:
    run, artifacts = copy.run, copy.record.artifacts
    carried = [carry(run, artifact.source, read_task, Origin(copy.origin, artifact)) for artifact in artifacts]
    for artifact, one in zip(artifacts, carried, strict=True):
        refuse_changed(artifact, one.total.size, one.total.sha256)
    run.progress.stage("commit")
    milestone("commit:begun")
    futures = {name: commit_task.submit(copy, name, tuple(one.proofs[name] for one in carried)) for name in run.live}
    wait_all(None, [*futures.values()])
    for name, future in futures.items():
        error = error_of(future)
        if error is not None:
            run.fail(name, error, f"commit at {name}")


def _outcome(copy: Copy) -> CopyResult:
    records = {**copy.there, **{name: done.record for name, done in copy.run.committed.items()}}
    return CopyResult(
        id=copy.record.id,
        app=copy.record.app,
        origin=copy.origin.location,
        seconds=round(copy.run.progress.now.seconds, 1),
        destinations=tuple(
            Landing(name, door.location, records.get(name), error_text(copy.run.failures.get(name)))
            for name, door in copy.doors.items()
        ),
        there=tuple(copy.there),
    )


def _publish(result: CopyResult) -> None:
    """The table artifact: a row for each target."""
    best_effort(
        lambda: create_table_artifact(
            key=f"copy-{result.app}",
            table=result.as_json()["destinations"],
            description=f"Copy of backup `{result.id}` of {result.app} from {result.origin}",
        )
    )
