"""The wrapper that fails on demand keeps the contract while it is not asked to fail; and it fails when asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocks.destinations.base import Destination
from blocks.destinations.local import LocalDestination
from tests.contract.destination import KEY, DestinationContract, get, keys, put
from tests.destinations import test_local
from tests.destinations.faulty import Faults, FaultyDestination
from vault.errors import DestinationUnavailable, NoSpace


class TestFaultyDestination(DestinationContract):
    @pytest.fixture
    def destination(self, tmp_path: Path) -> FaultyDestination:
        local = LocalDestination(root=tmp_path / "backups")
        local.prepare()
        return FaultyDestination.around(local)

    def lies_there(self, destination: Destination) -> set[str]:
        return test_local.lies_in(inner(destination))

    def plant(self, destination: Destination, name: str) -> None:
        test_local.plant_in(inner(destination), name)

    def again(self, destination: Destination) -> Destination:
        local = inner(destination)
        return FaultyDestination.around(LocalDestination(root=local.root, marker=local.marker))

    @pytest.mark.fault("D01")
    @pytest.mark.parametrize("full_at", [0, 50_000, 99_999])
    def test_it_is_full_where_it_was_told_to_be(self, destination: FaultyDestination, full_at: int) -> None:
        destination.faults.full_at = full_at
        with pytest.raises(NoSpace):
            put(destination, KEY, b"x" * 100_000, pieces=4)
        assert self.lies_there(destination) == set()

    @pytest.mark.fault("T08")
    def test_it_stores_less_than_it_was_given(self, destination: FaultyDestination) -> None:
        destination.faults.short = True
        put(destination, KEY, b"0123456789", pieces=3)
        assert get(destination, KEY) == b"012345678"

    def test_it_flips_a_bit(self, destination: FaultyDestination) -> None:
        destination.faults.flip = True
        put(destination, KEY, b"0123456789", pieces=3)
        assert get(destination, KEY) == b"1123456789"

    @pytest.mark.fault("T03")
    def test_it_loses_the_answer_to_a_commit_and_a_retry_finds_the_object(self, destination: FaultyDestination) -> None:
        destination.faults.lost_answer = True
        with pytest.raises(DestinationUnavailable):
            put(destination, KEY, b"data")
        destination.faults.lost_answer = False
        assert put(destination, KEY, b"data").size == 4

    def test_it_is_away_as_often_as_it_was_told(self, destination: FaultyDestination) -> None:
        destination.faults.unavailable["stat"] = 2
        put(destination, KEY, b"data")
        for _ in range(2):
            with pytest.raises(DestinationUnavailable):
                destination.stat(KEY)
        assert destination.stat(KEY).size == 4

    @pytest.mark.fault("T13")
    def test_its_listing_breaks_after_the_first_object(self, destination: FaultyDestination) -> None:
        put(destination, "shop/a", b"a")
        put(destination, "shop/b", b"b")
        destination.faults.short_list = True
        with pytest.raises(DestinationUnavailable):
            keys(destination)

    def test_it_tells_every_call(self, destination: FaultyDestination) -> None:
        put(destination, KEY, b"data")
        assert destination.faults.calls == [("upload", KEY), ("append", KEY), ("commit", KEY)]
        assert Faults().calls == []


def inner(destination: Destination) -> LocalDestination:
    assert isinstance(destination, FaultyDestination)
    assert isinstance(destination.inner, LocalDestination)
    return destination.inner
