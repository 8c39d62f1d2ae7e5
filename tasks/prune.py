"""Prune: retention by hand, for an app at its destinations, by the policies that its schedules and itself have."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import get_args

from prefect import task

from blocks.app import APP_SLUG, App, load_destinations
from blocks.destinations.base import Destination
from blocks.loading import load
from tasks.keepers import Policies, policies_of
from tasks.policy import STEP
from tasks.retain import Judged, carry_out, judge, remove_garbage
from vault.catalog import Catalog
from vault.errors import BackupError, ConfigError
from vault.plan import Keeper
from vault.record import BackupType
from vault.retention import RetentionPolicy
from vault.signing import Trust

Keepers = Mapping[tuple[str, BackupType], Sequence[Keeper]]
"""Whose policies apply, by the name of a destination, and type."""


@dataclass(frozen=True, repr=False)
class Pruning:
    """What to prune, and how far one may go; see ``tasks.retain.judge``."""

    app: str
    places: Mapping[str, Destination]
    trust: Trust
    type: BackupType | None
    keepers: Keepers
    max_deletes: int
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
    policies: Policies

    @classmethod
    def read(cls, name: str) -> Saved:
        """Of the app *name*; ``ConfigError`` where there is none."""
        app = load(f"{APP_SLUG}/{name}", App)
        return cls(name, app, policies_of(name, app))

    def places(self, destinations: list[str] | None) -> dict[str, Destination]:
        """The destinations that are meant, by name: those given, else all to which it goes."""
        theirs = [ref for schedule in self.policies.schedules for ref in schedule.destinations]
        return load_destinations(destinations or list(dict.fromkeys([*self.app.destinations, *theirs])))

    def keepers(
        self,
        keep: RetentionPolicy | None,
        keep_at: Mapping[str, RetentionPolicy],
        names: Collection[str],
        instead_of: Collection[str] = (),
    ) -> Keepers:
        """Whose policies apply to each type at each destination in *names*: what is given, and each schedule's.

        Without either, the app's. What is given takes the place of the schedules *instead_of*, which do not count.
        Where nothing but "all" is said nothing is to be done; ``ConfigError`` where that is so everywhere.
        """
        policies, found = self.policies.without(instead_of), dict[tuple[str, BackupType], Sequence[Keeper]]()
        for name in names:
            for kind in get_args(BackupType):
                keepers = policies.at(name, kind, keep_at.get(name, keep)) or (Keeper(self.app.keep),)
                if any(keeper.policy for keeper in keepers):
                    found[name, kind] = keepers
        if not found:
            nothing = f"nothing says which backups of app {self.name} are to stay"
            raise ConfigError(nothing, "Give --keep-last, or another rule.")
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
        keepers = pruning.keepers.get((name, kind))
        if pruning.type not in (None, kind) or keepers is None:
            continue
        try:
            judged = judge(
                catalog,
                history,
                keepers,
                kind,
                name,
                now=now,
                clock=clock,
                max_deletes=pruning.max_deletes,
                accept_missing=pruning.accept_missing,
                only_look=pruning.dry_run,
            )
            pruned.append(Pruned(name, kind, judged if pruning.dry_run else carry_out(catalog, judged)))
        except BackupError as error:
            pruned.append(Pruned(name, kind, error=error))
    return pruned


@task(name="prune", task_run_name="prune at {name}", **STEP)
def prune_task(pruning: Pruning, name: str) -> list[Pruned]:
    """See ``prune_at``."""
    return prune_at(pruning, name)
