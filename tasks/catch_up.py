"""Catching up: after a downtime each schedule runs once, not as often as it would have."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from prefect import get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

_PAGE = 200


def late_runs(client: SyncPrefectClient, deployments: list[UUID], before: datetime) -> list[FlowRun]:
    """The runs that their schedules planned for a time until *before*, and that have not begun; the oldest first."""
    if not deployments:
        return []
    late = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=deployments),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=before),
    )
    found: list[FlowRun] = []
    while page := client.read_flow_runs(
        flow_run_filter=late, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=_PAGE, offset=len(found)
    ):
        found += page
    return [run for run in found if run.auto_scheduled]


def catch_up() -> int:
    """Where this run is one that a schedule planned: cancel the others that are late, and say why. Returns how many."""
    own, deployment = runtime.flow_run.id, runtime.deployment.id
    if own is None or deployment is None:
        return 0
    with get_client(sync_client=True) as client:
        if not client.read_flow_run(UUID(str(own))).auto_scheduled:
            return 0
        late = [run for run in late_runs(client, [UUID(str(deployment))], datetime.now(UTC)) if str(run.id) != str(own)]
        for run in late:
            reason = f"Late: run {own} of the same schedule makes up for it, after a time in which none could run."
            client.set_flow_run_state(run.id, Cancelled(message=reason))
    if late:
        get_run_logger().warning("this run makes up for %d others that are late", len(late))
    return len(late)
