"""Which policies apply to the backups of an app at a destination: those of all its schedules that reach it, and others.

What one schedule keeps no run of another one deletes, nor a person who asks for less: see ``vault.plan``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import httpx
from prefect.exceptions import PrefectException

from blocks.app import App
from blocks.loading import block_name
from tasks.schedules import Schedule
from tasks.schedules import found as schedules_of
from vault.errors import ConfigError, RetentionRefused
from vault.plan import Keeper
from vault.record import BackupType
from vault.retention import RetentionPolicy


@dataclass(frozen=True)
class Policies:
    """The schedules of an app, active or paused, as they were when asked for."""

    app: App
    schedules: tuple[Schedule, ...]

    @classmethod
    def read(cls, name: str, app: App) -> Policies:
        """Those of *app*, saved as *name*; one request for 200 schedules, of whichever app."""
        return cls(app, tuple(schedules_of(late=False, app=name)))

    def without(self, names: Collection[str]) -> Policies:
        """As if the schedules *names* were not there; ``ConfigError`` where one of them is not."""
        if unknown := set(names) - {schedule.name for schedule in self.schedules}:
            there = ", ".join(schedule.name for schedule in self.schedules)
            raise ConfigError(
                f"the app has no schedule {', '.join(sorted(unknown))}", f"It has: {there}" if there else ""
            )
        return Policies(self.app, tuple(schedule for schedule in self.schedules if schedule.name not in names))

    def at(self, destination: str, kind: BackupType, own: RetentionPolicy | None) -> tuple[Keeper, ...]:
        """Whoever keeps backups of type *kind* at *destination*: *own*, and each schedule that makes such ones there.

        A schedule that says nothing of it keeps what the app says; where that says nothing either, all.
        """
        found = [
            Keeper(self._policy(schedule, destination), f"schedule {schedule.name}")
            for schedule in self.schedules
            if (schedule.parameters.get("type") or self.app.type) == kind
            and destination in map(block_name, schedule.destinations or self.app.destinations)
        ]
        if own is not None and own not in [keeper.policy for keeper in found]:
            return (Keeper(own), *found)
        return tuple(found)

    def _policy(self, schedule: Schedule, destination: str) -> RetentionPolicy | None:
        said = (schedule.parameters.get("keep_at") or {}).get(destination) or schedule.parameters.get("keep")
        return RetentionPolicy(**said) if said else self.app.keep


def policies_of(name: str, app: App) -> Policies:
    """As ``Policies.read``; ``RetentionRefused`` where Prefect does not answer: what others keep is never guessed."""
    try:
        return Policies.read(name, app)
    except (PrefectException, httpx.HTTPError) as error:
        raise RetentionRefused(
            f"nothing is deleted: Prefect does not say which other schedules app {name} has ({error})",
            "See `backups doctor`. The next run deletes what had to go.",
        ) from None
