"""``backups notify``: a mailer is tested before it is saved, and never says its password in clear."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from prefect.blocks.abstract import NotificationError

from blocks.mailer import Mailer, MailError
from cli.api import free_port
from deployments.automations import MAILS, mail_name
from tests.cli.conftest import Command
from tests.peers.certificate import self_signed
from tests.peers.smtp import PASSWORD, USER, MailServer, mail_server

WHOM = ("--sender", "backups@example.org", "--to", "ops@example.org")


def automations() -> list[str]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return sorted(one.name for one in client.read_automations() if " ops " in one.name or " gone " in one.name)


def mailer(server: MailServer, **fields: object) -> Mailer:
    given = {"host": "127.0.0.1", "port": server.port, "security": "none", "sender": "backups@example.org"}
    return Mailer.model_validate({**given, "recipients": ["ops@example.org"], "timeout": 10, **fields})


@pytest.fixture
def inbox() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


def test_it_is_tested_saved_shown_without_its_password_and_removed(
    command: Command, inbox: MailServer, tmp_path: Path
) -> None:
    here = ("--host", "127.0.0.1", "--port", inbox.port, "--security", "none")
    command("notify", "add", "email", "ops", *here, *WHOM, "--to", "boss@example.org")
    assert inbox.mails()[0]["To"] == "ops@example.org, boss@example.org"
    assert "saved already" in command("notify", "add", "email", "ops", *here, *WHOM, code=2).err
    assert {"name": "ops", "kind": "backup-mailer"} in command("notify", "list", "--json").json
    assert command("notify", "show", "ops", "--json").json["port"] == inbox.port
    command("notify", "test", "ops")
    assert len(inbox.mails(2)) == 2
    lost = "backups: a run whose process is gone has crashed"
    assert automations() == sorted([lost, *(mail_name("ops", kind) for kind in MAILS)])
    command("notify", "remove", "ops")
    assert "ops" not in command("notify", "list").out
    assert automations() == [lost]
    (tmp_path / "password").write_text(PASSWORD)
    refused = command(
        *("notify", "add", "email", "ops", *here, *WHOM, "--user", USER, "--password-file", tmp_path / "password"),
        code=1,
    )
    assert "nothing was saved" in refused.err
    assert "does not let backups in" in refused.err
    assert "canary" not in refused.err


def test_a_server_is_named_as_people_name_one_and_the_rest_is_what_they_expect(
    command: Command, inbox: MailServer
) -> None:
    add = ("notify", "add", "email", "ops", "--security", "none", "--to", "ops@example.org", "--to", "b@example.org")
    command(*add, "--smtp", f"127.0.0.1:{inbox.port}")
    assert inbox.mails()[0]["From"] == "ops@example.org", "who gets them may send them to himself"
    assert command("notify", "show", "ops", "--json").json["host"] == "127.0.0.1"
    command("notify", "remove", "ops")
    away = ("notify", "add", "email", "ops", "--to", "ops@example.org", "--no-test", "--smtp")
    for smtp, port, security in (("mail.example.org", 587, "starttls"), ("mail.example.org:465", 465, "tls")):
        command(*away, smtp)
        shown = command("notify", "show", "ops", "--json").json
        assert (shown["host"], shown["port"], shown["security"]) == ("mail.example.org", port, security)
        command("notify", "remove", "ops")
    for bad in ("", "a:b", "mail.example.org:587:1", ":25"):
        assert "--smtp smtp.example.org:587" in command(*away, bad, code=2).err
    assert "two ports" in command(*away, "mail.example.org:465", "--port", "587", code=2).err


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_password_goes_only_to_a_server_that_proves_who_it_is(
    security: Literal["starttls", "tls"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path)
    with mail_server(security, certificate, auth=True) as server:
        good = mailer(server, security=security, username=USER, password=PASSWORD)
        with pytest.raises(MailError, match=r"cannot be encrypted: .*CERTIFICATE_VERIFY_FAILED"):
            good.check()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        good.check()
        assert server.taken == 1
        with pytest.raises(MailError, match=f"does not let {USER} in"):
            mailer(server, security=security, username=USER, password="wrong").check()
        assert server.taken == 1


@pytest.mark.law(10)
@pytest.mark.fault("M08")
def test_a_password_never_crosses_a_network_in_clear(inbox: MailServer) -> None:
    with pytest.raises(ValueError, match="in clear"):
        mailer(inbox, host="mail.example.org", username=USER, password=PASSWORD)
    with pytest.raises(MailError, match="does not offer"):
        mailer(inbox, security="starttls", username=USER, password=PASSWORD).check()


@pytest.mark.parametrize("bad", ["ops", "ops@example.org\nBcc: all@example.org", "", "a b@example.org", "a@b, c@d"])
def test_what_is_no_address_is_refused(inbox: MailServer, bad: str) -> None:
    for field in ({"sender": bad}, {"recipients": [bad]}):
        with pytest.raises(ValueError, match="is not a mail address"):
            mailer(inbox, **field)


@pytest.mark.fault("N13")
def test_nothing_in_a_subject_becomes_a_header(inbox: MailServer) -> None:
    mailer(inbox).send("shop failed\r\nBcc: all@example.org\n\nhello", "text\r\n.\r\nQUIT\r\nfrom a dump: \x00é")
    (mail,) = inbox.mails()
    assert mail["Bcc"] is None
    assert mail["Subject"].startswith("shop failed")
    assert "QUIT" in mail.get_content()
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Message-ID"].endswith("@example.org>")


def test_a_recipient_that_is_refused_is_named_and_the_others_get_it(inbox: MailServer) -> None:
    inbox.refused.add("gone@example.org")
    with pytest.raises(MailError, match=r"refused gone@example.org \(550 nobody of that name\)"):
        mailer(inbox, recipients=["gone@example.org", "ops@example.org"]).check()
    assert inbox.taken == 1
    with pytest.raises(MailError, match=r"gone@example\.org"):
        mailer(inbox, recipients=["gone@example.org"]).check()


def test_a_server_that_is_not_there_is_named(inbox: MailServer) -> None:
    with pytest.raises(MailError, match=r"127\.0\.0\.1:1 cannot be reached"):
        mailer(inbox, port=1).check()


@pytest.mark.fault("M07")
def test_hundreds_of_failures_at_once_are_a_few_mails_that_name_each(inbox: MailServer) -> None:
    block = mailer(inbox, pause=1)

    async def fail_all() -> None:
        await asyncio.gather(*(block.notify(f"why {number:03}", f"failed {number:03}") for number in range(500)))

    asyncio.run(fail_all())
    for number in range(500):
        inbox.find(f"failed {number:03}")
    assert inbox.find("mails in one", "why ")
    assert inbox.taken < 50


@pytest.mark.fault("M01")
def test_what_a_server_does_not_take_now_it_gets_later_in_one_mail() -> None:
    port = free_port()
    block = mailer(MailServer(port), pause=0.2)
    for number in (1, 2):
        with pytest.raises(NotificationError) as told:
            asyncio.run(block.notify(f"why {number}", f"failed {number}"))
        assert "cannot be reached: Connection refused" in told.value.log, "each is said to have failed"
    with mail_server(port=port) as back:
        both = back.find("2 mails in one")
    assert both["Subject"] == "2 mails in one: failed 1, …"
    assert both.get_content().index("why 1") < both.get_content().index("why 2")


def test_who_has_got_a_mail_gets_it_once_also_where_another_is_refused(inbox: MailServer) -> None:
    inbox.refused.add("gone@example.org")
    block = mailer(inbox, recipients=["gone@example.org", "ops@example.org"], pause=0.1)
    with pytest.raises(NotificationError) as told:
        asyncio.run(block.notify("why", "failed"))
    assert "refused gone@example.org" in told.value.log
    with pytest.raises(NotificationError):
        asyncio.run(block.notify("then", "the next"))  # at once, since nothing waits
    assert inbox.taken == 2


@pytest.mark.fault("M02")
def test_a_mail_server_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        silent = MailServer(deaf.getsockname()[1])
        with pytest.raises(MailError, match=r"did not take the mail: .*timed out"):
            mailer(silent, timeout=0.2).check()


@pytest.mark.fault("M04", "N13")
def test_whatever_stands_in_an_error_is_a_mail_of_bounded_size(inbox: MailServer) -> None:
    text = "\udcff\x00\x1b[31m\r\nBcc: all@example.org\r\n.\r\n" + "é" * 5_000_000
    asyncio.run(mailer(inbox).notify(text, f"failed\r\nBcc: all@example.org\r\n\r\n{text}"))
    (mail,) = inbox.mails()
    assert mail["Bcc"] is None
    assert mail["To"] == "ops@example.org"
    assert len(mail.as_bytes()) < 500_000
