"""Tell people that a unit has failed, by mail and by ping, with nothing but Python: Prefect may be what is dead.

    alarm.py UNIT           it has failed; what it said is taken from standard input, or from the journal
    alarm.py --well UNIT    it has done its work: only the watchdog is told

Whom and how is said in the environment, or in /etc/prefect-backups/alarm.env (0600): see docs/alarms.md. It ends with 1
where nobody could be told, so that it can be tried again, and with 78 where nobody is named.
"""

from __future__ import annotations

import os
import smtplib
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

FILE = Path("/etc/prefect-backups/alarm.env")
PREFIX = "BACKUPS_ALARM_"
_SENDMAIL = "/usr/sbin/sendmail"
_PATIENCE = 30  # seconds for each answer
_LINES, _MOST = "60", 50_000  # of the journal, and characters of a mail
_NOBODY = 78  # EX_CONFIG


def settings() -> dict[str, str]:
    """What the environment says, else what the file says; without the prefix."""
    found = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    if not found and FILE.exists():
        pairs = (line.partition("=") for line in FILE.read_text().splitlines() if line.startswith(PREFIX))
        found = {name: value.strip("\"'") for name, _, value in pairs}
    return {name[len(PREFIX) :]: value for name, value in found.items() if value}


def main(arguments: list[str]) -> int:
    """See above."""
    own = settings()
    well = arguments[:1] == ["--well"]
    unit = (arguments[1:] if well else arguments)[0]
    if well:
        ways: dict[str, Callable[[], None]] = {"ping": lambda: ping(own["PING"], "it has done its work")}
    else:
        subject, text = f"{unit} failed on {socket.gethostname()}", said(unit)
        ways = {
            "mail": lambda: mail(own, subject, text),
            "ping": lambda: ping(own["PING"].rstrip("/") + "/fail", f"{subject}\n\n{text}"),
        }
    asked = [way for way in ways if own.get({"mail": "TO", "ping": "PING"}[way])]
    if not asked:
        if well:
            return 0
        print(f"nobody is told that {unit} failed: set {PREFIX}TO or {PREFIX}PING in {FILE}", file=sys.stderr)
        return _NOBODY
    told = [way for way in asked if _done(way, ways[way])]
    return 0 if told else 1


def _done(way: str, tell: Callable[[], None]) -> bool:
    try:
        tell()
    except (OSError, smtplib.SMTPException, subprocess.SubprocessError, ValueError) as error:
        # Not the error's own words where they may hold the watchdog's address, which is a secret.
        print(f"{way}: {type(error).__name__}{'' if way == 'ping' else f': {error}'}", file=sys.stderr)
        return False
    return True


def said(unit: str) -> str:
    """When, and what the unit said last."""
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    result = os.environ.get("MONITOR_SERVICE_RESULT", "")
    text = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    return f"{when}{f' ({result})' if result else ''}\n\n{text.strip() or _journal(unit)}\n"


def _journal(unit: str) -> str:
    command = ["journalctl", "--unit", unit, "--lines", _LINES, "--output", "cat", "--no-pager", "--quiet"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"Its log could not be read ({type(error).__name__}): journalctl -u {unit}"
    return done.stdout.strip() or f"Its log is empty: journalctl -u {unit}"


def mail(own: Mapping[str, str], subject: str, text: str) -> None:
    """By the SMTP server that is named, or by this machine's own sendmail."""
    people, user = own["TO"].replace(",", " ").split(), own.get("USER", "")
    message = EmailMessage()
    message["Subject"], message["To"] = " ".join(subject.split())[:200], ", ".join(people)
    message["From"] = own.get("FROM") or (user if "@" in user else people[0])
    message["Date"], message["Message-ID"] = formatdate(localtime=True), make_msgid()
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("".join(c if c.isprintable() or c == "\n" else "?" for c in text[-_MOST:]))
    if "SMTP" not in own:
        subprocess.run([_SENDMAIL, "-t", "-i"], input=message.as_bytes(), check=True, timeout=_PATIENCE)
        return
    with _server(own, user) as server:
        if user:
            server.login(user, own.get("PASSWORD", ""))
        server.send_message(message)


def _server(own: Mapping[str, str], user: str) -> smtplib.SMTP:
    host, _, given = own["SMTP"].partition(":")
    port = int(given or 587)
    here = host == "localhost" or host.startswith("127.")
    security = own.get("SECURITY") or ("tls" if port == smtplib.SMTP_SSL_PORT else "none" if here else "starttls")
    if security == "none" and user and not here:
        raise ValueError("a password would cross the network in clear")
    context = ssl.create_default_context()
    if security == "tls":
        return smtplib.SMTP_SSL(host, port, timeout=_PATIENCE, context=context)
    server = smtplib.SMTP(host, port, timeout=_PATIENCE)
    if security == "starttls":
        server.starttls(context=context)
    return server


def ping(url: str, text: str) -> None:
    """POST *text* to the watchdog's address."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("no address")
    with urllib.request.urlopen(url, data=text.encode()[:10_000], timeout=_PATIENCE) as answer:  # noqa: S310
        answer.read(200)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
