"""Register with Prefect what the flows need there: blocks, the work pool, deployments. Idempotent."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectAlreadyExists
from prefect.flows import Flow

import blocks
from flows.backup import backup
from flows.copy_backup import copy_backup
from flows.restore import restore
from flows.test_destination import check_destination

_ROOT = Path(__file__).resolve().parent.parent


def block_types() -> list[type[Block]]:
    """Every block type of this project."""
    found = (getattr(blocks, name) for name in blocks.__all__)
    return [kind for kind in found if issubclass(kind, Block)]


def register_blocks() -> None:
    """Every block type of this project, so that Prefect's UI has its form."""
    for kind in block_types():
        kind.register_type_and_schema()


def register_pool(name: str) -> None:
    """A process work pool. Its children's output is not streamed: a worker that dies must not fail their runs."""
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    template["variables"]["properties"]["stream_output"]["default"] = False
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
        except ObjectAlreadyExists:
            return


def register_deployments(pool: str) -> None:
    """``FLOW/on-demand`` for each flow, run from this checkout."""
    _deploy(backup, "flows/backup.py:backup", pool)
    _deploy(restore, "flows/restore.py:restore", pool)
    _deploy(copy_backup, "flows/copy_backup.py:copy_backup", pool)
    _deploy(check_destination, "flows/test_destination.py:check_destination", pool)


def _deploy(flow: Flow[..., Any], entrypoint: str, pool: str) -> None:
    found = cast("Flow[..., Any]", flow.from_source(source=str(_ROOT), entrypoint=entrypoint))
    deployment = found.to_deployment(name="on-demand", work_pool_name=pool, tags=["backups"])
    cast("RunnerDeployment", deployment).apply()
