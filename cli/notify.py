"""``backups notify``: who is told how backups go."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import App

from cli.api import prefect_api
from cli.output import note
from cli.saved import Flag, Repeated, SecretFile, add_verbs, made, save, secret
from vault.store import check_name

notify_app = App(name="notify", help="Who is told how backups go.", version_flags=[])
_add = App(name="add", help="Save one, after a test of it.", version_flags=[])
notify_app.command(_add)
add_verbs(notify_app, "notification")


@_add.command(name="email")
def add_email(
    name: str,
    /,
    *,
    host: str,
    to: Annotated[list[str], Repeated],
    sender: str,
    port: int = 587,
    security: Literal["starttls", "tls", "none"] = "starttls",
    user: str = "",
    password_file: SecretFile = None,
    no_test: Annotated[bool, Flag] = False,
) -> None:
    """Mail what a failed run says. A test mail is sent first.

    Example: backups notify add email ops --host smtp.example.org --sender backups@example.org --to ops@example.org

    Parameters
    ----------
    name
        A name for it.
    host
        The mail server.
    to
        Whom the mails go to. Repeatable.
    sender
        Whom they are from.
    port
        587 for STARTTLS, 465 for TLS.
    security
        How the way to the server is encrypted; none only without a password.
    user
        The account at the server, whose password is asked for; without it none is used.
    password_file
        A file with that password, or - for standard input.
    no_test
        Save it without sending a test mail.
    """
    check_name(name, "notification")
    password = secret("Password", password_file, "--password-file FILE (- for standard input)") if user else ""
    with prefect_api():
        from blocks.mailer import Mailer
        from deployments.automations import crash_lost_runs, mail_failures

        fields = {"host": host, "port": port, "security": security, "username": user, "password": password}
        block = made(Mailer, **fields, sender=sender, recipients=to)
        save("notification", name, block, no_test)
        mail_failures(name, block._block_document_id)
        crash_lost_runs()
    note("Each backup, restore and copy that fails, and each backup that is missing, is mailed from now on.")


@_add.command(name="ping")
def add_ping(
    name: str,
    /,
    *,
    url_file: SecretFile = None,
    no_test: Annotated[bool, Flag] = False,
) -> None:
    """Tell a watchdog outside, such as healthchecks.io, of each start, success and failure of a schedule.

    Example: backups notify add ping shop-nightly

    Its address is asked for. The test says that all is well, which the watchdog takes for a backup. It is used by the
    schedules that name it: backups schedule update shop-full --ping shop-nightly

    Parameters
    ----------
    name
        A name for it.
    url_file
        A file with the address, or - for standard input.
    no_test
        Save it without a test.
    """
    check_name(name, "notification")
    url = secret("Address", url_file, "--url-file FILE (- for standard input)")
    with prefect_api():
        from blocks.ping import Ping

        save("notification", name, made(Ping, url=url), no_test)
    note(f"Name it in a schedule: backups schedule update SCHEDULE --ping {name}")
