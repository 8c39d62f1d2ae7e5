"""Schedules are made, changed and removed here; what they are, and reading them: ``tasks.schedules``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowFilter, FlowFilterName
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.utilities.callables import parameter_schema

from blocks.app import APP_SLUG, App, load_destinations
from blocks.loading import load
from blocks.ping import PING_SLUG, Ping
from deployments.absence import expect_backups, expect_none
from deployments.automations import all_known
from deployments.pull import ThisInstallation
from deployments.register import BACKUP, JOB, TAG, register_pool
from deployments.saved import Taken
from flows.backup import backup
from tasks.again import one_client
from tasks.schedules import FLOW, Schedule, deployment, none_of, one
from vault.errors import ConfigError
from vault.store import check_name

_PAGE = 200


def parameters(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the backup flow that a schedule has: *before*, with *changes*; None there means: as it was."""
    return {**before, **{name: value for name, value in changes.items() if value is not None}}


def check(schedule: Schedule) -> None:
    """What the first run would find, now: ``ConfigError`` where something that it names is not there."""
    app = load(f"{APP_SLUG}/{schedule.app}", App)
    app.load_sources(schedule.parameters.get("type"))
    doors = load_destinations(schedule.destinations or app.destinations)
    for name in schedule.parameters.get("keep_at") or {}:
        if name not in doors:
            raise ConfigError(f"keep_at names {name}, to which it does not go", f"It goes to: {', '.join(doors)}")
    if schedule.ping is not None:
        load(f"{PING_SLUG}/{schedule.ping}", Ping)


def add(schedule: Schedule, pool: str) -> None:
    """Have Prefect run it from now on. A name that is taken is refused."""
    add_all([replace(schedule, pool=pool)])


def add_all(schedules: Sequence[Schedule], overwrite: bool = False) -> None:
    """Have Prefect run all of them from now on, each in its pool, as long as it is active.

    Names that are taken are refused, before anything is written; with *overwrite* these become what is given. Where it
    breaks off, some are made and others not: it can be done again, with *overwrite*.
    """
    names = [check_name(schedule.name, "schedule") for schedule in schedules]
    if taken := [] if overwrite else _taken(names):
        raise Taken(
            f"schedule {', '.join(taken[:5])} exists already" + (f", and {len(taken) - 5} more" if taken[5:] else ""),
            f"Change it: backups schedule update {taken[0]} …; or give another --name.",
        )
    for pool in {schedule.pool for schedule in schedules if schedule.pool}:
        register_pool(pool)
    with one_client() as client:
        flow = client.create_flow_from_name(FLOW)
        known = all_known() if len(schedules) > 1 else None
        for schedule in schedules:
            expect_backups(replace(schedule, id=_put(client, flow, schedule)), known=known)


def change(schedule: Schedule) -> None:
    """Replace the one of the same name. Runs of the old one that have not begun are dropped."""
    if deployment(schedule.name) is None:
        raise none_of(schedule.name)
    add_all([schedule], overwrite=True)


def _taken(names: list[str]) -> list[str]:
    """Those of *names* that are deployments of the backup flow."""
    found: list[str] = []
    with get_client(sync_client=True) as client:
        for begin in range(0, len(names), _PAGE):
            wanted = DeploymentFilter(name=DeploymentFilterName(any_=names[begin : begin + _PAGE]))
            flow = FlowFilter(name=FlowFilterName(any_=[FLOW]))
            found += [one.name for one in client.read_deployments(flow_filter=flow, deployment_filter=wanted)]
    return sorted(found)


def _put(client: SyncPrefectClient, flow: UUID, schedule: Schedule) -> UUID:
    """Make its deployment, or replace it: in one request, where Prefect's own way takes five. Returns the id."""
    return client.create_deployment(
        flow,
        schedule.name,
        version=backup.version,
        description=backup.description,
        entrypoint=BACKUP,
        pull_steps=[ThisInstallation().to_pull_step()],
        parameters=schedule.parameters,
        parameter_openapi_schema=_form(),
        enforce_parameter_schema=True,
        work_pool_name=schedule.pool,
        job_variables=JOB,
        tags=[TAG, *schedule.tags],
        schedules=[
            DeploymentScheduleCreate(schedule=when.kept, active=True)
            for when in schedule.when
            if not isinstance(when, str)
        ],
        paused=not schedule.active,
        # One at a time: what comes while it runs is cancelled, which is no failure.
        concurrency_limit=1,
        concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
    )


@cache
def _form() -> dict[str, Any]:
    """What Prefect's UI asks for before a run, and what parameters are held against."""
    return parameter_schema(backup).model_dump(exclude_unset=True)


def pause(name: str, paused: bool) -> Schedule:
    """Have it run no more, or again."""
    found = deployment(name)
    if found is None or not found.schedules:
        raise none_of(name)
    with get_client(sync_client=True) as client:
        (client.pause_deployment if paused else client.resume_deployment)(found.id)
        for schedule in found.schedules:  # in Prefect's UI, each has a switch of its own
            client.update_deployment_schedule(found.id, schedule.id, active=not paused)
    changed = one(name)
    expect_backups(changed)
    return changed


def remove(name: str) -> None:
    """Have Prefect forget it, and its runs that have not begun. No backup is touched."""
    found = deployment(name)
    if found is None:
        raise none_of(name)
    with get_client(sync_client=True) as client:
        client.delete_deployment(found.id)
    expect_none(name)
