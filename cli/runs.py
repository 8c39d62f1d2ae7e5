"""Runs of the backup flow that left no backup: what Prefect knows and no destination can show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from vault.errors import ConfigError
from vault.record import BackupId, utc

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from cli.lists import Row

_DAYS = 30
_MOST = 200


def unfinished_runs(app: str | None) -> list[Row]:
    """The backup runs of the last 30 days that did not succeed everywhere: running, failed, crashed, cancelled."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowFilter,
        FlowFilterName,
        FlowRunFilter,
        FlowRunFilterStartTime,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    states = [state for state in StateType if state not in (StateType.COMPLETED, StateType.SCHEDULED)]
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["backup"])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)),
                start_time=FlowRunFilterStartTime(after_=datetime.now(UTC) - timedelta(days=_DAYS)),
            ),
            sort=FlowRunSort.START_TIME_DESC,
            limit=_MOST,
        )
    rows = [_row(run) for run in runs]
    return [row for row in rows if app in (None, row.app)]


def _row(run: FlowRun) -> Row:
    from cli.lists import Row

    app = str(run.parameters.get("app", ""))
    name = (run.name or "").rpartition(" ")[2]
    try:
        parsed = BackupId.parse(name)
        backup_id, kind = str(parsed), str(parsed.type)
    except ConfigError:
        backup_id, kind = f"run {run.id}", str(run.parameters.get("type") or "?")
    status = (run.state_name or "unknown").lower()
    detail = (run.state.message or "").splitlines()[0] if run.state and run.state.message else ""
    started = utc(run.start_time) if run.start_time else ""
    return Row(backup_id, app, started, kind, None, "-", status, detail="" if status == "running" else detail)
