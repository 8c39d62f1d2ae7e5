"""Schedules that were made in Prefect's UI as an interval, as an RRule or as ``@daily``: watched like all others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

from deployments.absence import bring_up_to_date, missed_name
from deployments.automations import all_known
from deployments.checks.apps import Inventory
from deployments.checks.schedules import schedules as examine
from deployments.schedules import change, remove
from tasks.schedules import FLOW, one
from tasks.times import Kept
from tasks.watch import look
from tests.flows.conftest import Sample

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
KINDS: dict[str, tuple[Kept, timedelta]] = {
    "interval": (IntervalSchedule(interval=timedelta(hours=6), anchor_date=NOW + timedelta(minutes=7)), DAY / 4),
    "rrule": (RRuleSchedule(rrule="DTSTART:20260101T020000\nRRULE:FREQ=WEEKLY;BYDAY=MO,WE,FR"), 3 * DAY),
    "alias": (CronSchedule(cron="@daily", timezone="Europe/Paris"), DAY),
    "both": (CronSchedule(cron="0 3 1-7 * 6", timezone="UTC", day_or=False), 35 * DAY),  # each first Saturday
}


@pytest.fixture
def made(sample: Sample, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a schedule as Prefect's UI makes it."""
    kept: Kept = request.param
    with get_client(sync_client=True) as client:
        flow = client.create_flow_from_name(FLOW)
        times = [DeploymentScheduleCreate(schedule=kept, active=True)]
        client.create_deployment(flow, sample.name, parameters={"app": sample.name}, schedules=times)
    yield sample.name
    remove(sample.name)


@pytest.mark.law(12)
@pytest.mark.parametrize(
    ("made", "period"),
    [
        pytest.param(*pair, id=name, marks=[] if name in ("alias", "rrule") else pytest.mark.slow)
        for name, pair in KINDS.items()
    ],
    indirect=["made"],
)
def test_whatever_prefect_counts_out_is_waited_for_and_watched(made: str, period: timedelta) -> None:
    schedule = one(made)
    assert schedule.period(NOW) == period
    bring_up_to_date()
    assert missed_name(made) in all_known()
    with get_client(sync_client=True) as client:
        (waiting,) = client.read_automations_by_name(missed_name(made))
    assert waiting.trigger.triggers[0].within == period + schedule.grace()
    later = NOW + 2 * period + schedule.grace()
    due = schedule.due(later)
    assert due is not None
    assert timedelta(0) < later - due <= period
    (watched,) = [found for found in look(later + schedule.grace()) if found.schedule == made]
    assert watched.problem.startswith("no valid backup is there: one was due at")
    assert not [found for found in examine(Inventory.read(), NOW) if made in found.what]
    before = str(schedule.when[0])
    change(schedule)
    assert str(one(made).when[0]) == before, "nothing of it is lost when it is written again"


@pytest.mark.parametrize(
    "made", [RRuleSchedule(rrule="DTSTART:20260101T020000\nRRULE:FREQ=DAILY;COUNT=3")], indirect=True
)
def test_a_schedule_that_has_come_to_its_end_is_found_by_the_doctor(made: str) -> None:
    assert one(made).period(NOW) is None
    (found,) = [found for found in examine(Inventory.read(), NOW) if made in found.what]
    assert found.level == "wrong"
    assert "comes to an end" in found.what
