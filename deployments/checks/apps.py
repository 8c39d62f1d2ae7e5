"""What is saved: apps, what they are read from, and where they go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from prefect.blocks.core import Block

from blocks.app import APP_SLUG, App
from blocks.destinations import DESTINATIONS
from blocks.destinations.base import Destination
from blocks.destinations.local import LocalDestination
from blocks.loading import block_name, load, saved
from blocks.sources import SOURCES, Source
from deployments.checks.finding import Finding, ok, warning, wrong
from tasks.schedules import Schedule
from tasks.schedules import found as all_schedules
from vault.errors import BackupError


@dataclass
class Inventory:
    """All that is saved, read once. *problems*: what could not be loaded, by reference."""

    apps: dict[str, App] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    destinations: dict[str, Destination] = field(default_factory=dict)
    schedules: list[Schedule] = field(default_factory=list)
    problems: dict[str, BackupError] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Inventory:
        """What is saved now."""
        found = cls(schedules=all_schedules())
        for ref in saved([APP_SLUG, *SOURCES, *DESTINATIONS]):
            try:
                block = load(ref, Block)
            except BackupError as error:
                found.problems[ref] = error
                continue
            if isinstance(block, App):
                found.apps[ref] = block
            elif isinstance(block, Source):
                found.sources[ref] = block
            elif isinstance(block, Destination):
                found.destinations[ref] = block
        return found

    def lacks(self, refs: Iterable[str]) -> set[str]:
        """Those of *refs* that are not saved."""
        return {*refs} - {*self.apps, *self.sources, *self.destinations, *self.problems}

    def goes_to(self, schedule: Schedule) -> list[str]:
        """The destinations of *schedule*."""
        app = self.apps.get(f"{APP_SLUG}/{schedule.app}")
        return schedule.destinations or (app.destinations if app else [])


def saved_things(inventory: Inventory) -> Iterator[Finding]:
    """All that is saved can be loaded."""
    for _, error in sorted(inventory.problems.items()):
        yield wrong("saved", error.message, error.remedy)
    if not inventory.apps and not inventory.problems:
        yield warning("apps", "no app is saved: nothing is backed up", "backups app add shop --source … --to …")
    elif not inventory.problems:
        count = len(inventory.apps), len(inventory.sources), len(inventory.destinations)
        yield ok("saved", "{} apps, {} sources, {} destinations".format(*count))


def apps(inventory: Inventory) -> Iterator[Finding]:
    """Each app has sources and destinations that exist, a schedule, and a recipient when its backups go elsewhere."""
    scheduled = {schedule.app for schedule in inventory.schedules if schedule.active}
    goes_to: dict[str, set[str]] = defaultdict(set)
    for schedule in inventory.schedules:
        goes_to[schedule.app] |= {*inventory.goes_to(schedule)}
    found: list[Finding] = []
    for ref, app in sorted(inventory.apps.items()):
        name = block_name(ref)
        places = goes_to[name] | {*app.destinations}
        for gone in sorted(inventory.lacks([*app.sources, *places])):
            found.append(wrong("apps", f"app {name} names {gone}, which is not saved", f"backups app update {name} …"))
        if name not in scheduled:
            found.append(
                warning("apps", f"app {name} has no schedule", f'backups schedule add {name} --cron "30 2 * * *"')
            )
        remote = [place for place in sorted(places) if _is_remote(inventory.destinations.get(place))]
        if remote and not app.recipients:
            found.append(
                warning(
                    "apps",
                    f"app {name} goes to {', '.join(map(block_name, remote))} without encryption",
                    f"backups keys generate; backups app update {name} --encrypt-to age1…",
                )
            )
    yield from found
    if inventory.apps and not found:
        yield ok("apps", "each has a schedule, and what leaves this machine is encrypted")


def _is_remote(place: Destination | None) -> bool:
    return place is not None and not isinstance(place, LocalDestination)
