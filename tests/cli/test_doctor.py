"""``backups doctor``: a healthy installation is said to be so; what is wrong is found, each with its remedy."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import BlockDocumentUpdate, DeploymentUpdate, WorkPoolUpdate
from prefect.events import emit_event
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore
from prefect.events.worker import EventsWorker

from blocks import App, Directory, LocalDestination, LocalServer, Mailer, SftpDestination
from deployments import automations, register
from deployments import schedules as made
from deployments.absence import bring_up_to_date, missed_name
from deployments.checks import apps, doors, examine, machine, mail, schedules, server, work
from deployments.checks.apps import Inventory
from deployments.checks.finding import Finding, run
from tasks.schedules import Schedule, When
from tests.cli.conftest import Command
from tests.cli.test_encryption import Home
from tests.flows.test_schedules import planned
from tests.peers.network import cable
from tests.peers.odd_sftp import Oddities, put
from tests.peers.odd_sftp import command as odd_command
from tests.peers.prefect_server import prefect_server
from tests.peers.smtp import mail_server
from tests.peers.sshd import running_sshd

POOL = "backups"
AUTH = "admin:canary-auth"
NIGHTLY = (When("30 2 * * *", "Europe/Paris"),)
Findings = Callable[[], Iterator[Finding]]


@contextmanager
def at(url: str, **settings: Any) -> Iterator[None]:
    """Within, Prefect's client in this process, and in its threads, talks to *url*."""
    import prefect.context
    from prefect import settings as known

    values = {known.PREFECT_API_URL: url, **{getattr(known, name): value for name, value in settings.items()}}
    with known.temporary_settings(values), pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefect.context, "GLOBAL_SETTINGS_CONTEXT", prefect.context.get_settings_context())
        yield


