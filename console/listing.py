"""All backups of all apps in one list: what the destinations hold, and the runs that go on or left something out.

It is held in memory, destination by destination, and read again in the background: nothing of it is stored.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any

from prefect.client.orchestration import get_client

from blocks.app import APP_SLUG
from blocks.destinations import DESTINATIONS, Destination
from blocks.loading import block_name, load, saved
from blocks.signing_key import keyring
from blocks.sources import SOURCES
from console.entries import Entry, Held, destinations_meant, held, merged
from console.kept import Kept, Seen
from console.models.common import Trouble
from console.problems import Problem, unavailable
from console.runs import BackupRun, ended_runs, live_runs, lost_runs
from vault.catalog import read_all
from vault.record_cache import RecordCache, default_path

PATIENCE = 10.0
"""Seconds that one who asks waits for what is not known yet, or has just been changed."""
_NAMES, _RECORDS, _LIVE, _LOST = (10.0, 60.0), (30.0, 900.0), (1.0, 5.0), (60.0, 900.0)
"""Seconds after which each is read again, and after which one waits for that."""
_SKEW = timedelta(minutes=10)  # so much may the clocks of Prefect's server and of this machine differ
_PAGE = 200


@dataclass(frozen=True)
class SavedApp:
    """What counts here of a saved app: the names of its destinations, and the type of a backup of all its sources."""

    destinations: tuple[str, ...]
    type: str


@dataclass(frozen=True)
class Backups:
    """All that are known; the newest first."""

    entries: list[Entry]

    @cached_property
    def by_id(self) -> dict[str, list[Entry]]:
        """By the id of the backup, and by ``run-UUID`` of a run that makes it or did not end well."""
        found: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            found[entry.id].append(entry)
            if entry.run and entry.id != f"run-{entry.run.id}":
                found[f"run-{entry.run.id}"].append(entry)
        return found

    @cached_property
    def by_app(self) -> dict[str, list[Entry]]:
        """Those of each app, the newest first."""
        found: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            found[entry.app].append(entry)
        return found


@dataclass(frozen=True)
class Look:
    """All that is known at one moment. *as_of*: when the oldest part of it was read."""

    backups: Backups
    destinations: Mapping[str, str]
    """The block references of those that are saved, by name."""
    apps: Mapping[str, SavedApp]
    """Those that are saved, by name."""
    lost: tuple[BackupRun, ...]
    """The runs that did not end well."""
    troubles: tuple[Trouble, ...]
    as_of: datetime


class Listing:
    """What ``look`` gives is at most some seconds old; what ``changed`` tells is seen by the next one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places = Kept(_places, *_NAMES)
        self._apps = Kept(_apps, *_NAMES)
        self._live = Kept(self._read_live, *_LIVE)
        self._lost = Kept(lost_runs, *_LOST)
        self._shelves: dict[str, Kept[list[Held]]] = {}
        self._ended: set[str] = set()
        self._looked: datetime | None = None
        self._latest: tuple[object, Backups] | None = None

    def warm(self) -> None:
        """Begin to read all of it, so that who asks first waits less."""

        def read() -> None:
            with suppress(Problem):  # whoever asks is told
                self.look()

        threading.Thread(target=read, name="first look", daemon=True).start()

    def changed(self, *destinations: str) -> None:
        """What lies at *destinations* is another now, or runs are; without any: all, and what is saved too."""
        self._live.changed()
        with self._lock:
            shelves = {ref: kept for ref, kept in self._shelves.items() if block_name(ref) in destinations}
            if not destinations:
                shelves = dict(self._shelves)
        for kept in shelves.values():
            kept.changed()
        if not destinations:
            self.saved()
            self._lost.changed()

    def saved(self, *destinations: str) -> None:
        """Which apps and destinations are saved is another now, or how these are reached."""
        self._places.changed()
        self._apps.changed()
        if destinations:
            self.changed(*destinations)

    def begun(self) -> None:
        """A run was asked for: the next look has it."""
        self._live.changed()

    def look(self, patience: float = PATIENCE) -> Look:
        """What there is. Raises ``Problem`` 503 while it is not known which destinations are saved."""
        for asked in (self._places, self._apps, self._live, self._lost):
            asked.get(0)  # so that all of them are read at once
        places, apps = self._places.get(patience), self._apps.get(patience)
        live, lost = self._live.get(patience), self._lost.get(patience)
        if places.value is None:
            raise places.problem or unavailable("Prefect has not answered yet", "Try again in a moment.")
        shelves = {block_name(ref): self._shelf(ref) for ref in places.value}
        for kept in shelves.values():
            kept.get(0)  # and these
        seen = {name: kept.get(patience) for name, kept in shelves.items()}
        there = apps.value or {}
        key = (live.version, lost.version, apps.version, [(name, one.version) for name, one in seen.items()])
        return Look(
            self._merged(key, [*seen.values()], [*(lost.value or ()), *(live.value or ())], there),
            {block_name(ref): ref for ref in places.value},
            there,
            tuple(lost.value or ()),
            tuple(_troubles([("Prefect", live), ("Prefect", lost), *seen.items()])),
            min([one.at for one in seen.values() if one.at], default=live.at or datetime.now(UTC)),
        )

    def _merged(
        self, key: object, seen: list[Seen[list[Held]]], runs: list[BackupRun], apps: Mapping[str, SavedApp]
    ) -> Backups:
        """The same as the last time, where nothing is another."""
        with self._lock:
            latest = self._latest
        if latest and latest[0] == key:
            return latest[1]
        made = Backups(merged([one for place in seen for one in place.value or ()], runs, _usual(apps)))
        with self._lock:
            self._latest = key, made
        return made

    def _shelf(self, ref: str) -> Kept[list[Held]]:
        with self._lock:
            if ref not in self._shelves:
                self._shelves[ref] = Kept(partial(_held_at, ref), *_RECORDS)
            return self._shelves[ref]

    def _read_live(self) -> list[BackupRun]:
        """The runs that go on. What has ended since the last time has changed what lies at its destinations."""
        since, self._looked = self._looked, datetime.now(UTC)
        ended = ended_runs((since or self._looked) - _SKEW)
        new = [run for run in ended if run.id not in self._ended]
        self._ended = {run.id for run in ended}
        if since is not None and new:
            self._lost.changed()
            known = _usual(self._apps.get(0).value or {})
            with self._lock:
                shelves = dict(self._shelves)
            for run in new:
                where = destinations_meant(run, known)
                for ref, kept in shelves.items():
                    if not where or block_name(ref) in where:
                        kept.changed()
        return live_runs()


