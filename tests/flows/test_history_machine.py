"""Months in the life of two destinations: backups, kills, faults, prunes, restores and clocks that jump, in any order.

After each step laws 1 to 4 and 11 hold at both. What the steps do is the project's own code, from the first byte of an
artifact to retention; only what a run reads is made up.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import tasks.garbage
import tasks.retain
from blocks import LocalDestination
from tasks.garbage import Garbage
from tasks.retain import Judged, carry_out, judge
from tasks.seen import Seen, Spot
from tests.destinations.faulty import Faults, FaultyDestination
from tests.flows.committed import commit
from vault import marks
from vault.catalog import Catalog, History
from vault.errors import BadRecord, DestinationError, RetentionRefused, WrongKey
from vault.plan import Keeper
from vault.record import BackupId
from vault.retention import RetentionPolicy
from vault.signing import Signer, Trust

APP, TWIN = "shop", "shop-2"
OURS, STRANGER = Signer.generate(), Signer.generate()
TRUST = Trust.of([OURS.public_key])
NAMES = ("a", "b")

policies = st.builds(
    RetentionPolicy,
    keep_last=st.integers(1, 4),
    keep_daily=st.integers(0, 3),
    keep_weekly=st.integers(0, 2),
    min_keep=st.integers(1, 3),
    timezone=st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia"]),
)


class Killed(BaseException):
    """The process ended here."""


@dataclass
class Deadly(Faults):
    """Faults, and the death of the process at a certain call."""

    dies_in: int | None = None

    def call(self, name: str, key: str = "") -> None:  # type: ignore[override]
        if self.dies_in is not None:
            if self.dies_in <= 0:
                raise Killed
            self.dies_in -= 1
        super().call(name, key)  # type: ignore[arg-type]


@dataclass
class Place:
    """A destination, and what the test knows of it. *held*: the sources of each committed backup, newest last."""

    store: FaultyDestination
    faults: Deadly
    held: dict[BackupId, frozenset[str]] = field(default_factory=dict)
    pinned: set[BackupId] = field(default_factory=set)
    foreign: dict[Path, bytes] = field(default_factory=dict)
    broken: Path | None = None
    """A record that somebody has spoilt."""
    moved: dict[Path, dict[Path, bytes]] = field(default_factory=dict)
    """Records that somebody has moved away, and what lay there of each backup then."""
    aged: set[Path] = field(default_factory=set)

    @property
    def root(self) -> Path:
        inner = self.store.inner
        assert isinstance(inner, LocalDestination)
        return inner.root

    @property
    def catalog(self) -> Catalog:
        return Catalog(self.store, APP, TRUST)

    def age(self, now: datetime) -> None:
        """What is new there was written *now*."""
        for path in {*(self.root / APP).iterdir()} - self.aged:
            os.utime(path, (now.timestamp(), now.timestamp()))
            self.aged.add(path)

    def files(self, backup_id: BackupId) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (self.root / APP).glob(f"{backup_id}*")}

    def history(self) -> History:
        return Catalog(self.store.inner, APP, TRUST).history()

    @contextmanager
    def failing(self, dies_in: int | None, unavailable: str | None) -> Iterator[None]:
        self.faults.dies_in = dies_in
        self.faults.unavailable = {unavailable: 1} if unavailable else {}  # type: ignore[dict-item]
        try:
            yield
        except (Killed, DestinationError):
            pass
        finally:
            self.faults.dies_in, self.faults.unavailable = None, {}


class Months(RuleBasedStateMachine):
    """See above."""

    refusals: ClassVar[list[str]] = []
    plans: ClassVar[list[int]] = []
    """How many each plan that was carried out was to delete, over all histories."""
    removed: ClassVar[list[BackupId]] = []
    """What went since it had no record."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="backups-test-machine-"))
        self.now = datetime(2026, 11, 23, 3, tzinfo=UTC)
        self.places: dict[str, Place] = {}
        for name in NAMES:
            inner = LocalDestination(root=self.directory / name)
            inner.prepare()
            faults = Deadly()
            self.places[name] = Place(FaultyDestination.around(inner, faults), faults)
            twin = commit(inner, TWIN, OURS, {"files": b"twin"}, self.now - timedelta(days=400))
            self.places[name].foreign |= {path: path.read_bytes() for path in (inner.root / TWIN).iterdir()}
            assert twin.app == TWIN
            for days in range(8, 0, -1):
                sources = "df" if days == 8 else "d"
                made = commit(inner, APP, OURS, dict.fromkeys(sources, b"night"), self.now - timedelta(days=days))
                self.places[name].held[made.backup_id] = frozenset(sources)
                self.places[name].age(self.now - timedelta(days=days))

    def teardown(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- what happens

    @rule(
        name=st.sampled_from(NAMES),
        sources=st.sampled_from(["d", "f", "df"]),
        hours=st.integers(1, 60),
        policy=policies | st.none(),
        dies_in=st.integers(0, 30) | st.none(),
        unavailable=st.sampled_from(["upload", "append", "commit", "list", "open", "stat", "remove"]) | st.none(),
    )
    def back_up(
        self,
        name: str,
        sources: str,
        hours: int,
        policy: RetentionPolicy | None,
        dies_in: int | None,
        unavailable: str | None,
    ) -> None:
        """A run: artifacts, record, and then retention. It may be killed, or fail, at any call."""
        self.now += timedelta(hours=hours)
        place, made = self.places[name], None
        before = {record.backup_id for record in place.history().records}
        with place.failing(dies_in, unavailable):
            contents = {source: f"{source} {self.now}".encode() for source in sources}
            made = commit(place.store, APP, OURS, contents, self.now)
            self._retain(place, policy)
        new = {record.backup_id for record in place.history().records} - before
        if made is None:
            assert len(new) <= 1, "a run makes one backup"
        else:
            assert new == {made.backup_id}, "what was committed is there"
        for backup_id in new:
            place.held[backup_id] = frozenset(sources)

    @rule(
        name=st.sampled_from(NAMES),
        policy=policies,
        dies_in=st.integers(0, 30) | st.none(),
        many=st.booleans(),
        accept=st.booleans(),
    )
    def prune(self, name: str, policy: RetentionPolicy, dies_in: int | None, many: bool, accept: bool) -> None:
        place = self.places[name]
        with place.failing(dies_in, None):
            self._retain(place, policy, None if many else 2, accept)

    @rule(name=st.sampled_from(NAMES), one=policies, other=policies)
    def prune_twice_at_once(self, name: str, one: RetentionPolicy, other: RetentionPolicy) -> None:
        """Two that have listed before either deletes (X07)."""
        place = self.places[name]
        judged = []
        for policy in (one, one if one.keep_last > 1 else other):
            try:
                judged.append(self._judged(place, place.catalog.history(), policy, 10))
            except RetentionRefused:
                return
        for plan in judged:
            carry_out(place.catalog, plan)

    @rule(hours=st.integers(-30, 30 * 24))
    def the_clock_jumps(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @precondition(lambda self: self.rarely())
    @rule(name=st.sampled_from(NAMES), years=st.integers(1, 17))
    def a_run_with_a_clock_of_the_future(self, name: str, years: int) -> None:
        place = self.places[name]
        record = commit(place.store.inner, APP, OURS, {"d": b"future"}, self.now + timedelta(days=365 * years))
        place.held[record.backup_id] = frozenset("d")

    @rule(name=st.sampled_from(NAMES))
    def somebody_pins_the_oldest(self, name: str) -> None:
        place = self.places[name]
        if place.held:
            marks.put(place.store, APP, min(place.held), "pinned", OURS)
            place.pinned.add(min(place.held))

    @precondition(lambda self: self.rarely())
    @rule(name=st.sampled_from(NAMES), minutes=st.integers(1, 60))
    def a_stranger_adds_newer_records(self, name: str, minutes: int) -> None:
        place = self.places[name]
        record = commit(place.store.inner, APP, STRANGER, {"d": b"fake"}, self.now + timedelta(minutes=minutes))
        place.broken = place.broken or place.root / record.key

    @precondition(lambda self: self.rarely())
    @rule(name=st.sampled_from(NAMES), which=st.integers(0, 20))
    def a_record_rots(self, name: str, which: int) -> None:
        place = self.places[name]
        if place.broken is None and place.held:
            backup_id = sorted(place.held)[which % len(place.held)]
            place.broken = place.root / APP / f"{backup_id}.json"
            place.broken.write_bytes(place.broken.read_bytes()[:-40])
            del place.held[backup_id]
            place.pinned.discard(backup_id)

    def rarely(self) -> bool:
        """What stops all deletion must not be all that happens."""
        return sum(len(place.held) for place in self.places.values()) % 4 == 0

    @rule(name=st.sampled_from(NAMES))
    def somebody_removes_what_is_odd(self, name: str) -> None:
        place = self.places[name]
        for record in place.history().records:
            if record.backup_id.created_at > self.now:
                place.catalog.remove(record.backup_id)
                del place.held[record.backup_id]
                place.pinned.discard(record.backup_id)
        for damaged in place.history().damaged:
            if damaged.backup_id is not None:
                place.catalog.remove(damaged.backup_id)
        place.broken = None

    @rule(
        name=st.sampled_from(NAMES),
        which=st.integers(0, 20),
        hours=st.lists(st.integers(1, 60), min_size=1, max_size=3),
        policy=policies | st.none(),
    )
    def a_listing_loses_a_record(self, name: str, which: int, hours: list[int], policy: RetentionPolicy | None) -> None:
        """For a run, or for some."""
        place = self.places[name]
        there = sorted(found for found in place.held if found.created_at <= self.now)
        lost = there[which % len(there)] if there else None
        place.faults.lost = frozenset({f"{APP}/{lost}.json"})
        try:
            for more in hours:
                self.now += timedelta(hours=more)
                self._retain(place, policy)
        finally:
            place.faults.lost = frozenset()

    @precondition(lambda self: self.rarely())
    @rule(name=st.sampled_from(NAMES), which=st.integers(0, 20), rotten=st.booleans())
    def somebody_moves_a_record_away(self, name: str, which: int, rotten: bool) -> None:
        """As our message about a damaged one says; or by mistake."""
        place = self.places[name]
        path = place.broken
        if not rotten and place.held:
            backup_id = sorted(place.held)[which % len(place.held)]
            path = place.root / APP / f"{backup_id}.json"
            del place.held[backup_id]
            place.pinned.discard(backup_id)
        elif path is not None:
            place.broken = None
        if path is not None:
            path.rename(path.with_suffix(".json.bak"))
            place.moved[path] = place.files(BackupId.parse(path.stem))

    @rule(name=st.sampled_from(NAMES))
    def somebody_moves_them_back(self, name: str) -> None:
        place = self.places[name]
        for path, _ in sorted(place.moved.items()):
            path.with_suffix(".json.bak").rename(path)
            backup_id = BackupId.parse(path.stem)
            for record in place.history().records:
                if record.backup_id == backup_id:
                    place.held[backup_id] = frozenset(artifact.source for artifact in record.artifacts)
                    break
            else:
                place.broken = place.broken or path
        place.moved = {}

    @rule(name=st.sampled_from(NAMES), policy=policies | st.none())
    def a_day_later(self, name: str, policy: RetentionPolicy | None) -> None:
        self.now += timedelta(hours=25)
        self._retain(self.places[name], policy)

    def _judged(
        self, place: Place, history: History, policy: RetentionPolicy | None, most: int | None, accept: bool = False
    ) -> Judged:
        return judge(
            place.catalog,
            history,
            [Keeper(policy)],
            "files",
            "x",
            now=self.now,
            clock=None,
            max_deletes=most,
            accept_missing=accept,
        )

    def _retain(
        self, place: Place, policy: RetentionPolicy | None, most: int | None = 10, accept: bool = False
    ) -> None:
        """Retention, and then garbage, as a run does it; without a policy, too."""
        place.age(self.now)
        history = place.catalog.history()
        garbage = Garbage(place.catalog, history, "files", "x")
        future = any(record.backup_id.created_at > self.now for record in place.history().records)
        try:
            judged = self._judged(place, history, policy, most, accept)
        except RetentionRefused as refused:
            self.refusals.append(refused.message)
            garbage.hold(refused.message)
            return
        assert place.broken is None, "one record that cannot be believed stops all deletion"
        assert not future, "and so does one of the future"
        newest = max(judged.records, default=None)
        assert newest is None or newest in judged.plan.keep
        assert len(judged.plan.keep) >= min(policy.min_keep if policy else 1, len(judged.records))
        assert policy or not judged.plan.drop
        assert most is None or len(judged.plan.drop) <= most
        self.plans.append(len(judged.plan.drop))
        if policy is not None:
            carry_out(place.catalog, judged)
        before = {path: path.stat().st_mtime for path in (place.root / APP).iterdir()}
        seen = tasks.garbage.recall_orphans(garbage._spot)
        self.removed += sorted(garbage.collect(self.now, self.now).removed)
        for path in before.keys() - {*(place.root / APP).iterdir()}:
            first = seen.get(BackupId.parse(path.name.partition(".")[0]))
            assert first is not None, "nothing goes the first time that it is seen"
            assert max(first.timestamp(), before[path]) < (self.now - timedelta(days=1)).timestamp()

    # -- what holds

    @invariant()
    def each_backup_that_is_listed_is_whole(self) -> None:
        for place in self.places.values():
            for record in place.history().records:
                for artifact in record.artifacts:
                    with place.store.inner.open(artifact.key) as stream:
                        assert hashlib.sha256(stream.read()).hexdigest() == artifact.sha256

    @invariant()
    def nothing_is_lost_that_nothing_newer_replaces(self) -> None:
        for place in self.places.values():
            left = {record.backup_id for record in place.history().records}
            assert left <= place.held.keys()
            for gone in place.held.keys() - left:
                replaced = (other for other in left if other > gone and place.held[gone] <= place.held[other])
                assert any(replaced), f"{gone} went, and no newer one has all of it"
            assert place.pinned <= left
            place.held = {found: place.held[found] for found in left}

    @invariant()
    def what_is_not_ours_is_never_touched(self) -> None:
        for place in self.places.values():
            assert {path: path.read_bytes() for path in place.foreign} == place.foreign
            if place.broken is not None:
                assert place.broken.exists(), "what cannot be believed is never deleted by itself"
            for path, files in place.moved.items():
                assert place.files(BackupId.parse(path.stem)) == files, "a backup lost its record, and nothing else"

    @invariant()
    def no_record_stands_without_its_artifacts(self) -> None:
        """Deleted in reverse: at worst artifacts without a record are left."""
        for place in self.places.values():
            for damaged in place.history().damaged:
                assert isinstance(damaged.error, WrongKey | BadRecord), damaged.error


@pytest.fixture(autouse=True)
def _no_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there the last time, in memory: whole histories are run through in a second."""
    seen: dict[str, Seen] = {}
    monkeypatch.setattr(tasks.retain, "recall", lambda spot: seen.get(spot.location, Seen()))

    def remember(spot: Spot, left: set[BackupId], *_: object) -> None:
        seen[spot.location] = Seen(frozenset(left))

    monkeypatch.setattr(tasks.retain, "remember", remember)
    monkeypatch.setattr(tasks.retain, "recall_removed", lambda _spot: frozenset())
    since: dict[str, dict[BackupId, datetime]] = {}
    monkeypatch.setattr(tasks.garbage, "living_runs", tuple)
    monkeypatch.setattr(tasks.garbage, "recall_orphans", lambda spot: since.get(spot.location, {}))
    monkeypatch.setattr(tasks.garbage, "remember_orphans", lambda spot, seen: since.update({spot.location: seen}))


@pytest.mark.law(1, 2, 3, 4, 11)
@pytest.mark.fault("D08", "D10", "D11", "D20", "X07", "Z01", "Z02", "Z11", "K11")
@pytest.mark.parametrize("histories", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_whatever_happens_in_any_order_the_laws_hold(histories: int) -> None:
    Months.refusals, Months.plans, Months.removed = [], [], []
    few = histories < 100  # the same ones each time
    health = list(HealthCheck)
    limits = settings(
        max_examples=histories,
        stateful_step_count=40,
        deadline=None,
        derandomize=few,
        suppress_health_check=health,
        phases=[Phase.generate] if few else [*Phase],  # to find the shortest way to a failure takes minutes
    )
    run_state_machine_as_test(Months, settings=limits)  # type: ignore[no-untyped-call]
    assert Months.removed, "nothing went that had no record: nothing was tried"
    if not few:
        for reason in ("not listed any more", "believed", "from the future", "at once"):
            assert any(reason in refusal for refusal in Months.refusals), f"never refused: {reason}"
        assert sum(Months.plans) > 100, "next to nothing was deleted: nothing was tried"