@pytest.fixture(scope="module")
def place(prefect_api: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A healthy installation: what `backups up` registers, an app with a schedule, somebody who gets mail."""
    place = tmp_path_factory.mktemp("doctor")
    # There is one sender of events in a process, and it stays with the first API that it has one for.
    emit_event("backups.tests.begin", {"prefect.resource.id": "backups.tests"})
    EventsWorker.instance().wait_until_empty()
    (place / "data").mkdir()
    (place / "data/file").write_text("content")
    with (
        pytest.MonkeyPatch.context() as patch,
        prefect_server(place / "server") as url,
        at(url),
        mail_server() as inbox,
    ):
        patch.setenv("PREFECT_HOME", str(place / "home"))
        patch.setenv("BACKUPS_WORK_DIR", str(place / "work"))
        register.register_all(POOL)
        whom = {"sender": "backups@example.org", "recipients": ["ops@example.org"]}
        ops = Mailer(host="127.0.0.1", port=inbox.port, security="none", **whom)  # type: ignore[arg-type]
        automations.mail_failures("ops", cast("Any", ops.save("ops")))
        Directory(path=place / "data").save("shop-data")
        disk = LocalDestination(root=place / "disk")
        disk.prepare()
        disk.save("disk")
        App(sources=["directory/shop-data"], destinations=["local-destination/disk"]).save("shop")
        made.add(Schedule("nightly", NIGHTLY, {"app": "shop"}), POOL)
        with client() as prefect:
            prefect.send_worker_heartbeat(POOL, "worker", heartbeat_interval_seconds=3600)
        yield place


def client() -> SyncPrefectClient:
    return get_client(sync_client=True)


def test_of_a_healthy_installation_everything_is_ok(command: Command, place: Path) -> None:
    command("keys", "show")
    while not planned(place / "server/prefect.db"):
        threading.Event().wait(0.1)
    found = command("doctor", "--json").json
    assert [one for one in found if one["level"] != "ok"] == []
    checks = {one["check"] for one in found}
    assert {"server", "access", "worker", "mail", "scheduler", "destination disk", "source shop-data"} <= checks
    assert {path.name for path in (place / "disk").iterdir()} == {".prefect-backups.json"}
    with client() as prefect:
        assert not prefect.read_automations_by_name(mail.PROBE)


def test_a_pool_that_streams_is_put_right_when_it_is_registered_and_else_left_alone(place: Path) -> None:
    with pool(base_job_template=streaming()), client() as prefect:
        template = streaming()
        template["variables"]["properties"]["working_dir"]["default"] = "/srv"
        prefect.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))
        register.register_pool(POOL)
        properties = prefect.read_work_pool(POOL).base_job_template["variables"]["properties"]
        assert properties["stream_output"]["default"] is False
        assert properties["working_dir"]["default"] == "/srv"


# -- one thing at a time that is wrong, and in order again afterwards


def changed_deployment(name: str, **changes: Any) -> None:
    with client() as prefect:
        prefect.update_deployment(prefect.read_deployment_by_name(name).id, DeploymentUpdate(**changes))


@contextmanager
def deployment(**changes: Any) -> Iterator[None]:
    changed_deployment("copy/on-demand", **changes)
    try:
        yield
    finally:
        register.register_deployments(POOL)


@contextmanager
def no_deployment() -> Iterator[None]:
    with client() as prefect:
        prefect.delete_deployment(prefect.read_deployment_by_name("copy/on-demand").id)
    try:
        yield
    finally:
        register.register_deployments(POOL)


@contextmanager
def pool(**changes: Any) -> Iterator[None]:
    with client() as prefect:
        before = prefect.read_work_pool(POOL)
        prefect.update_work_pool(POOL, WorkPoolUpdate(**changes))
        try:
            yield
        finally:
            template = before.base_job_template
            prefect.update_work_pool(POOL, WorkPoolUpdate(is_paused=False, base_job_template=template))


def streaming() -> dict[str, Any]:
    from prefect.workers.process import ProcessWorker

    return ProcessWorker.get_default_base_job_template()  # type: ignore[no-any-return]


@contextmanager
def idle_pool() -> Iterator[None]:
    register.register_pool("idle")
    try:
        yield
    finally:
        with client() as prefect:
            prefect.delete_work_pool("idle")


@contextmanager
def automation(name: str, on: bool | None) -> Iterator[None]:
    """One that is off, or, with None, not there."""
    with client() as prefect:
        (found,) = prefect.read_automations_by_name(name)
        if on is None:
            prefect.delete_automation(found.id)
        else:
            prefect.pause_automation(found.id)
    try:
        yield
    finally:
        if on is not None:
            with client() as prefect:
                prefect.resume_automation(found.id)
        bring_up_to_date()


@contextmanager
def not_looking() -> Iterator[None]:
    with client() as prefect:
        found = prefect.read_deployment_by_name("watch/daily")
        prefect.pause_deployment(found.id)
        try:
            yield
        finally:
            prefect.resume_deployment(found.id)


@contextmanager
def nobody_told() -> Iterator[None]:
    mailer = cast("Mailer", Mailer.load("ops"))
    automations.forget("ops")
    Mailer.delete("ops")
    try:
        yield
    finally:
        automations.mail_failures("ops", cast("Any", mailer.save("ops")))


@contextmanager
def block(block: Any, name: str) -> Iterator[None]:
    block.save(name)
    try:
        yield
    finally:
        block.delete(name)


@contextmanager
def schedule(**parameters: Any) -> Iterator[None]:
    made.add(Schedule("lost", NIGHTLY, parameters), POOL)
    try:
        yield
    finally:
        made.remove("lost")


@contextmanager
def field(kind: str, name: str, **changes: Any) -> Iterator[None]:
    """Other fields in a saved block: as Prefect's UI saves them, which does not look at them."""
    with client() as prefect:
        found = prefect.read_block_document_by_name(name, kind)
        prefect.update_block_document(found.id, BlockDocumentUpdate(data={**found.data, **changes}))
        try:
            yield
        finally:
            prefect.update_block_document(found.id, BlockDocumentUpdate(data=found.data))


def of_inventory(check: Callable[[Inventory], Iterator[Finding]]) -> Iterator[Finding]:
    yield from check(Inventory.read())


def now() -> datetime:
    return datetime.now(UTC)


POOLS: Findings = partial(work.pools, POOL)
APPS: Findings = partial(of_inventory, apps.apps)
TOLD: Findings = partial(of_inventory, mail.notifications)
SAVED: Findings = partial(of_inventory, apps.saved_things)
SCHEDULES: Findings = partial(of_inventory, lambda inventory: schedules.schedules(inventory, now()))
BEAT = {"env": {register.HEARTBEAT: "60"}}
Case = tuple[Callable[[], AbstractContextManager[object]], Findings, str, str]
WRONG: dict[str, Case] = {
    "a pool that is not there": (nullcontext, partial(work.pools, "none"), "wrong", "there is no work pool none"),
    "a pool that is paused": (partial(pool, is_paused=True), POOLS, "wrong", "backups is paused"),
    "a pool that streams": (lambda: pool(base_job_template=streaming()), POOLS, "warning", "stream_output"),
    "no worker": (idle_pool, partial(work.pools, "idle"), "wrong", "no worker takes the runs of pool idle"),
    "a deployment that is missing": (no_deployment, work.deployments, "wrong", "copy/on-demand is missing"),
    "a deployment whose file is gone": (
        partial(deployment, entrypoint="flows/gone.py:copy_backup"),
        work.deployments,
        "wrong",
        "flows/gone.py, which does not exist",
    ),
    "a deployment without heartbeats": (
        partial(deployment, job_variables={}),
        work.deployments,
        "warning",
        "stays Running for ever",
    ),
    "a deployment that streams": (
        partial(deployment, job_variables={**BEAT, "stream_output": True}),
        work.deployments,
        "warning",
        "streams its output",
    ),
    "a deployment of another version": (
        partial(deployment, parameter_openapi_schema={"type": "object", "properties": {"id": {"type": "string"}}}),
        work.deployments,
        "warning",
        "registered by another version (differs: backup, destinations, id, origin, trust)",
    ),
    "nobody who looks each day": (not_looking, work.deployments, "wrong", "watch/daily is switched off"),
    "nobody who is told": (nobody_told, TOLD, "wrong", "nobody is told when a backup fails"),
    "an automation that is off": (
        partial(automation, automations.mail_name("ops"), False),
        TOLD,
        "wrong",
        "'backups: mail ops when a run fails' is off",
    ),
    "an automation that is missing": (
        partial(automation, automations.LOST_NAME, None),
        TOLD,
        "wrong",
        "'backups: a run whose process is gone has crashed' is missing",
    ),
    "a schedule that nobody waits for": (
        partial(automation, missed_name("nightly"), None),
        TOLD,
        "wrong",
        "'backups: no backup by nightly in time' is missing",
    ),
    "a schedule whose app is gone": (
        partial(schedule, app="gone", destinations=["local-destination/disk"]),
        SCHEDULES,
        "wrong",
        "schedule lost: there is no app gone",
    ),
    "a schedule whose destination is gone": (
        partial(schedule, app="shop", destinations=["local-destination/gone"]),
        SCHEDULES,
        "wrong",
        "schedule lost names local-destination/gone, which is not saved",
    ),
    "an app whose source is gone": (
        lambda: field("backup-app", "shop", sources=["directory/gone"]),
        APPS,
        "wrong",
        "app shop names directory/gone, which is not saved",
    ),
    "an app without a schedule": (
        lambda: block(App(sources=["directory/shop-data"], destinations=["local-destination/disk"]), "blog"),
        APPS,
        "warning",
        "app blog has no schedule",
    ),
    "a block that does not fit": (
        lambda: field("directory", "shop-data", path="not/absolute"),
        SAVED,
        "wrong",
        "block directory/shop-data does not fit: path",
    ),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_found_with_what_to_do_and_only_while_it_is(place: Path, case: Case) -> None:
    broken, check, level, said = case
    with broken():
        found = [finding for finding in check() if finding.level == level]
        assert [finding for finding in found if said in finding.what], [*check()]
        assert all(finding.remedy for finding in found)
    if broken is not nullcontext and broken is not idle_pool:
        assert {finding.level for finding in check()} == {"ok"}


def plan_nightly(database: Path, time: datetime) -> None:
    """Have the earliest run of the schedule nightly be planned for *time*."""
    own = "(SELECT r.id FROM flow_run r JOIN deployment d ON d.id = r.deployment_id WHERE r.auto_scheduled"
    first = f"{own} AND d.name = 'nightly' ORDER BY r.expected_start_time LIMIT 1)"
    change = f"UPDATE flow_run SET expected_start_time = ? WHERE id IN {first}"  # noqa: S608
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        while not connection.execute(change, (f"{time:%Y-%m-%d %H:%M:%S.000000}",)).rowcount:
            connection.commit()  # the server has not planned it yet
            threading.Event().wait(0.1)


def test_a_schedule_that_is_overdue_is_found(place: Path) -> None:
    database = place / "server/prefect.db"
    plan_nightly(database, now() - timedelta(hours=1))
    try:
        assert "schedule nightly is overdue since" in said(SCHEDULES, "wrong")
    finally:
        plan_nightly(database, now() + timedelta(hours=1))


def test_where_no_server_runs_schedules_are_not_kept_and_that_is_said(place: Path) -> None:
    found = examine.examine(POOL, served=False, offline=True, more={})
    assert [(one.check, one.level, one.remedy) for one in found[:1]] == [("server", "wrong", "backups up")]
    assert "none of 1 schedules (nightly)" in found[0].what
    assert [one.what for one in found if one.level == "skipped"] == [
        "no source and no destination was reached for (--offline)"
    ]


# -- servers in trouble


@pytest.fixture(scope="module")
def troubled(place: Path) -> Iterator[str]:
    """A server that cannot import our blocks, plans nothing, keeps its history for ever, and asks for a password."""
    (place / "broken").mkdir()
    (place / "broken/sitecustomize.py").write_text("import sys; sys.modules['blocks'] = None  # not installed here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(place / "broken"))
        patch.setenv("PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED", "false")
        patch.setenv("PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED", "events")
        with prefect_server(place / "troubled", {"PREFECT_API_AUTH_STRING": AUTH}, forked=False) as url:
            patch.undo()
            with at(url, PREFECT_API_AUTH_STRING=AUTH):
                register.register_blocks()
                register.register_pool(POOL)
                made.add(Schedule("nightly", NIGHTLY, {"app": "shop"}), POOL)
            yield url


def said(check: Findings, level: str) -> str:
    return "\n".join(finding.what for finding in check() if finding.level == level)


def test_a_server_that_cannot_load_the_block_that_sends_mail_is_found_without_sending_one(troubled: str) -> None:
    with at(troubled, PREFECT_API_AUTH_STRING=AUTH):
        assert "cannot load our blocks, so no mail is ever sent" in said(mail.can_send, "wrong")
        with client() as prefect:
            block = cast("Any", LocalServer().save("no-mailer"))
            action = SendNotification(block_document_id=block, subject="x", body="x")
            trigger = mail.asking("one")
            name = automations.mail_name("ops")
            own = prefect.create_automation(AutomationCore(name=name, trigger=trigger, actions=[action]))
            mail.asked(prefect, "one", own, 60)
        assert "could not do its work, last 'backups: mail ops" in said(mail.undelivered, "warning")


def test_a_server_whose_scheduler_is_dead_is_found(troubled: str) -> None:
    with at(troubled, PREFECT_API_AUTH_STRING=AUTH):
        check = partial(of_inventory, lambda inventory: schedules.scheduler(inventory, now(), timedelta(0)))
        assert "Prefect has planned no run of nightly (1 of 1 active" in said(check, "wrong")
        with client() as prefect:
            found = prefect.read_deployment_by_name("backup/nightly")
            prefect.request("POST", "/deployments/{id}/schedule", path_params={"id": found.id}, json={})
        assert said(check, "ok") == "it has planned the next runs"


def test_a_server_that_keeps_its_history_for_ever_is_found(place: Path, troubled: str) -> None:
    with at(troubled, PREFECT_API_AUTH_STRING=AUTH):
        assert "old runs stay" in said(server.history, "warning")
    assert "is kept for 90 days" in said(server.history, "ok")


def test_a_password_that_is_wrong_here_is_found(command: Command, troubled: str) -> None:
    with at(troubled, PREFECT_API_AUTH_STRING=AUTH):
        assert said(server.access, "ok") == "a password is asked for"
    with at(troubled, PREFECT_API_AUTH_STRING="admin:other"):
        (found,) = examine.examine(POOL, served=True, offline=True, more={})
    assert (found.level, found.check) == ("wrong", "server")
    assert "export PREFECT_API_AUTH_STRING" in found.remedy


class Answer(BaseHTTPRequestHandler):
    """An API that says which version it is, and asks nobody who he is."""

    version = "3.8.8"

    def do_GET(self) -> None:
        body = json.dumps(self.version).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextmanager
def answering(host: str, version: str) -> Iterator[int]:
    """Its port."""
    kind = type("Versioned", (Answer,), {"version": version})
    with ThreadingHTTPServer((host, 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("version", "level", "text"),
    [("2.20.0", "wrong", "do not understand each other"), ("3.0.1", "warning", "older"), ("3.99.0", "ok", "3.99.0")],
)
def test_a_server_of_another_version_is_found(place: Path, version: str, level: str, text: str) -> None:
    with answering("127.0.0.1", version) as port, at(f"http://127.0.0.1:{port}/api"):
        assert text in said(server.version, level)


def test_a_server_that_asks_others_for_no_password_is_found(place: Path) -> None:
    """By whoever is on the way, also from the server's own machine, which reaches it at its loopback."""
    with cable() as net:
        net.there.run("ip", "route", "add", "default", "via", "10.0.0.1")
        with net.there.entered(), answering("0.0.0.0", "3.8.8") as port:  # noqa: S104 - that is what is wrong
            with at(f"http://127.0.0.1:{port}/api"):
                assert f"http://10.0.0.2:{port} asks for no password" in said(server.access, "wrong")
            with net.here.entered(), at(f"http://10.0.0.2:{port}/api"):
                assert f"http://10.0.0.2:{port} asks for no password" in said(server.access, "wrong")
        with net.there.entered(), answering("127.0.0.1", "3.8.8") as port, at(f"http://127.0.0.1:{port}/api"):
            assert "from this machine only" in said(server.access, "ok")


def test_a_server_that_does_not_answer_is_wrong_and_the_machine_is_looked_at_all_the_same(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    found = command("doctor", "--json", code=1).json
    assert [(one["check"], one["level"]) for one in found] == [
        ("server", "wrong"),
        ("work directory", "ok"),
        ("packages", "ok"),
    ]
    assert "does not answer" in command("doctor", code=1).out


# -- doors, and this machine


def of_doors(name: str) -> list[Finding]:
    checks = doors.doors(Inventory.read())
    return run({name: checks[name]})


def test_what_cannot_be_reached_is_found(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.move(place / "disk", place / "elsewhere")
    try:
        (found,) = of_doors("destination disk")
        assert (found.level, bool(found.remedy)) == ("wrong", True)
    finally:
        shutil.move(place / "elsewhere", place / "disk")
    assert [one.level for one in of_doors("destination disk")] == ["ok"]
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = of_doors("source shop-data")
    assert (found.level, "tar" in found.what) == ("wrong", True)


@pytest.mark.fault("Z02")
def test_a_destination_with_another_clock_and_an_app_that_goes_there_in_clear_are_found(
    place: Path, tmp_path: Path
) -> None:
    faults = tmp_path / "faults"
    put(faults, Oddities())
    with running_sshd(sftp=odd_command(faults)) as far:
        key, root = far.key(), f"{far.seen}/doctor"
        door = SftpDestination(
            host=far.host, port=far.port, user=far.user, root=root, host_key=far.host_key, private_key=cast("Any", key)
        )
        door.prepare()
        remote = ["sftp-destination/far"]
        with block(door, "far"), field("backup-app", "shop", destinations=remote):
            assert [one.level for one in of_doors("destination far")] == ["ok"]
            put(faults, Oddities(clock=-3600))
            (found,) = of_doors("destination far")
            assert (found.level, "differ by 60 minutes" in found.what) == ("wrong", True)
            assert said(APPS, "warning") == "app shop goes to far without encryption"


def test_a_signing_key_that_nobody_was_shown_is_found(command: Command, place: Path) -> None:
    from cli.doctor import _signing_key
    from cli.keys import shown_file

    command("keys", "show")
    assert [finding.level for finding in _signing_key()] == ["ok"]
    shown_file().unlink()
    (found,) = _signing_key()
    assert (found.level, found.remedy[:17]) == ("warning", "backups keys show")


def test_a_key_that_lies_beside_what_it_encrypts_is_found(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cli.doctor import _key_of_blocks

    shutil.copytree(place / "server", tmp_path / "home", ignore=shutil.ignore_patterns("prefect.db*"))
    with (  # its server goes on writing
        closing(sqlite3.connect(place / "server/prefect.db", timeout=30)) as live,
        closing(sqlite3.connect(tmp_path / "home/prefect.db")) as copy,
    ):
        live.backup(copy)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    assert [finding.level for finding in _key_of_blocks()] == ["ok"]
    Home(tmp_path / "home").keep_key_in_database()
    (found,) = _key_of_blocks()
    assert (found.level, found.remedy[:19]) == ("warning", "backups keys rotate")


def test_a_work_directory_without_room_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKUPS_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.setenv("BACKUPS_SPOOL_LIMIT", str(10**18))
    assert "dumps wait" in said(machine.work_directory, "warning")
    monkeypatch.delenv("BACKUPS_SPOOL_LIMIT")
    (tmp_path / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path / "small"], check=True)
    try:
        monkeypatch.setenv("BACKUPS_WORK_DIR", str(tmp_path / "small/work"))
        assert "too little for a run" in said(machine.work_directory, "wrong")
    finally:
        subprocess.run(["umount", tmp_path / "small"], check=True)


def test_a_package_that_this_project_does_not_work_with_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "sqlalchemy-2.1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: SQLAlchemy\nVersion: 2.1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "sqlalchemy 2.1.0 is installed" in said(machine.packages, "wrong")


def test_a_check_that_fails_is_itself_a_finding_and_ends_no_other() -> None:
    def fails() -> Iterator[Finding]:
        raise RuntimeError("not foreseen")

    found = run({"one": fails, "two": machine.packages})
    assert [(one.check, one.level) for one in found] == [("one", "wrong"), ("packages", "ok")]
    assert "RuntimeError: not foreseen" in found[0].what
