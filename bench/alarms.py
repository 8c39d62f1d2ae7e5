"""How long it takes until people know: from a failure to the inbox, and from the end of the grace of a missed backup.

.venv/bin/python bench/alarms.py --rounds 20 --missed 5

A real Prefect server and a real mail server on this machine. A failure counts from the time in the run's own state to
the mail. A missed backup counts from the last one, plus the time between two runs, plus the grace.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.peers.prefect_server import prefect_server
from tests.peers.smtp import MailServer, mail_server

_LEAST = timedelta(seconds=10)  # Prefect waits no less for what does not happen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--missed", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, prefect_server(Path(directory)) as url, mail_server() as inbox:
        os.environ.update(PREFECT_API_URL=url, PREFECT_LOGGING_LEVEL="CRITICAL")  # before Prefect is imported
        _mail_to(inbox)
        report("from a failure to the inbox", 30, [_failure(inbox, f"shop-{i}") for i in range(options.rounds)])
        report("a missed backup, beyond its grace", 60, [_missed(inbox, f"late-{i}") for i in range(options.missed)])


def report(what: str, goal: float, seconds: list[float]) -> None:
    """Median, range, and what it should be at most."""
    middle, least, most = statistics.median(seconds), min(seconds), max(seconds)
    print(f"{what}: {middle:.2f} s [{least:.2f} to {most:.2f}], {len(seconds)} rounds; goal: {goal} s")


def _mail_to(inbox: MailServer) -> None:
    from blocks import Mailer
    from deployments.automations import mail_failures

    who = {"host": "127.0.0.1", "sender": "b@example.org", "recipients": ["ops@example.org"]}
    # With a pause of a second: more than ten a minute would else be a digest.
    block = Mailer.model_validate({**who, "port": inbox.port, "security": "none", "pause": 1}).save("ops")
    assert isinstance(block, UUID)
    mail_failures("ops", block)


def _failure(inbox: MailServer, app: str) -> float:
    """A run of an app that is not saved fails."""
    from prefect.client.orchestration import get_client

    from flows.backup import backup
    from vault.errors import ConfigError

    try:
        backup(app=app)
    except ConfigError:
        arrived = _arrival(inbox, lambda subject: subject == f"backup failed: {app}")
    with get_client(sync_client=True) as client:
        (run,) = [run for run in client.read_flow_runs(limit=200) if run.parameters.get("app") == app]
    assert run.state is not None
    return (arrived - run.state.timestamp).total_seconds()


def _missed(inbox: MailServer, name: str) -> float:
    """A schedule, each minute, whose last backup was now."""
    from prefect.events import emit_event

    from deployments import schedules
    from deployments.absence import expect_backups
    from tasks.events import COMMITTED
    from tasks.schedules import Schedule, When, one

    schedules.add(Schedule(name, (When("* * * * *"),), {"app": name}), "backups")
    schedule = one(name)
    period = schedule.period(datetime.now(UTC))
    assert period is not None
    expect_backups(schedule, grace=_LEAST - period)
    last = datetime.now(UTC)
    resource = {"prefect.resource.id": f"prefect.deployment.{schedule.id}", "prefect.resource.name": name}
    emit_event(COMMITTED, resource, occurred=last, payload={"id": f"last of {name}", "destinations": "disk"})
    arrived = _arrival(inbox, lambda subject: subject == f"no backup by {name} in time")
    schedules.remove(name)
    return (arrived - last - _LEAST).total_seconds()


def _arrival(inbox: MailServer, wanted: Callable[[str], bool]) -> datetime:
    count = 1
    while True:
        mails = inbox.mails(count, seconds=300)
        for time, mail in zip(inbox.times, mails, strict=False):
            if wanted(mail["Subject"]):
                return time
        count = len(mails) + 1


if __name__ == "__main__":
    main()
