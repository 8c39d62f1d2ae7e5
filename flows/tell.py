"""What a run tells Prefect's server besides its state, which mails it or waits for it. Never fails."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterName,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from flows.report import BackupResult, best_effort, error_text
from tasks.events import COMMITTED, HELD, RECOVERED, SMALL, tell
from tasks.run import Run
from tasks.seen import Spot, note_held
from vault.record import BackupType, utc
from vault.sizes import Small

_BAD = (StateType.FAILED, StateType.CRASHED)
_SEEN = 50  # runs of commands among which one of the same app and type is looked for


def tell_success(result: BackupResult, asked: BackupType | None) -> None:
    """Say that the backup is there; and that it works again, where the run before it failed."""
    where = ", ".join(landing.name for landing in result.destinations)
    best_effort(lambda: tell(COMMITTED, result.app, id=result.id, destinations=where))
    before = best_effort(lambda: _run_before(result.app, asked))
    if before is not None and before.state_type in _BAD:
        text = f"{result.summary}\n\nThe run before it ended as {before.state_name}:\n\n{_said(before)}\n"
        subject = f"backup works again: {runtime.deployment.name or result.app}"
        best_effort(lambda: tell(RECOVERED, result.app, subject=subject, text=text))


def tell_held(run: Run, destination: str, error: BaseException) -> None:
    """Say that nothing was deleted at *destination*, since retention there failed with *error*: to the console too."""
    spot = Spot(run.app, run.id.type, destination, run.destinations[destination].location)
    best_effort(lambda: note_held(spot, utc(datetime.now(UTC)), error_text(error)))
    name = runtime.deployment.name or run.app
    text = f"{error_text(error)}\n\nBackup {run.id} of {run.app} itself is good. Old ones stay until this is settled.\n"
    best_effort(lambda: tell(HELD, run.app, subject=f"retention held at {destination}: {name}", text=text))


def tell_small(run: Run, small: dict[Small, list[str]]) -> None:
    """Say of what is *small* in the new backup, and at which destinations it is: no policy has said so (S14)."""
    if small:
        name = runtime.deployment.name or run.app
        lines = [f"{one}, at {', '.join(places)}" for one, places in small.items()]
        remedies = dict.fromkeys(one.remedy for one in small)
        text = "\n".join([*lines, "", "It was made without an error. Is what it was made of still whole?", *remedies])
        best_effort(lambda: tell(SMALL, run.app, subject=f"backup suspiciously small: {name}", text=f"{text}\n"))


def _run_before(app: str, asked: BackupType | None) -> FlowRun | None:
    """The last run that ended of this schedule, or of commands with the same app and type."""
    schedule = runtime.deployment.id
    wanted = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED, *_BAD])),
        deployment_id=FlowRunFilterDeploymentId(any_=[schedule])
        if schedule
        else FlowRunFilterDeploymentId(is_null_=True),
        name=None if schedule else FlowRunFilterName(like_=app),
    )
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["backup"])),
            flow_run_filter=wanted,
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=_SEEN,
        )
    same = (run for run in runs if (run.parameters.get("app"), run.parameters.get("type")) == (app, asked))
    return next(same, None)


def _said(run: FlowRun) -> str:
    return (run.state.message if run.state else None) or "Nothing is known of why."
