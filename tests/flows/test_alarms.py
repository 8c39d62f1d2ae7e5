"""Who is told of what, by a real Prefect server and a real mail server."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from prefect import flow_engine
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.events import emit_event
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.events.schemas.events import Event
from prefect.states import Cancelled, Completed, Crashed, Failed, Pending, Running, State

from blocks import App, Mailer
from blocks.destinations.local_upload import LocalUpload
from cli.api import free_port
from deployments import schedules
from deployments.absence import bring_up_to_date, expect_backups, expect_none, missed_name
from deployments.automations import MAILS, MISSED, all_known, forget, mail_failures, mail_name
from deployments.checks.apps import Inventory
from deployments.checks.schedules import schedules as examine
from flows.backup import backup
from flows.report import BackupFailed
from flows.watch import Overdue, watch
from tasks.events import HELD
from tasks.schedules import Schedule, When, one
from tests.flows.conftest import Sample
from tests.peers.prefect_worker import until
from tests.peers.smtp import MailServer, mail_server
from vault.errors import BackupError, NoSpace
from vault.spool import Segment
from vault.units import human

POOL = "backups-tests"


def saved_mailer(name: str, port: int) -> UUID:
    """One that waits for a second only, where there is too much or an error."""
    who = {"sender": "b@example.org", "recipients": ["ops@example.org"]}
    mailer = Mailer.model_validate({"host": "127.0.0.1", "port": port, "security": "none", "pause": 1, **who})
    return cast("UUID", mailer.save(name, overwrite=True))


def until_mailed(inbox: MailServer) -> None:
    """Until the server knows the automations that were made: it takes them in a moment after it has said so."""
    key = uuid4().hex
    until(
        lambda: emit_event(HELD, {"prefect.resource.id": key}, payload={"subject": key, "text": ""}) and inbox.has(key)
    )


@pytest.fixture(scope="module")
def inbox(prefect_api: object) -> Iterator[MailServer]:
    """Where all mails of this module go."""
    with mail_server() as server:
        mail_failures("alarms", saved_mailer("alarms", server.port))
        until_mailed(server)
        yield server
        forget("alarms")
        Block.delete("backup-mailer/alarms")


@pytest.fixture
def schedule(sample: Sample) -> Iterator[Schedule]:
    """Each minute, if there were a worker."""
    schedules.add(Schedule(sample.name, (When("* * * * *"),), {"app": sample.name}), POOL)
    yield one(sample.name)
    schedules.remove(sample.name)


def run_of(schedule: Schedule) -> Any:
    """The result of a run of *schedule*, in this process."""
    assert schedule.id is not None
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(schedule.id)
    return flow_engine.run_flow(backup, flow_run=run, parameters=schedule.parameters)


def a_run(name: str, *states: State) -> FlowRun:
    """A run of the backup flow that has gone through *states*."""
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(backup, name=name, parameters={"app": name}, state=Pending())
        for state in states:
            client.set_flow_run_state(run.id, state, force=True)
    return run


def waited_for() -> list[str]:
    return [name.removeprefix(MISSED).removesuffix(" in time") for name in all_known() if name.startswith(MISSED)]


@pytest.mark.fault("M04", "M05")
def test_whatever_ends_a_run_but_success_is_mailed_and_what_never_began_is_not(inbox: MailServer) -> None:
    name = f"ended-{uuid4().hex[:8]}"
    a_run(name, Cancelled(message="late"))
    a_run(name, Running(), Completed())
    ends = {
        "failed": Failed(message="the reason of failed" + "x" * 3_000_000),
        "crashed": Crashed(message="the reason of crashed"),
        "timedout": Failed(name="TimedOut", message="the reason of timedout"),
        "cancelled": Cancelled(message="the reason of cancelled"),
    }
    for state in ends.values():
        a_run(name, Running(), state)
    for end in ends:
        mail = inbox.find(f"backup {end}: {name}", f"the reason of {end}")
        assert "Flow run: " in mail.get_content()
    about = [mail["Subject"] for mail in inbox.mails() if name in mail["Subject"]]
    assert sorted(about) == sorted(f"backup {end}: {name}" for end in ends)


@pytest.mark.law(12)
@pytest.mark.fault("Z08")
def test_a_schedule_that_leaves_no_backup_in_time_is_mailed_and_the_last_one_named(
    inbox: MailServer, schedule: Schedule
) -> None:
    assert schedule.period(schedule.since) == timedelta(minutes=1)
    least = timedelta(seconds=10 - 60)  # ten seconds are the least that Prefect waits
    never = replace(schedule, name=f"{schedule.name}-never", id=uuid4())
    expect_backups(never, grace=least)
    expect_backups(schedule, grace=least)
    result = run_of(schedule)
    last = f"The last one is {result.id} at {schedule.name}-backups."
    inbox.find(f"no backup by {schedule.name} in time", last, seconds=180)
    inbox.find(f"no backup by {never.name} in time", "There was none since", seconds=180)
    expect_none(never.name)


def test_what_is_waited_for_follows_the_schedules_and_what_is_as_it_should_be_is_left_alone(
    inbox: MailServer, schedule: Schedule
) -> None:
    assert schedule.name in waited_for()
    before = all_known()
    bring_up_to_date()
    assert {mail_name("alarms", kind) for kind in MAILS} <= set(before)
    assert all_known().items() >= before.items()
    with get_client(sync_client=True) as client:
        (waiting,) = client.read_automations_by_name(missed_name(schedule.name))
        bring_up_to_date()
        assert client.read_automations_by_name(missed_name(schedule.name)) == [waiting], "what it has counted is kept"
        schedules.change(replace(schedule, when=(When("0 2 * * 1-5"),), grace_hours=7.5))
        (weekdays,) = client.read_automations_by_name(missed_name(schedule.name))
        assert weekdays.trigger.triggers[0].within == timedelta(days=3, hours=7.5), "over the weekend"
        assert client.read_deployment(schedule.id).id == schedule.id
        # In Prefect's UI: another name, a pause, and one that is gone.
        client.pause_deployment(schedule.id)
        bring_up_to_date()
        assert schedule.name not in waited_for()
        client.resume_deployment(schedule.id)
        bring_up_to_date()
        assert schedule.name in waited_for()
    schedules.pause(schedule.name, paused=True)
    assert schedule.name not in waited_for()
    schedules.pause(schedule.name, paused=False)
    assert schedule.name in waited_for()
    expect_backups(replace(schedule, name=f"{schedule.name}-gone"))
    mail_failures("gone", Mailer.load("alarms")._block_document_id or uuid4())
    bring_up_to_date()
    assert f"{schedule.name}-gone" not in waited_for()
    assert mail_name("gone") not in all_known()


def test_a_backup_that_works_again_is_mailed_once(inbox: MailServer, sample: Sample, schedule: Schedule) -> None:
    run_of(schedule)
    shutil.move(sample.files, sample.root / "away")
    with pytest.raises(BackupError):
        run_of(schedule)
    shutil.move(sample.root / "away", sample.files)
    result = run_of(schedule)
    mail = inbox.find(f"backup works again: {sample.name}", result.id)
    assert "The run before it ended as Failed" in mail.get_content()
    assert str(sample.files) in mail.get_content(), "what it was"
    run_of(schedule)
    gone = sample.add_destination("gone")
    shutil.rmtree(sample.root / "gone")
    with pytest.raises(BackupFailed):
        backup(app=sample.name, destinations=[f"local-destination/{sample.name}-backups", gone])
    inbox.find(f"backup failed: {sample.name}", f"committed at {sample.name}-backups; failed at {sample.name}-gone")
    backup(app=sample.name, type="full")
    again = backup(app=sample.name)
    inbox.find(f"backup works again: {sample.name}", again.id)
    told = [mail for mail in inbox.mails() if mail["Subject"] == f"backup works again: {sample.name}"]
    assert len({mail.get_content() for mail in told}) == 2


def test_a_failure_says_in_which_step_and_each_line_in_its_order(
    inbox: MailServer, sample: Sample, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A destination that is full while it is written to, and a tool that says several lines before it fails."""
    full, gone = sample.add_destination("full"), sample.add_destination("gone")
    real = LocalUpload.append

    def fail(self: LocalUpload, segment: Segment) -> None:
        if f"{sample.name}-files" in self._what and "/full" in self._what:
            raise NoSpace("the disk is full\nzzz: first\naaa: second", "Free space there.")
        real(self, segment)

    monkeypatch.setattr(LocalUpload, "append", fail)
    shutil.rmtree(sample.root / "gone")
    with pytest.raises(BackupFailed):
        backup(app=sample.name, destinations=[full, gone])
    text = inbox.find(f"backup failed: {sample.name}", "the disk is full").get_content().replace("\r\n", "\n")
    step = f"Step: upload {sample.name}-files to {sample.name}-full"
    assert f"At {sample.name}-full:\nzzz: first\naaa: second\n{step}\nFree space there." in text
    assert f"At {sample.name}-gone:\nStep: preflight\n" in text
    shutil.move(sample.files, sample.root / "away")
    with pytest.raises(BackupError):
        run_of(schedule)
    inbox.find(f"backup failed: {sample.name}", "Step: preflight")


