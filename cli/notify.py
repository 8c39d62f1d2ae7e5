"""``backups notify``: who is told how backups go."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from cyclopts import App, Parameter

from cli.api import prefect_api
from cli.output import note
from cli.saved import Flag, Repeated, SecretFile, add_verbs, made, save, secret
from vault.errors import ConfigError, printable
from vault.store import check_name

_STARTTLS, _TLS = 587, 465

notify_app = App(name="notify", help="Who is told how backups go.", version_flags=[])
_add = App(name="add", help="Save one, after a test of it.", version_flags=[])
notify_app.command(_add)
add_verbs(notify_app, "notification")


@_add.command(name="email")
def add_email(
    name: str,
    /,
    *,
    smtp: Annotated[str, Parameter(name=("--smtp", "--host"))],
    to: Annotated[list[str], Repeated],
    sender: str | None = None,
    port: int | None = None,
    security: Literal["starttls", "tls", "none"] | None = None,
    user: str = "",
    password_file: SecretFile = None,
    no_test: Annotated[bool, Flag] = False,
) -> None:
    """Mail what a failed run says. A test mail is sent first.

    Example: backups notify add email ops --smtp smtp.example.org:587 --to ops@example.org

    Parameters
    ----------
    name
        A name for it.
    smtp
        The mail server, and its port: 587 for STARTTLS, which is taken without one, 465 for TLS.
    to
        Whom the mails go to. Repeatable.
    sender
        Whom they are from; at first the account, where it is a mail address, else the first of those they go to.
    port
        The server's port, where it is not given with its name.
    security
        How the way to the server is encrypted; at first tls at port 465, else starttls; none only without a password.
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

        host, at = _server(smtp, port)
        way = security or ("tls" if at == _TLS else "starttls")
        whom = {"sender": sender or (user if "@" in user else to[0]), "recipients": to}
        block = made(Mailer, host=host, port=at, security=way, username=user, password=password, **whom)
        save("notification", name, block, no_test)
        mail_failures(name, block._block_document_id)
        crash_lost_runs()
    note("Each backup, restore and copy that fails, and each backup that is missing, is mailed from now on.")


def _server(smtp: str, port: int | None) -> tuple[str, int]:
    """Name and port of ``HOST[:PORT]``; an IPv6 address stands in brackets where there is a port."""
    found = re.fullmatch(r"(?:\[([^\]]+)\]|([^:]+))(?::([0-9]{1,5}))?|((?:[0-9A-Fa-f]*:){2,}[0-9A-Fa-f]*)", smtp)
    if found is None or (found[3] and port and int(found[3]) != port):
        raise ConfigError(
            f"{printable(smtp)[:80]!r} is no mail server" if found is None else "two ports are given",
            "Give its name, such as --smtp smtp.example.org:587",
        )
    return found[1] or found[2] or found[4], int(found[3] or port or _STARTTLS)


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
