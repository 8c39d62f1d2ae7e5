"""Prune: retention by hand, for an app at its destinations, by the policies that its schedules and itself have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import get_args

from prefect import task

from blocks.app import APP_SLUG, App, load_destinations, type_of
from blocks.destinations.base import Destination
from blocks.loading import block_name, load
from tasks.policy import STEP
from tasks.retain import Judged, carry_out, judge, remove_garbage
from tasks.schedules import Schedule
from tasks.schedules import found as schedules
from vault.catalog import Catalog
from vault.errors import BackupError, ConfigError
from vault.record import BackupType
from vault.retention import RetentionPolicy
from vault.signing import Trust

Policies = Mapping[tuple[str, BackupType], RetentionPolicy]
"""By the name of a destination, and type."""


@dataclass(frozen=True, repr=False)
class Pruning:
    """What to prune, and how far one may go; see ``tasks.retain.judge``."""

    app: str
    places: Mapping[str, Destination]
    trust: Trust
    type: BackupType | None
    policies: Policies
    max_deletes: int | None
    accept_missing: bool
    dry_run: bool


@dataclass(frozen=True)
class Pruned:
    """What became of the backups of one type at one destination: judged, or *error* says why not."""

    destination: str
    type: str
    judged: Judged | None = None
    error: BackupError | None = None


@dataclass(frozen=True)
class Saved:
    """What is saved of an app and of the schedules that back it up, read once."""

    name: str
    app: App
    schedules: tuple[Schedule, ...]

    @classmethod
    def read(cls, name: str) -> Saved:
        """Of the app *name*; ``ConfigError`` where there is none."""
        app = load(f"{APP_SLUG}/{name}", App)
        return cls(name, app, tuple(schedule for schedule in schedules(late=False) if schedule.app == name))

    def places(self, destinations: list[str] | None) -> dict[str, Destination]:
        """The destinations that are meant, by name: those given, else all to which it goes."""
        theirs = [ref for schedule in self.schedules for ref in schedule.destinations]
        return load_destinations(destinations or list(dict.fromkeys([*self.app.destinations, *theirs])))

    def policies(
        self, keep: RetentionPolicy | None, keep_at: Mapping[str, RetentionPolicy], names: Collection[str]
    ) -> Policies:
        """The policy of each type at each destination in *names*: what is given, else what schedules and app say.

        ``ConfigError`` where two schedules of one type and destination do not agree.
        """
        given = {name: keep_at.get(name, keep) for name in names}
        scheduled = self._scheduled(given)
        found: dict[tuple[str, BackupType], RetentionPolicy] = {}
        for name in names:
            for kind in get_args(BackupType):
                policy = given[name] or scheduled.get((name, kind)) or self.app.keep
                if policy is not None:
                    found[name, kind] = policy
        if not found:
            nothing = f"nothing says which backups of app {self.name} are to stay"
            raise ConfigError(nothing, "Give --keep-last, or another rule.")
        return found

    def _scheduled(self, given: Mapping[str, RetentionPolicy | None]) -> Policies:
        """What the schedules say, but for destinations of which something is *given*."""
        found: dict[tuple[str, BackupType], RetentionPolicy] = {}
        said: dict[tuple[str, BackupType], str] = {}
        whole = type_of(self.app.load_sources(None))
        for schedule in self.schedules:
            kind: BackupType = schedule.parameters.get("type") or whole
            for name in map(block_name, schedule.destinations or self.app.destinations):
                policy = _policy_of(schedule, name) or self.app.keep
                place = name, kind
                if policy is None or given.get(name):
                    continue
                if found.setdefault(place, policy) != policy:
                    raise ConfigError(
                        f"schedules {said[place]} and {schedule.name} keep different backups of type {kind} at {name}",
                        "Say what is to stay: --keep-last …; see `backups prune --help`.",
                    )
                said[place] = schedule.name
        return found


def prune_at(pruning: Pruning, name: str) -> list[Pruned]:
    """Prune at one destination. A refusal is in what is returned; a destination that fails raises."""
    store = pruning.places[name]
    catalog = Catalog(store, pruning.app, pruning.trust)
    clock = None if pruning.dry_run else store.clock()
    now = datetime.now(UTC)
    history = catalog.history()
    if clock is not None:
        remove_garbage(store, history, min(now, clock))
    pruned: list[Pruned] = []
    for kind in sorted({record.type for record in history.records}):
        keep = pruning.policies.get((name, kind))
        if pruning.type not in (None, kind) or keep is None:
            continue
        try:
            judged = judge(
                catalog,
                history,
                keep,
                kind,
                name,
                now=now,
                clock=clock,
                max_deletes=pruning.max_deletes,
                accept_missing=pruning.accept_missing,
            )
            pruned.append(Pruned(name, kind, judged if pruning.dry_run else carry_out(catalog, judged)))
        except BackupError as error:
            pruned.append(Pruned(name, kind, error=error))
    return pruned


def _policy_of(schedule: Schedule, name: str) -> RetentionPolicy | None:
    said = (schedule.parameters.get("keep_at") or {}).get(name) or schedule.parameters.get("keep")
    return RetentionPolicy(**said) if said else None


@task(name="prune", task_run_name="prune at {name}", **STEP)
def prune_task(pruning: Pruning, name: str) -> list[Pruned]:
    """See ``prune_at``."""
    return prune_at(pruning, name)
