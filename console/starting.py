"""Runs that somebody asks for: created here, run by a worker."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectNotFound

from console.listing import LISTING
from console.models.backups import Started
from console.problems import Problem, unavailable
from console.runs import run_url

ON_DEMAND = "on-demand"


def start(flow: str, parameters: dict[str, Any], idempotency_key: str | None) -> Started:
    """A run of *flow*, to be begun by a worker. *parameters* are shown to everybody: never a secret.

    With the same key there is one run, however often it is asked for. Raises ``Problem``: 503 where the deployment is
    not registered, 422 where the key was used for something else.
    """
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(f"{flow}/{ON_DEMAND}")
        except ObjectNotFound:
            raise unavailable(
                f"the deployment {flow}/{ON_DEMAND} is not registered with Prefect", "Run `backups register`."
            ) from None
        key = f"console {flow} {parameters['app']} {idempotency_key}" if idempotency_key else None
        run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters, idempotency_key=key)
        if run.parameters != {**deployment.parameters, **parameters}:
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "this Idempotency-Key was used for another request",
                "Take a new one for each thing that you ask for.",
            )
        warning = nobody_works(client, deployment.work_pool_name or "")
    LISTING.begun()
    return Started(run_id=str(run.id), run_url=run_url(str(run.id)), status=f"/api/runs/{run.id}", warning=warning)


def nobody_works(client: SyncPrefectClient, pool: str) -> str:
    """Why nothing in *pool* begins for now; empty where a worker is there."""
    how = f"start a worker: `backups up`, or `backups worker --pool {pool}`"
    if not pool:
        return f"the deployment has no work pool: nothing begins. Run `backups register`, and {how}"
    try:
        if client.read_work_pool(pool).is_paused:
            return f"the work pool {pool} is paused: nothing begins until it is resumed"
    except ObjectNotFound:
        return f"there is no work pool {pool}: nothing begins. Run `backups register`, and {how}"
    return "" if online(client, pool) else f"no worker of the pool {pool} is online: it waits until you {how}"


def online(client: SyncPrefectClient, pool: str) -> int:
    """How many workers of *pool* have given a sign of life."""
    return sum(worker.status == WorkerStatus.ONLINE for worker in client.read_workers_for_work_pool(pool))
