"""The plan of what to delete: laws 4 and 11."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.errors import ConfigError, RetentionRefused
from vault.plan import Keeper, Plan, make_plan, refuse_more_than
from vault.record import BackupId
from vault.retention import RetentionPolicy

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia", "Australia/Lord_Howe"]
RULES = ["keep_last", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly"]


def at(text: str, random: str = "000000") -> BackupId:
    return BackupId(datetime.fromisoformat(text).astimezone(UTC), "full", random)


def nightly(count: int, last: datetime = NOW) -> list[BackupId]:
    return [BackupId(last - timedelta(days=day), "full", "000000") for day in range(count)]


def plan(policy: RetentionPolicy, ids: list[BackupId], now: datetime = NOW, **more) -> Plan:
    return make_plan([Keeper(policy)], ids, now, **{"damaged": (), **more})


ids = st.builds(
    lambda seconds, random: BackupId(NOW - timedelta(seconds=seconds), "full", random),
    st.integers(1, 7 * 365 * 86400),
    st.sampled_from(["000000", "3f9a2c"]),
)
# Many backups close together, so that days, weeks and changes of the clock are hit; and some far apart.
dense = st.builds(
    lambda start, hours: [BackupId(start.created_at - timedelta(hours=h), "full", "000000") for h in hours],
    ids,
    st.lists(st.integers(0, 24 * 40), max_size=40, unique=True),
)
histories = st.lists(ids, max_size=25, unique=True) | dense
counts = st.integers(0, 12)
policies = st.fixed_dictionaries(
    {
        **dict.fromkeys(RULES, counts),
        "keep_within": st.integers(0, 60).map(lambda days: timedelta(days=days)),
        "min_keep": st.integers(1, 5),
        "timezone": st.sampled_from(ZONES),
    }
).filter(lambda fields: any(fields[rule] for rule in [*RULES, "keep_within"]))


# --- properties ---


@pytest.mark.law(4)
@given(policies, histories)
def test_the_floor_is_never_undercut_and_only_replaced_backups_go(fields, history):
    result = plan(RetentionPolicy(**fields), history)
    assert len(result.keep) >= min(fields["min_keep"], len(history))
    assert set(result.keep) | set(result.drop) == set(history)
    assert set(result.keep).isdisjoint(result.drop)
    assert list(result.drop) == sorted(result.drop)
    assert all(max(result.keep) > dropped for dropped in result.drop)
    assert all(result.keep.values())


@pytest.mark.law(11)
@pytest.mark.fault("X02")
@given(policies, histories, st.randoms())
def test_a_plan_depends_on_the_listing_only_and_not_on_its_order(fields, history, random):
    shuffled = random.sample(history, len(history))
    policy = RetentionPolicy(**fields)
    assert plan(policy, history) == plan(policy, shuffled) == plan(policy, history + shuffled)


@pytest.mark.law(11)
@given(policies, histories)
def test_planning_again_after_the_deletions_drops_nothing_more(fields, history):
    policy = RetentionPolicy(**fields)
    once = plan(policy, history)
    assert plan(policy, list(once.keep)) == Plan(once.keep, ())


@pytest.mark.law(11)
@given(policies, histories, st.data())
def test_a_run_that_was_killed_between_deletions_leaves_the_same_goal(fields, history, data):
    policy = RetentionPolicy(**fields)
    whole = plan(policy, history)
    done = data.draw(st.integers(0, len(whole.drop)))
    rest = plan(policy, [i for i in history if i not in whole.drop[:done]])
    assert rest == Plan(whole.keep, whole.drop[done:])


@given(policies, histories, st.sampled_from([*RULES, "keep_within", "min_keep"]), st.integers(1, 5))
def test_keeping_more_never_drops_more(fields, history, rule, more):
    added = timedelta(days=more) if rule == "keep_within" else more
    generous = RetentionPolicy(**{**fields, rule: fields[rule] + added})
    assert set(plan(generous, history).drop) <= set(plan(RetentionPolicy(**fields), history).drop)


@given(policies, histories, st.data())
def test_a_pin_keeps_its_backup_and_changes_nothing_else(fields, history, data):
    policy = RetentionPolicy(**fields)
    pinned = data.draw(st.sets(st.sampled_from(history))) if history else set()
    assert set(plan(policy, history, pinned=pinned).drop) == set(plan(policy, history).drop) - pinned


@pytest.mark.parametrize("zone", ZONES)
def test_run_after_run_for_two_years_the_ends_of_the_last_months_stay(zone):
    policy = RetentionPolicy(keep_last=2, keep_monthly=6, timezone=zone)
    everything = [NOW - timedelta(hours=h) for h in range(2 * 365 * 24, -1, -24)]
    held: list[BackupId] = []
    for moment in everything:
        held = list(plan(policy, [*held, BackupId(moment, "full", "000000")], moment).keep)
    assert set(held) == set(plan(policy, [BackupId(m, "full", "000000") for m in everything]).keep)


# --- what each rule means ---


def test_keep_last_keeps_the_newest_and_says_which():
    history = nightly(5)
    result = plan(RetentionPolicy(keep_last=2), history)
    assert result.keep == {history[0]: ("floor 1 of 1", "last 1 of 2"), history[1]: ("last 2 of 2",)}
    assert result.drop == (history[4], history[3], history[2])
    assert result.reason(history[1]) == "last 2 of 2"
    assert "newer backups replace it" in result.reason(history[4])


@pytest.mark.fault("Z04")
def test_the_last_backup_of_each_month_stays_whatever_its_length():
    history = [at(f"2024-{month:02}-{day:02}T12:00Z") for month in range(1, 13) for day in range(1, 29)]
    ends = ["01-31", "02-29", "03-31", "04-30", "05-31", "12-31"]
    history += [at(f"2024-{end}T23:59:59Z") for end in ends]
    kept = plan(RetentionPolicy(keep_monthly=12), history).keep
    assert [f"{i.created_at:%m-%d}" for i in kept] == [
        "12-31", "11-28", "10-28", "09-28", "08-28", "07-28", "06-28", *reversed(ends[:5])
    ]  # fmt: skip


@pytest.mark.fault("Z04")
def test_weeks_are_iso_weeks_across_the_year_end():
    history = [at(f"{day}T12:00Z") for day in ("2020-12-27", "2020-12-28", "2020-12-31", "2021-01-03", "2021-01-04")]
    kept = plan(RetentionPolicy(keep_weekly=9), history).keep
    assert [why[-1] for why in kept.values()] == ["weekly 2021-W01", "weekly 2020-W53", "weekly 2020-W52"]
    assert history[3] in kept  # the Sunday of week 53 lies in the next calendar year


@pytest.mark.fault("Z04")
def test_years_end_in_the_zone_of_the_policy():
    new_year_in_auckland = [at("2025-12-31T10:30Z"), at("2025-12-31T11:30Z"), at("2026-01-01T12:30Z")]
    kept = plan(RetentionPolicy(keep_yearly=5, timezone="Pacific/Auckland"), new_year_in_auckland).keep
    assert list(kept) == [new_year_in_auckland[2], new_year_in_auckland[0]]
    assert len(plan(RetentionPolicy(keep_yearly=5), new_year_in_auckland).keep) == 2


@pytest.mark.fault("Z03")
@pytest.mark.parametrize(
    ("midnight", "next_midnight", "hours"),
    [("2026-03-28T23:00Z", "2026-03-29T22:00Z", 23), ("2026-10-24T22:00Z", "2026-10-25T23:00Z", 25)],
)
def test_a_day_of_23_or_25_hours_is_one_day(midnight, next_midnight, hours):
    start, end = datetime.fromisoformat(midnight), datetime.fromisoformat(next_midnight)
    hourly = [BackupId(start + timedelta(hours=h), "full", "000000") for h in range(-1, hours + 1)]
    kept = plan(RetentionPolicy(keep_daily=9, timezone="Europe/Berlin"), hourly).keep
    assert [i.created_at for i in kept] == [end, end - timedelta(hours=1), start - timedelta(hours=1)]


@pytest.mark.fault("Z03")
def test_both_runs_at_02_30_of_the_autumn_night_fall_into_one_day_and_the_later_stays():
    first, second = at("2026-10-25T02:30:00+02:00"), at("2026-10-25T02:30:00+01:00")
    assert plan(RetentionPolicy(keep_daily=3, timezone="Europe/Berlin"), [first, second]).drop == (first,)


def test_days_without_a_backup_do_not_use_up_the_window():
    history = [at(f"2026-{day}T03:00Z") for day in ("01-01", "03-01", "06-01", "11-22")]
    assert plan(RetentionPolicy(keep_daily=4), history).drop == ()


@pytest.mark.fault("Z09")
def test_seven_days_after_a_long_outage_still_means_the_last_seven_days_of_backups():
    history = nightly(30, NOW - timedelta(days=90))
    assert len(plan(RetentionPolicy(keep_within="7d"), history).keep) == 8
    assert len(plan(RetentionPolicy(keep_within="1h", min_keep=3), history).keep) == 3


@pytest.mark.fault("Z07")
def test_two_backups_of_the_same_second_are_counted_as_two():
    history = [at("2026-11-01T00:00Z", random) for random in ("aaaaaa", "bbbbbb", "cccccc")]
    assert plan(RetentionPolicy(keep_last=2), history).drop == (history[0],)


@pytest.mark.fault("Z01", "Z02")
def test_after_a_clock_that_jumped_back_every_backup_still_counts():
    history = [at("1970-01-02T00:00Z"), *nightly(3)]
    assert plan(RetentionPolicy(keep_last=3), history).drop == (history[0],)


def test_an_empty_history_is_an_empty_plan():
    assert plan(RetentionPolicy(keep_last=1), []) == Plan({}, ())


# --- refusals ---

KEEP_ONE = RetentionPolicy(keep_last=1)


@pytest.mark.law(4)
@pytest.mark.fault("D11")
def test_one_damaged_record_stops_all_deletion():
    with pytest.raises(RetentionRefused, match="cannot be believed") as refused:
        plan(KEEP_ONE, nightly(5), damaged=["shop/\x1b[2J.json"])
    assert "\x1b" not in str(refused.value)


@pytest.mark.law(4)
@pytest.mark.fault("Z02")
def test_a_record_from_the_future_stops_all_deletion():
    with pytest.raises(RetentionRefused, match="from the future"):
        plan(KEEP_ONE, [at("2043-01-01T00:00Z"), *nightly(5)])
    with pytest.raises(RetentionRefused, match="from the future"):
        plan(KEEP_ONE, nightly(5), NOW - timedelta(seconds=1))


@pytest.mark.fault("Z02")
def test_a_clock_that_differs_from_the_destination_stops_all_deletion():
    plan(KEEP_ONE, nightly(5), destination_clock=NOW - timedelta(minutes=5))
    with pytest.raises(RetentionRefused, match="clocks"):
        plan(KEEP_ONE, nightly(5), datetime(2043, 1, 1, tzinfo=UTC), destination_clock=NOW)


@pytest.mark.fault("Z05")
def test_a_time_without_zone_stops_all_deletion():
    with pytest.raises(RetentionRefused, match="time zone"):
        plan(KEEP_ONE, nightly(5), NOW.replace(tzinfo=None))
    with pytest.raises(RetentionRefused, match="time zone"):
        plan(KEEP_ONE, nightly(5), destination_clock=NOW.replace(tzinfo=None))


@pytest.mark.fault("Z05")
def test_now_may_be_given_in_any_zone():
    there = NOW.astimezone(timezone(timedelta(hours=-11)))
    assert plan(KEEP_ONE, nightly(5), there) == plan(KEEP_ONE, nightly(5))


def test_types_are_never_counted_together():
    with pytest.raises(RetentionRefused, match="types"):
        plan(KEEP_ONE, [*nightly(2), BackupId(NOW, "database", "000000")])


@pytest.mark.fault("Z11")
def test_more_deletions_than_allowed_are_refused_unless_allowed():
    refuse_more_than(10, len(plan(KEEP_ONE, nightly(11)).drop), "shop")
    too_many = len(plan(KEEP_ONE, nightly(12)).drop)
    with pytest.raises(RetentionRefused, match="11 backups at once"):
        refuse_more_than(10, too_many, "shop")
    refuse_more_than(11, too_many, "shop")


# --- policies ---


@pytest.mark.fault("Z10")
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"keep_last": 0},
        {"min_keep": 5},
        {"keep_last": -1},
        {"keep_last": 1, "min_keep": 0},
        {"keep_last": True},
        {"keep_last": "7"},
        {"keep_last": 1.5},
        {"keep_lsat": 7},
        {"keep_last": 1, "keep_daily": -2},
        {"keep_within": 7},
        {"keep_within": "7"},
        {"keep_within": "7 days"},
        {"keep_within": "-P7D"},
        {"keep_within": "0d"},
        {"keep_within": "999999d"},
        {"keep_within": timedelta(-1)},
        {"keep_last": 1, "timezone": "Mars/Olympus"},
        {"keep_last": 1, "timezone": "Europe"},
        {"keep_last": 1, "timezone": "../../etc/passwd"},
        {"keep_last": 1, "timezone": ""},
        {"keep_last": 1, "timezone": "UTC\x00"},
    ],
    ids=str,
)
def test_a_policy_that_keeps_nothing_or_makes_no_sense_cannot_be_made(fields):
    with pytest.raises(ConfigError):
        RetentionPolicy(**fields)


@pytest.mark.fault("Z10")
def test_the_message_names_the_mistyped_field():
    with pytest.raises(ConfigError, match="keep_lsat"):
        RetentionPolicy.model_validate({"keep_lsat": 7})


@pytest.mark.parametrize(
    ("text", "days"), [("36h", 1.5), ("7d", 7), ("2w", 14), ("P7D", 7), ("PT36H", 1.5), (timedelta(1), 1)]
)
def test_keep_within_is_read_from_text(text, days):
    assert RetentionPolicy(keep_within=text).keep_within == timedelta(days=days)


@given(policies)
def test_a_policy_survives_being_a_parameter(fields):
    policy = RetentionPolicy(**fields)
    assert RetentionPolicy.model_validate_json(policy.model_dump_json()) == policy
    assert RetentionPolicy.model_validate(policy.model_dump(mode="json")) == policy


# --- what no newer backup replaces, and listings that shrink ---


def held(history: list[BackupId], names: list[str]) -> dict[BackupId, frozenset[str]]:
    return {found: frozenset(names[number % len(names)]) for number, found in enumerate(sorted(history))}


@pytest.mark.law(4)
@given(policies, histories, st.lists(st.sampled_from(["a", "b", "ab", "abc"]), min_size=1, max_size=5))
def test_what_goes_is_whole_in_a_newer_backup_that_stays(fields, history, names):
    sources = held(history, names)
    result = plan(RetentionPolicy(**fields), history, sources=sources)
    for dropped in result.drop:
        assert any(kept > dropped and sources[dropped] <= sources[kept] for kept in result.keep)
    assert result.keep.keys() >= plan(RetentionPolicy(**fields), history).keep.keys()


@pytest.mark.law(4)
@pytest.mark.fault("T13")
@given(policies, histories, st.data())
def test_a_listing_that_lost_what_the_policy_keeps_is_refused_and_what_retention_deleted_is_not_missed(
    fields, history, data
):
    policy = RetentionPolicy(**fields)
    whole = plan(policy, history)
    assert plan(policy, [*whole.keep], seen=whole.keep).drop == ()
    assert plan(policy, [*whole.keep], seen=history).drop == ()
    if whole.keep:
        lost = data.draw(st.sampled_from(sorted(whole.keep)))
        left = [found for found in whole.keep if found != lost]
        with pytest.raises(RetentionRefused, match=f"not listed any more: {lost}"):
            plan(policy, left, seen=whole.keep)


@pytest.mark.law(4)
@pytest.mark.fault("T13")
def test_of_a_history_cut_at_a_thousand_there_is_no_plan():
    year = [BackupId(NOW - timedelta(hours=hour), "full", "000000") for hour in range(1500)]
    policy = RetentionPolicy(keep_last=1400)
    with pytest.raises(RetentionRefused, match="500 backups that were there"):
        plan(policy, sorted(year)[:1000], seen=year)
