"""Several policies at once: the union of what each keeps by itself (law 4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vault.test_retention import NOW, held, histories, nightly, policies
from vault.plan import Keeper, Plan, make_plan
from vault.record import BackupId
from vault.retention import RetentionPolicy

keepers = st.lists(st.builds(lambda fields: Keeper(RetentionPolicy(**fields)), policies), min_size=1, max_size=4)
sources = st.lists(st.sampled_from(["a", "b", "ab", "abc"]), min_size=1, max_size=5)


def planned(policies: list[Keeper], history: list[BackupId], names: list[str], **more: object) -> Plan:
    return make_plan(policies, history, NOW, damaged=(), sources=held(history, names), **more)  # type: ignore[arg-type]


@pytest.mark.law(4)
@given(keepers, keepers, histories, sources, st.data())
def test_another_policy_never_deletes_more(
    some: list[Keeper], more: list[Keeper], history: list[BackupId], names: list[str], data: st.DataObject
) -> None:
    pinned = data.draw(st.sets(st.sampled_from(history))) if history else set()
    alone, both = (planned(one, history, names, pinned=pinned) for one in (some, some + more))
    assert both.keep.keys() >= alone.keep.keys()
    together = alone.keep.keys() | planned(more, history, names, pinned=pinned).keep.keys()
    assert both.keep.keys() == together, "and keeps nothing that none of them keeps"


@pytest.mark.law(4)
@given(keepers, histories, sources)
def test_with_several_the_highest_floor_holds_and_what_goes_is_whole_in_a_newer_one_that_stays(
    several: list[Keeper], history: list[BackupId], names: list[str]
) -> None:
    result, own = planned(several, history, names), held(history, names)
    floor = max(keeper.policy.min_keep for keeper in several if keeper.policy)
    assert len(result.keep) >= min(floor, len(history))
    assert sorted([*result.keep, *result.drop]) == sorted(history)
    for dropped in result.drop:
        assert any(kept > dropped and own[dropped] <= own[kept] for kept in result.keep)


@pytest.mark.law(11)
@given(keepers, histories, sources, st.randoms())
def test_the_order_of_the_policies_changes_no_decision_and_a_second_plan_deletes_no_more(
    several: list[Keeper], history: list[BackupId], names: list[str], random: object
) -> None:
    result = planned(several, history, names)
    assert planned(several[::-1], history, names).drop == result.drop
    left, own = list(result.keep), held(history, names)
    assert make_plan(several, left, NOW, damaged=(), sources=own).drop == ()


def test_each_reason_names_whose_policy_it_is() -> None:
    day = nightly(3)
    hourly = Keeper(RetentionPolicy(keep_last=1), "schedule hourly")
    nightly_two = Keeper(RetentionPolicy(keep_last=2, min_keep=2), "schedule nightly")
    result = make_plan([hourly, nightly_two], day, NOW, damaged=())
    assert result.reason(day[0]) == (
        "floor 1 of 1, last 1 of 1 (schedule hourly), floor 1 of 2, last 1 of 2 (schedule nightly)"
    )
    assert result.reason(day[1]) == "floor 2 of 2, last 2 of 2 (schedule nightly)"
    assert result.drop == (day[2],)


@pytest.mark.law(4)
def test_who_keeps_all_keeps_all_and_nobody_at_all_does_too() -> None:
    keep_all = Keeper(None, "schedule for-ever")
    result = make_plan([Keeper(RetentionPolicy(keep_last=1)), keep_all], nightly(3), NOW, damaged=())
    assert (result.drop, result.reason(nightly(3)[2])) == ((), "all (schedule for-ever)")
    assert make_plan([], nightly(3), NOW, damaged=()).drop == ()
