"""Prefect is dead, and people are told: by the units as they are shipped, a real mail server and a real watchdog."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from cli.api import free_port
from deployments import alarm
from tests.peers.certificate import self_signed
from tests.peers.smtp import PASSWORD, USER, mail_server
from tests.peers.units import ROOT, command, environment, settings
from tests.peers.watchdog import watchdog

SECRET = "canary-5e1f"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """What ``new-secrets`` has made, with a Prefect that is not there."""
    place = tmp_path / "etc"
    url = f"http://127.0.0.1:{free_port()}"
    subprocess.run([ROOT / "deployments/new-secrets", place], check=True, env={**os.environ, "BACKUPS_URL": url})
    return place


def tell(etc: Path, *, unit: str, text: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Start the alarm of *unit*, as systemd does."""
    own = {"PATH": os.environ["PATH"], **environment("backups-alarm@.service", etc), **more}
    line = command("backups-alarm@.service", unit)
    return subprocess.run(line, env=own, input=text, capture_output=True, text=True, timeout=120)


def named(etc: Path, *lines: str) -> None:
    with (etc / "alarm.env").open("a") as file:
        file.write("".join(f"BACKUPS_ALARM_{line}\n" for line in lines))


@pytest.mark.law(12)
@pytest.mark.fault("O01")
def test_a_dead_prefect_is_told_by_mail_and_to_the_watchdog(etc: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE((etc / "alarm.env").stat().st_mode) == 0o600
    own = {**environment("backups-watch.service", etc), "HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path / "p")}
    paths = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    watch = subprocess.run(
        command("backups-watch.service"), env={**own, **paths}, capture_output=True, text=True, timeout=120
    )
    assert watch.returncode == 1
    (alarm_unit,) = settings("backups-watch.service", "OnFailure")
    assert alarm_unit == "backups-alarm@backups-watch.service.service"
    with mail_server() as inbox, watchdog(SECRET) as dog:
        named(etc, "TO=ops@example.org, boss@example.org", f"SMTP=127.0.0.1:{inbox.port}", f"PING={dog.url}")
        done = tell(etc, unit="backups-watch.service", text=watch.stderr)
        assert done.returncode == 0, done.stderr
        (mail,) = inbox.mails()
        assert mail["To"] == "ops@example.org, boss@example.org"
        assert mail["Subject"].startswith("backups-watch.service failed on ")
        assert f"Prefect's API at {own['PREFECT_API_URL']} does not answer" in mail.get_content()
        assert dog.paths == ["/fail"]
        assert "does not answer" in dog.taken[0][1]


def test_the_watchdog_hears_that_all_is_well_and_no_mail_is_sent(etc: Path) -> None:
    (post,) = settings("backups-watch.service", "ExecStartPost")
    line = post.removeprefix("-").replace("/opt/prefect-backups", str(ROOT)).split()
    with mail_server() as inbox, watchdog(SECRET) as dog:
        named(etc, "TO=ops@example.org", f"SMTP=127.0.0.1:{inbox.port}", f"PING={dog.url}")
        subprocess.run(line, env=environment("backups-watch.service", etc), check=True)
        assert dog.paths == [""]
        assert inbox.taken == 0


@pytest.mark.fault("M01")
def test_where_nobody_could_be_told_it_is_tried_again_and_where_nobody_is_named_it_says_so(etc: Path) -> None:
    nobody = tell(etc, unit="backups-watch.service")
    assert nobody.returncode == int(settings("backups-alarm@.service", "RestartPreventExitStatus")[0])
    assert "nobody is told that backups-watch.service failed: set BACKUPS_ALARM_TO" in nobody.stderr
    gone = free_port()
    named(etc, "TO=ops@example.org", f"SMTP=127.0.0.1:{gone}", f"PING=http://127.0.0.1:{gone}/{SECRET}")
    failed = tell(etc, unit="backups-watch.service")
    assert failed.returncode == 1
    assert "mail: ConnectionRefusedError" in failed.stderr
    assert "ping: " in failed.stderr
    assert SECRET not in failed.stderr
    assert settings("backups-alarm@.service", "Restart") == ["on-failure"]
    with watchdog(SECRET) as dog:
        assert tell(etc, unit="backups-watch.service", BACKUPS_ALARM_PING=dog.url).returncode == 0, "one way is enough"


@pytest.mark.law(10)
@pytest.mark.fault("M08")
def test_a_password_goes_only_to_a_server_that_proves_who_it_is(etc: Path, tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    with mail_server("starttls", certificate, auth=True) as server:
        who = {"BACKUPS_ALARM_USER": USER, "BACKUPS_ALARM_PASSWORD": PASSWORD, "BACKUPS_ALARM_SECURITY": "starttls"}
        named(etc, "TO=ops@example.org", f"SMTP=127.0.0.1:{server.port}")
        refused = tell(etc, unit="a.service", text="why", **who)
        assert (refused.returncode, server.taken) == (1, 0)
        assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
        assert tell(etc, unit="a.service", text="why", SSL_CERT_FILE=str(certificate), **who).returncode == 0
        assert "why" in server.mails()[0].get_content()
    with pytest.raises(ValueError, match="in clear"):
        alarm.mail({"TO": "a@b", "SMTP": "mail.example.org", "SECURITY": "none", "USER": "u"}, "subject", "text")


def test_without_a_server_the_machines_own_sendmail_takes_the_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "sendmail"
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/arguments\ncat >{tmp_path}/mail\n')
    program.chmod(0o755)
    monkeypatch.setattr(alarm, "_SENDMAIL", str(program))
    alarm.mail({"TO": "ops@example.org"}, "a failed\nBcc: all@example.org", "why")
    assert (tmp_path / "arguments").read_text() == "-t -i\n"
    mail = (tmp_path / "mail").read_text()
    assert "To: ops@example.org\nFrom: ops@example.org" in mail
    assert "\nBcc:" not in mail
    assert mail.endswith("\n\nwhy\n")
