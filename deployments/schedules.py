"""Schedules are made, changed and removed here; what they are, and reading them: ``tasks.schedules``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.schedules import Cron

from blocks.app import APP_SLUG, App, load_destinations
from blocks.loading import load
from blocks.ping import PING_SLUG, Ping
from deployments.absence import expect_backups, expect_none
from deployments.register import deploy, register_pool
from deployments.saved import Taken
from flows.backup import backup
from tasks.schedules import Schedule, When, deployment, none_of, one
from vault.errors import ConfigError


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
    if deployment(schedule.name) is not None:
        raise Taken(
            f"schedule {schedule.name} exists already",
            f"Change it: backups schedule update {schedule.name} …; or give another --name.",
        )
    register_pool(pool)
    _apply(schedule, pool)


def change(schedule: Schedule) -> None:
    """Replace the one of the same name. Runs of the old one that have not begun are dropped."""
    found = deployment(schedule.name)
    if found is None:
        raise none_of(schedule.name)
    _apply(schedule, found.work_pool_name or "")


def _apply(schedule: Schedule, pool: str) -> None:
    made = deploy(
        backup,
        "flows/backup.py:backup",
        name=schedule.name,
        work_pool_name=pool,
        parameters=schedule.parameters,
        tags=schedule.tags,
        schedules=[Cron(when.cron, timezone=when.timezone) for when in schedule.when if isinstance(when, When)],
        paused=not schedule.active,
        # One at a time: what comes while it runs is cancelled, which is no failure.
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy="CANCEL_NEW"),
    )
    expect_backups(replace(schedule, id=made))


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