def _held_at(ref: str) -> list[Held]:
    door, trust = load(ref, Destination), keyring().trust  # type: ignore[type-abstract]
    return held(block_name(ref), read_all(door, trust, RecordCache(default_path())).values())


def _places() -> list[str]:
    return saved(DESTINATIONS)


def _apps() -> dict[str, SavedApp]:
    """Read as Prefect has them: to load each one takes a request of its own."""
    found: dict[str, SavedApp] = {}
    with get_client(sync_client=True) as client:
        while page := client.read_block_documents_by_type(APP_SLUG, offset=len(found), limit=_PAGE):
            for document in page:
                destinations = map(block_name, document.data.get("destinations") or ())
                kinds = {ref.partition("/")[0] for ref in document.data.get("sources") or ()}
                categories = {SOURCES[slug].category for slug in kinds if slug in SOURCES}
                kind = "full" if len(categories) > 1 else next(iter(categories), "")
                found[document.name or ""] = SavedApp(tuple(destinations), kind)
            if len(page) < _PAGE:
                break
    return found


def _usual(apps: Mapping[str, SavedApp]) -> dict[str, tuple[str, ...]]:
    return {name: app.destinations for name, app in apps.items()}


def _troubles(seen: Iterable[tuple[str, Seen[Any]]]) -> Iterator[Trouble]:
    for name, one in seen:
        if one.problem:
            yield Trouble(name=name, detail=one.problem.detail, remedy=one.problem.remedy)
        elif one.late:
            yield Trouble(name=name, detail="it is still being read", remedy="Look again in a moment.")


LISTING = Listing()
"""The one of this process."""
