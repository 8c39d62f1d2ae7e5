"""Prune: retention by hand, for an app at its destinations, by the policies that its schedules and itself have."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import get_args

from prefect import task

from blocks.app import APP_SLUG, App, load_destinations
from blocks.destinations import DESTINATIONS
from blocks.destinations.base import Destination
from blocks.loading import load, missing, saved
from tasks.garbage import Collected, Garbage
from tasks.keepers import Policies, policies_of
from tasks.policy import STEP
from tasks.retain import Judged, carry_out, judge
from tasks.schedules import found as schedules_of
from vault.catalog import Catalog
from vault.errors import BackupError, ConfigError, RetentionRefused
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
    """What became of the backups of one type at one destination: judged, or *error* says why not.

    *garbage* is what lies there of that type without a record.
    """

    destination: str
    type: str
    judged: Judged | None = None
    error: BackupError | None = None
    garbage: Collected | None = None


@dataclass(frozen=True)
class Saved:
    """What is saved of an app and of the schedules that back it up, read once; None where the app is not saved."""

    name: str
    policies: Policies | None

    @classmethod
    def read(cls, name: str) -> Saved:
        """Of the app *name*, which may have been removed, or be one that a restore keeps safety backups under."""
        ref = f"{APP_SLUG}/{name}"
        return cls(name, None if missing(ref) else policies_of(name, load(ref, App)))

    def places(self, destinations: list[str] | None) -> dict[str, Destination]:
        """The destinations that are meant, by name: those given, else all to which it goes, or any that is saved."""
        if self.policies is None:
            return load_destinations(destinations or saved(DESTINATIONS))
        theirs = [ref for schedule in self.policies.schedules for ref in schedule.destinations]
        return load_destinations(destinations or list(dict.fromkeys([*self.policies.app.destinations, *theirs])))

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
        policies, found = self._schedules(instead_of), dict[tuple[str, BackupType], Sequence[Keeper]]()
        for name in names:
            for kind in get_args(BackupType):
                own = keep_at.get(name, keep)
                keepers = policies.at(name, kind, own) or (Keeper(policies.app.keep),) if policies else (Keeper(own),)
                if any(keeper.policy for keeper in keepers):
                    found[name, kind] = keepers
        if not found:
            unknown = "" if self.policies else ", which is not saved,"
            nothing = f"nothing says which backups of app {self.name}{unknown} are to stay"
            raise ConfigError(
                nothing, "Give --keep-last, or another rule; or --orphans, to remove only what has no record."
            )
        return found

    def _schedules(self, instead_of: Collection[str]) -> Policies | None:
        if self.policies is not None:
            return self.policies.without(instead_of)
        left = [schedule.name for schedule in schedules_of(late=False, app=self.name)]
        if left:
            raise ConfigError(
                f"app {self.name} is not saved, and its schedules are: {', '.join(left)}",
                f"Remove them first: backups schedule remove {left[0]}",
            )
        return None


def prune_at(pruning: Pruning, name: str) -> list[Pruned]:
    """Prune at one destination, type by type. A refusal is in what is returned; a destination that fails raises.

    What lies there without a record is looked at, and removed, too: also where nothing says which backups stay.
    """
    store = pruning.places[name]
    catalog = Catalog(store, pruning.app, pruning.trust)
    clock = None if pruning.dry_run else store.clock()
    now = datetime.now(UTC)
    history = catalog.history()
    pruned: list[Pruned] = []
    for kind in get_args(BackupType):
        garbage = Garbage(catalog, history, kind, name)
        keepers = pruning.keepers.get((name, kind), ()) if any(r.type == kind for r in history.records) else ()
        if pruning.type in (None, kind) and (keepers or garbage.orphans):
            pruned.append(_prune(pruning, garbage, keepers, now, clock))
    return pruned


def _prune(
    pruning: Pruning, garbage: Garbage, keepers: Sequence[Keeper], now: datetime, clock: datetime | None
) -> Pruned:
    catalog, kind, name = garbage.catalog, garbage.type, garbage.destination
    try:
        judged = judge(
            catalog,
            garbage.history,
            keepers,
            kind,
            name,
            now=now,
            clock=clock,
            max_deletes=pruning.max_deletes,
            accept_missing=pruning.accept_missing,
            only_look=pruning.dry_run,
        )
        done = judged if pruning.dry_run else carry_out(catalog, judged)
    except BackupError as error:
        return Pruned(name, kind, error=error, garbage=garbage.hold(error.message, forget=not pruning.dry_run))
    most = pruning.max_deletes
    if clock is not None:
        found = garbage.collect(now, clock, most)
    else:
        found = garbage.hold(judged.refused, forget=False) if judged.refused else garbage.look(now, most)
    trouble = RetentionRefused(found.trouble) if found.trouble else None
    return Pruned(name, kind, done if keepers else None, trouble, found)


@task(name="prune", task_run_name="prune at {name}", **STEP)
def prune_task(pruning: Pruning, name: str) -> list[Pruned]:
    """See ``prune_at``."""
    return prune_at(pruning, name)
