"""What runs by itself: work pools and their workers, deployments, and what the server's scheduler has planned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema

from deployments.checks.finding import Finding, ok, warning, wrong
from deployments.register import DAILY, HEARTBEAT, ON_DEMAND, streams
from vault.address import is_loopback

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse

_PAGE = 200
_REGISTER = "backups register"
_LOOKING = {f"{flow.name}/{name}" for flow in DAILY.values() for name in ("daily", "weekly")}


def deployments_of(client: SyncPrefectClient) -> dict[str, DeploymentResponse]:
    """Every deployment of our flows, as ``flow/name``."""
    names = [flow.name for flow in {**ON_DEMAND, **DAILY}.values()]
    flows = {flow.id: flow.name for flow in client.read_flows(flow_filter=FlowFilter(name=FlowFilterName(any_=names)))}
    found: list[DeploymentResponse] = []
    while page := client.read_deployments(
        flow_filter=FlowFilter(name=FlowFilterName(any_=names)), limit=_PAGE, offset=len(found)
    ):
        found += page
    return {f"{flows[one.flow_id]}/{one.name}": one for one in found}


def pools(usual: str) -> Iterator[Finding]:
    """The pools that deployments use are there, and a worker takes what they hold."""
    with get_client(sync_client=True) as client:
        used = [one.work_pool_name or "" for one in deployments_of(client).values()]
        for name in sorted({*used, usual} - {""}):
            yield from _pool(client, name)
    without = used.count("")
    if without:
        yield warning("work pool", f"{without} deployments have no pool: no worker takes their runs", _REGISTER)


def _pool(client: SyncPrefectClient, name: str) -> Iterator[Finding]:
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        yield wrong("work pool", f"there is no work pool {name}", f"prefect work-pool create {name} --type process")
        return
    if pool.is_paused:
        yield wrong("work pool", f"{name} is paused: nothing in it runs", f"prefect work-pool resume {name}")
    elif streams(pool):
        yield warning(
            "work pool",
            f"{name} streams the output of runs (stream_output): when its worker dies, good runs are marked Crashed",
            _REGISTER,
        )
    else:
        yield ok("work pool", name)
    workers = client.read_workers_for_work_pool(name)
    online = [worker.name for worker in workers if worker.status == WorkerStatus.ONLINE]
    if online:
        yield ok("worker", f"{len(online)} in {name}: {', '.join(online[:5])}")
    else:
        last = max((worker.last_heartbeat_time for worker in workers if worker.last_heartbeat_time), default=None)
        seen = f"the last one was seen at {last:%Y-%m-%d %H:%M} UTC" if last else "there never was one"
        yield wrong(
            "worker",
            f"no worker takes the runs of pool {name}; {seen}",
            f"backups up; or, at a server of your own: backups worker --pool {name}",
        )


def deployments() -> Iterator[Finding]:
    """Those of each flow are there, name files that exist, and take what the flows take now."""
    with get_client(sync_client=True) as client:
        found = deployments_of(client)
        here = is_loopback(str(client.api_url.host))
    wanted = {f"{flow.name}/on-demand" for flow in ON_DEMAND.values()}
    wanted |= _LOOKING
    for name in sorted(wanted - {*found}):
        yield wrong("deployments", f"{name} is missing", _REGISTER)
    flows = {flow.name: flow for flow in {**ON_DEMAND, **DAILY}.values()}
    for name in sorted(_LOOKING & {*found}):
        if found[name].paused or not any(part.active for part in found[name].schedules):
            yield wrong(
                "deployments",
                f"{name} is switched off: whether all backups are there is not looked at by itself",
                "Switch it on in Prefect's UI, under Deployments",
            )
    stale = [finding for name, one in sorted(found.items()) for finding in _stale(name, one, flows, here)]
    yield from stale
    if not stale and wanted <= {*found}:
        yield ok("deployments", f"{len(found)} deployments, as this version makes them")


def _stale(name: str, one: DeploymentResponse, flows: dict[str, Flow[..., Any]], here: bool) -> Iterator[Finding]:
    crons = [getattr(part.schedule, "cron", "") for part in one.schedules]
    again = _REGISTER
    if name.startswith("backup/") and len(crons) == 1 and crons[0]:
        again = f'backups schedule update {one.name} --cron "{crons[0]}"'
    file = _file(one)
    if here and file is not None and not file.is_file():
        yield wrong("deployments", f"{name} runs {file}, which does not exist", again)
        return
    known = {*(one.parameter_openapi_schema or {}).get("properties", {})}
    takes = {*parameter_schema(flows[name.partition("/")[0]]).properties}
    if known != takes:
        differs = ", ".join(sorted(known ^ takes))
        yield warning("deployments", f"{name} was registered by another version (differs: {differs})", again)
    if HEARTBEAT not in (one.job_variables.get("env") or {}):
        yield warning(
            "deployments", f"{name} gives no sign of life: a run of it that is killed stays Running for ever", again
        )
    if one.job_variables.get("stream_output"):
        yield warning("deployments", f"{name} streams its output: when its worker dies, good runs are Crashed", again)


def _file(one: DeploymentResponse) -> Path | None:
    """The file that a run of it loads; None where only its worker can tell."""
    directory = one.path
    for step in one.pull_steps or []:
        for kind, inputs in step.items():
            if kind.endswith("set_working_directory"):
                directory = inputs.get("directory")
            elif kind.endswith("this_installation"):
                directory = str(Path(__file__).resolve().parents[2])
            else:
                return None  # it is fetched from somewhere
    file = Path(directory or "", (one.entrypoint or "").partition(":")[0])
    return file if file.is_absolute() else None
