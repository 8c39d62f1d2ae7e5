"""What a destination is spared: how many runs upload there at once, and how fast."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

import blocks.destinations.base
from blocks import App, Directory, LocalDestination, LocalServer
from blocks.turns import Taken, drop_limit, set_limit, take, take_each, turn, turns_in_time
from cli.api import free_port
from flows.backup import backup
from flows.copy_backup import copy_backup
from flows.report import BackupFailed
from tasks.preflight import Wanted, prepare_run
from tasks.progress import Snapshot, listening
from tasks.run import Transfer
from tests.flows.conftest import Sample
from tests.vault.test_pace import Clock
from vault.pace import Pace
from vault.workspace import default_root

GENEROUS = 300


def limited(sample: Sample, name: str, **limits: int) -> LocalDestination:
    """A saved destination with *limits*."""
    place = LocalDestination(root=sample.root / name, **limits)
    place.prepare()
    place.save(f"{sample.name}-{name}", overwrite=True)
    place.set_limit()
    return place


@pytest.mark.fault("X01")
def test_no_more_runs_upload_to_a_destination_at_once_than_it_may_have(sample: Sample) -> None:
    limited(sample, "backups", max_runs=1)
    narrow = limited(sample, "narrow", max_runs=1)
    waits = threading.Event()

    def listen(now: Snapshot) -> None:
        if now.stage == f"waiting for its turn at {sample.name}-backups, {sample.name}-narrow":
            waits.set()

    both = [f"local-destination/{sample.name}-{name}" for name in ("backups", "narrow")]
    with listening(listen), ThreadPoolExecutor(1) as pool:
        with turn([narrow.limit]):
            second = pool.submit(backup, app=sample.name, destinations=both)
            assert waits.wait(GENEROUS)
            assert not sample.history().records
            before = [path.name for path in default_root().iterdir()]
            with turn([f"backups-local-destination-{sample.name}-backups"]):
                pass  # who waits for several takes none of them before he has all
        result = second.result(GENEROUS)
    assert len(result.destinations) == 2
    assert not [name for name in before if result.id in name], "the backup is of when it began, not of when it waited"
    narrow.max_runs = 0
    narrow.set_limit()


@pytest.mark.fault("X01")
def test_a_destination_that_stays_busy_holds_up_the_copies_to_others_for_so_long_and_no_longer(sample: Sample) -> None:
    narrow = limited(sample, "narrow", max_runs=1, max_wait=1)
    both = [f"local-destination/{sample.name}-{name}" for name in ("backups", "narrow")]
    with turn([narrow.limit]), pytest.raises(BackupFailed, match=r"narrow is busy: 1 runs(.|\n)*--max-wait") as failed:
        backup(app=sample.name, destinations=both)
    assert [bool(landing.record) for landing in failed.value.result.destinations] == [True, False]
    assert len(sample.history().records) == 1
    assert not sample.history("narrow").records
    assert backup(app=sample.name, destinations=both).id in [record.id for record in sample.history("narrow").records]


@pytest.fixture
def limits(sample: Sample) -> Iterator[tuple[str, str]]:
    """Two limits of one turn each."""
    names = (f"{sample.name}-a", f"{sample.name}-b")
    for name in names:
        set_limit(name, 1)
    yield names
    for name in names:
        drop_limit(name)


class Pauses:
    """Pauses, and whether there was one when a second was over."""

    def __init__(self) -> None:
        self.began, self.late = time.monotonic(), threading.Event()

    def __call__(self, seconds: float) -> None:
        if time.monotonic() > self.began + 1:
            self.late.set()
        threading.Event().wait(seconds)


@pytest.mark.parametrize(
    ("second", "more"),
    [
        pytest.param(1, False, id="the-run-would-have-no-destination-left"),
        pytest.param(0, True, id="the-other-one-may-be-waited-for-longer"),
    ],
)
def test_a_run_waits_on_for_another_one_though_one_is_given_up(
    limits: tuple[str, str], second: int, more: bool
) -> None:
    a, b = limits
    pauses = Pauses()

    def wanted() -> frozenset[str]:
        with turns_in_time({a: 1, b: second}, pause=pauses, more=more) as given_up:
            return given_up

    with ThreadPoolExecutor(1) as pool, turn([a]):
        with turn([b]):
            waiting = pool.submit(wanted)
            assert pauses.late.wait(GENEROUS)
            assert not waiting.done()
        assert waiting.result(GENEROUS) == {a}


def test_what_is_never_given_up_is_not_held_while_a_busy_one_is_waited_for(limits: tuple[str, str]) -> None:
    a, b = limits
    pauses = Pauses()

    def wanted() -> frozenset[str]:
        with turns_in_time({b: 1}, pause=pauses, before=lambda: take([a])) as given_up, pytest.raises(Taken):
            take([a])
        return given_up

    with ThreadPoolExecutor(1) as pool:
        with turn([b]):
            waiting = pool.submit(wanted)
            assert pauses.late.wait(GENEROUS)
            with turn([a]):
                pass
        assert waiting.result(GENEROUS) == frozenset()
    with turn([a, b]):
        pass


def test_of_several_servers_each_turn_is_given_back_alone_and_none_is_held_where_one_is_taken(
    limits: tuple[str, str],
) -> None:
    a, b = limits
    with turn([b]):
        with pytest.raises(Taken):
            take_each(limits)
        take([a]).close()  # it is free, though it comes first
    held = take_each(limits)
    with pytest.raises(Taken):
        take([a])
    held[a].close()
    with turn([a]), pytest.raises(Taken):
        take([b])
    held[b].close()
    take([b]).close()


@pytest.mark.fault("O02")
def test_a_run_whose_api_is_gone_goes_on_without_its_turn_and_ends_it(
    sample: Sample, caplog: pytest.LogCaptureFixture
) -> None:
    narrow = limited(sample, "narrow", max_runs=2)
    gone = temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api", PREFECT_CLIENT_MAX_RETRIES: 0})
    with gone, turn([f"another-than-{narrow.limit}"]):
        assert "going on without one" in caplog.text
    held = turn([narrow.limit])
    held.__enter__()
    gone = temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api", PREFECT_CLIENT_MAX_RETRIES: 0})
    with gone:
        held.__exit__(None, None, None)
    assert "could not be told that a turn has ended" in caplog.text
    with pytest.raises(KeyError, match="of the run"), turn([narrow.limit]):
        raise KeyError("an error of the run itself")


def test_a_copy_waits_for_its_turn_too(sample: Sample) -> None:
    made = backup(app=sample.name)
    narrow = limited(sample, "narrow", max_runs=1)
    waits = threading.Event()
    origin, target = (f"local-destination/{sample.name}-{name}" for name in ("backups", "narrow"))
    with (
        listening(lambda now: waits.set() if "waiting for its turn" in now.stage else None),
        ThreadPoolExecutor(1) as pool,
    ):
        with turn([narrow.limit]):
            copy = pool.submit(copy_backup, backup=made.id, origin=origin, destinations=[target])
            assert waits.wait(GENEROUS)
        assert copy.result(GENEROUS).id == made.id
    assert [record.id for record in sample.history("narrow").records] == [made.id]


def test_all_that_a_run_sends_to_a_destination_and_reads_from_it_shares_its_bandwidth(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = 50_000
    clock = Clock()
    paces: dict[str, Pace] = {}

    def pace_of(location: str, rate: int) -> Pace:
        return paces.setdefault(location, Pace(rate, clock, clock.sleep))

    monkeypatch.setattr(blocks.destinations.base, "_pace_of", pace_of)
    slow = limited(sample, "slow", bandwidth=rate)
    app = App.load(sample.name)
    assert isinstance(app, App)
    app.parallel = 2
    app.save(sample.name, overwrite=True)
    backup(app=sample.name, destinations=[f"local-destination/{sample.name}-{name}" for name in ("backups", "slow")])
    (record,) = sample.history("slow").records
    assert [*paces] == [slow.location], "the other one has no limit"
    sent_and_read_back = 2 * record.size
    assert sent_and_read_back > 200_000
    assert clock.now - 1000 >= sent_and_read_back / rate - 0.1
    for artifact in record.artifacts:
        assert (Path(slow.root) / artifact.key).stat().st_size == artifact.size


def test_a_slow_destination_has_as_long_as_its_bandwidth_needs_before_it_counts_as_stuck(sample: Sample) -> None:
    run = prepare_run(Wanted(sample.name))
    try:
        assert Transfer.begin(run, "quick").spool.stall_timeout == run.limits.stall_timeout
        run.destinations[f"{sample.name}-backups"].bandwidth = 10_000
        spool = Transfer.begin(run, "slow").spool
        assert spool.stall_timeout > spool.segment_size / 10_000 > run.limits.stall_timeout
    finally:
        run.close()


def test_a_dump_for_which_something_is_down_gives_way_to_nobody(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[bool, bool] = {}
    read = Directory.dump

    def dump(self: Directory) -> object:
        seen[urgent] = self.server.is_low
        return read(self)

    monkeypatch.setattr(Directory, "dump", dump)
    files = Directory.load(f"{sample.name}-files")
    assert isinstance(files, Directory)
    files.server = LocalServer(priority="low")
    files.save(f"{sample.name}-files", overwrite=True)
    for urgent in (False, True):
        monkeypatch.setattr(Directory, "is_urgent", property(lambda _: urgent))  # noqa: B023 - each run before the next
        backup(app=sample.name)
    assert seen == {False: True, True: False}
