"""Which runs still go on, and may own what lies at a destination without a record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, StateType

from vault.garbage import GRACE, SAFETY
from vault.history import means
from vault.record import BackupId

_FLOWS = ["backup", "copy", "restore"]  # a restore backs up what it replaces
_PAGE = 200


@dataclass(frozen=True)
class Living:
    """A run of the flow *flow* that began at *since* and has not ended. *what*: an app; of a copy, which backup."""

    flow: str
    name: str
    what: str
    since: datetime

    def may_own(self, app: str, backup_id: BackupId) -> bool:
        """Whether it may be the one that makes *backup_id* of *app*: in doubt, and where clocks differ, it is."""
        if self.flow == "copy":
            return means(self.what, str(backup_id))
        fits = app == self.what if self.flow == "backup" else app.endswith(SAFETY)
        return fits and backup_id.created_at >= self.since - GRACE


def living_runs() -> tuple[Living, ...]:
    """All but this one. Raises as Prefect's client does where Prefect cannot be asked."""
    states = [state for state in StateType if state not in TERMINAL_STATES]
    wanted = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)),
        start_time=FlowRunFilterStartTime(is_null_=False),
    )
    found: list[FlowRun] = []
    with get_client(sync_client=True) as client:
        while page := client.read_flow_runs(
            flow_filter=_ours(), flow_run_filter=wanted, limit=_PAGE, offset=len(found)
        ):
            found += page
        flows = {flow.id: flow.name for flow in client.read_flows(flow_filter=_ours())} if found else {}
    own = str(runtime.flow_run.id or "")
    return tuple(_living(flows[run.flow_id], run) for run in found if str(run.id) != own)


def _ours() -> FlowFilter:
    return FlowFilter(name=FlowFilterName(any_=_FLOWS))


def _living(flow: str, run: FlowRun) -> Living:
    what = run.parameters.get("backup" if flow == "copy" else "app")
    if run.start_time is None:
        raise AssertionError("runs that have begun were asked for")
    return Living(flow, run.name, str(what), run.start_time)
