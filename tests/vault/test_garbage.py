"""Which orphans may go: a pure judgement. What is in doubt stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.destinations.local import LocalDestination
from tests.flows.committed import commit
from vault.catalog import Catalog
from vault.garbage import FORMATS, GRACE, grouped, is_ours, judge
from vault.record import BackupId
from vault.signing import Signer, Trust
from vault.store import StoredObject

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)
ID = "20261101T030000Z-files-3f9a2c"


@pytest.mark.parametrize("plain", FORMATS)
@pytest.mark.parametrize("coded", ["", ".zst", ".gz", ".age", ".zst.age", ".gz.age"])
def test_what_a_run_writes_is_ours(plain: str, coded: str) -> None:
    assert is_ours(f"shop/{ID}.shop-db.{plain}{coded}")


@pytest.mark.fault("D08")
@pytest.mark.parametrize(
    "name",
    [
        f"{ID}.json",
        f"{ID}.json.bak",
        f"{ID}.json.gz",
        f"{ID}.tar",
        f"{ID}.Shop.tar",
        f"{ID}.shop.tar.bz2",
        f"{ID}.shop.tar.zst.age.bak",
        f"{ID}.shop.tar.age.zst",
        f"{ID}.pinned.old",
        f"{ID}",
        "notes.shop.tar",
        f"copy-of-{ID}.shop.tar",
    ],
)
def test_whatever_else_lies_there_is_not(name: str) -> None:
    assert not is_ours(f"shop/{name}")


@pytest.mark.law(3)
@pytest.mark.fault("D08")
def test_a_backup_that_goes_leaves_behind_what_is_not_ours(store: LocalDestination) -> None:
    ours = Signer.generate()
    record = commit(store, "shop", ours, {"a": b"a", "b": b"b"}, NOW)
    kept = store.root / "shop" / f"{record.id}.json.bak"
    kept.write_bytes(b"mine")
    Catalog(store, "shop", Trust.of([ours.public_key])).remove(record.backup_id)
    assert [*(store.root / "shop").iterdir()] == [kept]


hours = st.integers(-100, 100).map(lambda count: NOW + timedelta(hours=count))


@pytest.mark.law(4)
@pytest.mark.fault("D10", "X03", "Z01", "Z02")
@given(made=hours, modified=hours, seen=hours | st.none(), here=hours, there=hours)
def test_nothing_goes_before_it_has_been_seen_for_a_day_and_is_a_day_old_by_both_clocks(
    made: datetime, modified: datetime, seen: datetime | None, here: datetime, there: datetime
) -> None:
    backup_id = BackupId(made, "files", "3f9a2c")
    orphans = grouped([StoredObject(f"shop/{backup_id}.a.tar", 1, modified)])
    clocks = min(here, there), max(here, there)
    known = {} if seen is None else {backup_id: seen}
    (verdict,) = judge(orphans, known, clocks, lambda _: "", None)
    if verdict.goes:
        assert seen is not None
        assert all(clock - moment > GRACE for clock in clocks for moment in (made, modified, seen))
    elif verdict.since is not None:
        last = max(made, modified, verdict.since) + timedelta(hours=25)
        (later,) = judge(orphans, {backup_id: verdict.since}, (last, last), lambda _: "", None)
        assert later.goes
    (living,) = judge(orphans, known, clocks, lambda _: "shop", None)
    assert (living.goes, living.since) == (False, None)


@pytest.mark.fault("Z11")
def test_of_more_than_may_go_at_once_none_does() -> None:
    old = NOW - timedelta(days=9)
    ids = [BackupId(old + timedelta(seconds=number), "files", "3f9a2c") for number in range(11)]
    orphans = grouped([StoredObject(f"shop/{one}.a.tar", 1, old) for one in ids])
    seen = dict.fromkeys(ids, old)
    assert not any(one.goes for one in judge(orphans, seen, (NOW, NOW), lambda _: "", 10))
    assert all(one.goes for one in judge(orphans, seen, (NOW, NOW), lambda _: "", 11))