def test_a_retention_that_is_held_is_mailed_and_the_backup_is_good(inbox: MailServer, sample: Sample) -> None:
    backup(app=sample.name)
    (record,) = (sample.root / "backups" / sample.name).glob("*.json")
    record.write_text(record.read_text().replace(sample.name, "another"))
    result = backup(app=sample.name, keep={"keep_last": 1})
    mail = inbox.find(f"retention held at {sample.name}-backups: {sample.name}", result.id)
    assert "itself is good" in mail.get_content()


@pytest.mark.fault("S14")
def test_a_backup_that_is_suspiciously_small_is_mailed_though_there_is_no_policy(
    inbox: MailServer, sample: Sample, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.watch.schedules", lambda late: [schedule])
    run_of(schedule)
    (sample.files / "a.bin").unlink()
    result = run_of(schedule)
    mail = inbox.find(f"backup suspiciously small: {sample.name}", result.id).get_content()
    assert f"{sample.name}-files in {result.id} has " in mail
    assert f"at {sample.name}-backups" in mail
    assert f"backups confirm {result.id}" in mail
    with pytest.raises(Overdue):
        watch(report=True)
    weekly = inbox.find("Backups of 1 app: 1 not as they should be", result.id).get_content()
    assert f"PROBLEM at {sample.name}-backups: {sample.name}-files in {result.id} has " in weekly
    assert watch(), "each day only what is missing is told"


@pytest.mark.law(12)
def test_a_schedule_that_is_paused_is_told_each_week_and_by_the_doctor_though_another_runs(
    inbox: MailServer, sample: Sample, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{sample.name}-hourly"
    schedules.add(Schedule(name, (When("0 * * * *"), When("30 * * * *")), {"app": sample.name}), POOL)
    monkeypatch.setattr("tasks.watch.schedules", lambda late: [one(schedule.name), one(name)])
    run_of(schedule)
    try:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment(one(name).id)
            part = next(part for part in deployment.schedules if part.schedule.cron == "30 * * * *")  # type: ignore[union-attr]
            client.update_deployment_schedule(deployment.id, part.id, active=False)
        half = one(name)
        assert half.period(datetime.now(UTC)) == timedelta(hours=1)
        assert half.paused.startswith(f"Schedule {name} of app {sample.name} does not run at 30 * * * * UTC, since 2")
        schedules.pause(name, paused=True)
        said = f"Schedule {name} of app {sample.name} is paused, since {datetime.now(UTC):%Y-%m-%d}"
        watch(report=True)
        assert said in inbox.find("all as they should be, 1 schedule paused", name).get_content()
        (found,) = [one for one in examine(Inventory.read(), datetime.now(UTC)) if name in one.what]
        assert (found.level, found.what[: len(said)]) == ("warning", said)
        assert f"backups schedule resume {name}" in found.remedy
        schedules.pause(name, paused=False)
        with get_client(sync_client=True) as client:
            client.pause_deployment(deployment.id)
        assert "since when Prefect does not say" in one(name).paused
    finally:
        schedules.remove(name)


@pytest.mark.law(12)
@pytest.mark.fault("M03")
def test_a_mail_says_how_each_app_is_also_when_all_is_well(
    inbox: MailServer, sample: Sample, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.watch.schedules", lambda late: [schedule])  # whatever else there may be
    app = App.load(sample.name)
    app.destinations = [*app.destinations, sample.add_destination("other")]
    app.save(sample.name, overwrite=True)
    App(sources=app.sources, destinations=app.destinations).save(f"{sample.name}-never")
    result = run_of(schedule)
    watch(report=True)
    text = inbox.find("Backups of 1 app: all as they should be", result.id).get_content()
    size, where = human(result.record.size), f"{sample.name}-backups (read-back), {sample.name}-other (read-back)"
    line = rf"^{sample.name}: {result.id}, \d+ min old, {size}, at {re.escape(where)}\r?$"
    assert re.search(line, text, re.MULTILINE)
    assert f"{sample.name}-never" in text.partition("Without an active schedule: ")[2]
    shutil.rmtree(sample.root / "other")
    newer = backup(app=sample.name, destinations=[f"local-destination/{sample.name}-backups"])
    with pytest.raises(Overdue):
        watch(report=True)
    text = inbox.find("Backups of 1 app: 1 not as they should be", newer.id).get_content()
    assert f"at {sample.name}-backups (read-back); PROBLEM at {sample.name}-other: " in text


@pytest.mark.fault("M01")
def test_a_mail_server_that_is_down_changes_nothing_of_the_run_is_seen_and_gets_the_mail_later(
    inbox: MailServer,
) -> None:
    name, port = f"down-{uuid4().hex[:8]}", free_port()
    mail_failures("down", saved_mailer("down", port))
    try:
        until_mailed(inbox)
        run = a_run(name, Running(), Failed(message="the reason"))
        inbox.find(f"backup failed: {name}")
        with get_client(sync_client=True) as client:

            def failures() -> list[Event]:
                own = EventResourceFilter(labels={"prefect.resource.name": mail_name("down")})
                wanted = EventFilter(event=EventNameFilter(name=["prefect.automation.action.failed"]), resource=own)
                return client.read_events(wanted, limit=50).events

            until(failures)
            (event,) = failures()
            after = client.read_flow_run(run.id)
        assert f"127.0.0.1:{port} cannot be reached: Connection refused" in event.payload["notification_log"]
        assert after.state is not None
        assert (after.state.name, after.state.message) == ("Failed", "the reason")
        with mail_server(port=port) as back:
            back.find(f"backup failed: {name}", "the reason", seconds=180)
    finally:
        forget("down")
        Block.delete("backup-mailer/down")
