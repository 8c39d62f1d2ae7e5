"""Register with Prefect what the flows need there: blocks, the work pool, deployments. Idempotent."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast
from uuid import UUID

from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import WorkPool
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.flows import Flow
from prefect.schedules import Cron

import blocks
from blocks.destinations import DESTINATIONS, Destination
from blocks.loading import load, saved
from blocks.servers import SERVERS
from blocks.ssh_server import SshServer
from deployments.absence import bring_up_to_date
from deployments.automations import BEAT
from deployments.pull import ThisInstallation
from flows.backup import backup
from flows.copy_backup import copy_backup
from flows.prune import prune
from flows.restore import restore
from flows.test_destination import check_destination
from flows.watch import watch

_WATCH, _WEEKLY = Cron("0 9 * * *", timezone="UTC"), Cron("5 9 * * 1", timezone="UTC")
BACKUP = "flows/backup.py:backup"
ON_DEMAND: dict[str, Flow[..., Any]] = {
    BACKUP: backup,
    "flows/restore.py:restore": restore,
    "flows/copy_backup.py:copy_backup": copy_backup,
    "flows/prune.py:prune": prune,
    "flows/test_destination.py:check_destination": check_destination,
}
"""What a person starts, by its entrypoint."""
WATCH = "flows/watch.py:watch"
DAILY: dict[str, Flow[..., Any]] = {WATCH: watch}
"""What runs each day."""
HEARTBEAT = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
"""In the environment of a run: how often it gives a sign of life, in seconds."""
JOB: dict[str, Any] = {"env": {HEARTBEAT: f"{BEAT.total_seconds():.0f}"}, "stream_output": False}
"""What each deployment says of its runs' processes."""
TAG = "backups"
"""Each deployment has it."""


def register_all(pool: str) -> None:
    """All of it, and the automations."""
    register_blocks()
    register_limits()
    register_pool(pool)
    register_deployments(pool)
    bring_up_to_date()


def block_types() -> list[type[Block]]:
    """Every block type of this project."""
    found = (getattr(blocks, name) for name in blocks.__all__)
    return [kind for kind in found if issubclass(kind, Block)]


def register_blocks() -> None:
    """Every block type of this project, so that Prefect's UI has its form."""
    for kind in block_types():
        kind.register_type_and_schema()


def register_limits() -> None:
    """How many dumps may run at once on every saved server, and how many runs upload to every saved destination."""
    for ref in saved(SERVERS):
        load(ref, SshServer).set_limit()
    for ref in saved(DESTINATIONS):
        load(ref, Destination).set_limit()  # type: ignore[type-abstract]


def register_pool(name: str) -> None:
    """A process work pool. Its children's output is not streamed: a worker that dies must not fail their runs.

    One that is there is left as it is, but for that.
    """
    with get_client(sync_client=True) as client:
        try:
            there = client.read_work_pool(name)
        except ObjectNotFound:
            from prefect.workers.process import ProcessWorker

            template = not_streaming(ProcessWorker.get_default_base_job_template())
            with suppress(ObjectAlreadyExists):  # somebody else made it meanwhile
                client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
            return
        if streams(there):
            client.update_work_pool(name, WorkPoolUpdate(base_job_template=not_streaming(there.base_job_template)))


def streams(pool: WorkPool) -> bool:
    """Whether the worker of *pool* reads what its runs print: when it dies, they are cut off."""
    variables = pool.base_job_template.get("variables", {}).get("properties", {})
    return pool.type == "process" and bool(variables.get("stream_output", {}).get("default"))


def not_streaming(template: dict[str, Any]) -> dict[str, Any]:
    """*template* of a process work pool, with that off."""
    changed = copy.deepcopy(template)
    changed["variables"]["properties"]["stream_output"]["default"] = False
    return changed


def register_deployments(pool: str) -> None:
    """``FLOW/on-demand`` for each flow, ``FLOW/daily`` at nine (UTC), and ``watch/weekly``, which always mails.

    All run from the worker's installation.
    """
    for entrypoint, flow in ON_DEMAND.items():
        deploy(flow, entrypoint, name="on-demand", work_pool_name=pool)
    for entrypoint, flow in DAILY.items():
        deploy(flow, entrypoint, name="daily", work_pool_name=pool, schedules=[_WATCH])
    deploy(watch, WATCH, name="weekly", work_pool_name=pool, schedules=[_WEEKLY], parameters={"report": True})


def deploy(flow: Flow[..., Any], entrypoint: str, tags: Sequence[str] = (), **options: Any) -> UUID:
    """A deployment of *flow*, made or brought up to date; *options* as Prefect has them. Returns its id."""
    found = cast("Flow[..., Any]", flow.from_source(source=ThisInstallation(), entrypoint=entrypoint))
    # Its version is that of the flow, whichever clone it is registered from.
    own: dict[str, Any] = {"tags": [TAG, *tags], "job_variables": JOB, "version_type": "prefect:simple"}
    made = cast("RunnerDeployment", found.to_deployment(**own, **options))
    return cast("UUID", made.apply())
