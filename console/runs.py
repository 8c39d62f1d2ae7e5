"""Runs of our flows in Prefect: those of backups beside what they made, and each one by itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import get_args
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort, LogSort
from prefect.exceptions import ObjectNotFound
from prefect.utilities.urls import url_for

from blocks.loading import block_name
from console.models.backups import Progress
from console.models.runs import LogLine, RunDetail
from console.problems import not_found
from deployments.register import DAILY, ON_DEMAND
from tasks.listing import backup_of_run, first_line, message_of
from tasks.progress import Snapshot
from tasks.schedules import FLOW
from vault.record import BackupId, BackupType, utc

_PAGE = 200
_DAYS, _MOST = 90, 1000  # so long ago, and so many, are the runs that left nothing which are shown
_LIVE = (StateType.RUNNING, StateType.PENDING, StateType.PAUSED, StateType.CANCELLING)
_LOST = (StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)
_LINES = 200  # of a log


@dataclass(frozen=True)
class BackupRun:
    """A run of the backup flow that has not ended well. *destinations* are names; None: those of the app."""

    id: str
    app: str
    type: BackupType | None
    backup: BackupId | None
    destinations: tuple[str, ...] | None
    state_type: StateType
    state: str
    message: str
    begun: str
    ended: str | None
    progress: Snapshot | None = None

    @property
    def key(self) -> str:
        """The id of its backup, or its own while it has none."""
        return str(self.backup) if self.backup else f"run-{self.id}"


def live_runs() -> list[BackupRun]:
    """The backup runs that go on, and those that should have begun by now."""
    due = FlowRunFilter(
        state=_states([StateType.SCHEDULED]),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
    )
    with get_client(sync_client=True) as client:
        found = [*_read(client, FlowRunFilter(state=_states(_LIVE))), *_read(client, due)]
        progress = progress_of(client, [run.id for run in found if run.state_type == StateType.RUNNING])
    return [_seen(run, progress.get(run.id)) for run in found]


def lost_runs() -> list[BackupRun]:
    """Those that ended within the last 90 days, and did not succeed everywhere: failed, crashed, cancelled."""
    since = FlowRunFilterEndTime(after_=datetime.now(UTC) - timedelta(days=_DAYS))
    with get_client(sync_client=True) as client:
        return [_seen(run, None) for run in _read(client, FlowRunFilter(state=_states(_LOST), end_time=since))]


def ended_runs(since: datetime) -> list[BackupRun]:
    """The runs that have ended after *since*, however, and may have changed what lies at destinations."""
    ended = FlowRunFilter(state=_states([*_LOST, StateType.COMPLETED]), end_time=FlowRunFilterEndTime(after_=since))
    with get_client(sync_client=True) as client:
        return [_seen(run, None) for run in _read(client, ended, FLOW, "copy", "prune")]


def run_url(run_id: str) -> str | None:
    """The run in Prefect's UI; None where nobody has said where that is."""
    return url_for("flow-run", run_id) or None


def progress_of(client: SyncPrefectClient, runs: list[UUID]) -> dict[UUID, Snapshot]:
    """How far these runs are, where they have said so."""
    if not runs:
        return {}
    wanted = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[*runs]), type=ArtifactFilterType(any_=["progress"])
    )
    said: dict[UUID, Snapshot] = {}
    for artifact in sorted(client.read_artifacts(artifact_filter=wanted), key=lambda one: str(one.created)):
        parsed = Snapshot.parse(artifact.description or "")
        if artifact.flow_run_id and parsed:
            said[artifact.flow_run_id] = parsed
    return said


def shown(progress: Snapshot | None) -> Progress | None:
    """The same, as the API gives it."""
    if progress is None:
        return None
    return Progress(stage=progress.stage, done=progress.done, expected=progress.expected or None)


def get_run(run_id: UUID) -> RunDetail:
    """A run of one of our flows, with the end of its log; ``Problem`` 404 where there is none.

    Flows of others are not shown: what their logs hold is not ours to give.
    """
    with get_client(sync_client=True) as client:
        try:
            run = client.read_flow_run(run_id)
            flow = client.read_flow(run.flow_id).name
        except ObjectNotFound:
            raise not_found(f"run {run_id}") from None
        if flow not in {one.name for one in (*ON_DEMAND.values(), *DAILY.values())}:
            raise not_found(f"run {run_id} of a flow of ours", "Look for it in Prefect's UI.")
        lines = client.read_logs(
            LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id])), limit=_LINES, sort=LogSort.TIMESTAMP_DESC
        )
        progress = progress_of(client, [run_id])
    backup = backup_of_run(run) if flow == FLOW else None
    return RunDetail(
        id=str(run.id),
        flow=flow,
        name=run.name or "",
        app=str(run.parameters.get("app") or "") or None,
        backup_id=str(backup) if backup else None,
        state=run.state_name or "Unknown",
        ended=bool(run.state and run.state.is_final()),
        succeeded=bool(run.state and run.state.is_completed()),
        message=message_of(run),
        started_at=utc(run.start_time) if run.start_time else None,
        ended_at=utc(run.end_time) if run.end_time else None,
        progress=shown(progress.get(run_id)),
        url=run_url(str(run.id)),
        log=[
            LogLine(at=utc(line.timestamp), level=_level(line.level), message=line.message) for line in reversed(lines)
        ],
    )


def _level(number: int) -> str:
    names = ((40, "error"), (30, "warning"), (20, "info"))
    return next((name for least, name in names if number >= least), "debug")


def _states(kinds: Iterable[StateType]) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=[*kinds]))


def _read(client: SyncPrefectClient, wanted: FlowRunFilter, *flows: str) -> list[FlowRun]:
    """The newest of them first."""
    found: list[FlowRun] = []
    while len(found) < _MOST and (
        page := client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[*flows] or [FLOW])),
            flow_run_filter=wanted,
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=_PAGE,
            offset=len(found),
        )
    ):
        found += page
        if len(page) < _PAGE:
            break
    return found


def _seen(run: FlowRun, progress: Snapshot | None) -> BackupRun:
    backup, destinations = backup_of_run(run), run.parameters.get("destinations")
    said = run.parameters.get("type")
    begun = run.start_time or run.expected_start_time or run.created or datetime.now(UTC)
    return BackupRun(
        id=str(run.id),
        app=str(run.parameters.get("app", "")),
        type=backup.type if backup else next((kind for kind in get_args(BackupType) if kind == said), None),
        backup=backup,
        destinations=tuple(map(block_name, destinations)) if destinations else None,
        state_type=run.state_type or StateType.PENDING,
        state=run.state_name or "Unknown",
        message=first_line(run),
        begun=utc(begun),
        ended=utc(run.end_time) if run.end_time else None,
        progress=progress,
    )
