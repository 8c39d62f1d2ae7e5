"""A real mail server on a free port of 127.0.0.1, that keeps what it takes."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Literal, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope

from cli.api import free_port

USER, PASSWORD = "backups", "canary-7d1e pass\"word'"


@dataclass
class MailServer:
    """Where it listens, and what it has taken."""

    port: int
    refused: set[str] = field(default_factory=set)
    """Recipients that it does not take mail for."""
    times: list[datetime] = field(default_factory=list)
    """When it took each."""
    _taken: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def mails(self, count: int = 1, seconds: float = 60) -> list[EmailMessage]:
        """All of them, when there are *count* or more."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._taken) >= count, seconds), "no mail came"
            return [mail for _, mail in self._taken]

    def find(self, *texts: str, seconds: float = 60) -> EmailMessage:
        """The first mail with all of *texts* in its subject or text, when there is one."""

        def found() -> EmailMessage | None:
            whole = [(mail, f"{mail['Subject']}\n{mail.get_content()}") for _, mail in self._taken]
            return next((mail for mail, said in whole if all(text in said for text in texts)), None)

        with self._changed:
            mail = self._changed.wait_for(found, seconds)
            assert mail is not None, f"no mail says {texts}: {[mail['Subject'] for _, mail in self._taken]}"
            return mail

    def has(self, text: str, seconds: float = 2) -> bool:
        """Whether a mail with *text* in its subject comes so soon."""
        with self._changed:
            return self._changed.wait_for(lambda: any(text in mail["Subject"] for _, mail in self._taken), seconds)

    @property
    def taken(self) -> int:
        """How many it has."""
        return len(self._taken)

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return "550 nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        mail = cast("EmailMessage", message_from_bytes(cast("bytes", envelope.content), policy=policy.default))
        with self._changed:
            self.times.append(datetime.now(UTC))
            self._taken.append((envelope.rcpt_tos, mail))
            self._changed.notify_all()
        return "250 OK"


@contextmanager
def mail_server(
    security: Literal["starttls", "tls", "none"] = "none",
    pair: Path | None = None,
    auth: bool = False,
    port: int | None = None,
) -> Iterator[MailServer]:
    """Runs one; with *pair*, a file with a certificate and its key, for ``starttls`` and ``tls``."""
    context = None
    if pair is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)

    def judge(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        good = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=good, handled=good)

    server = MailServer(port or free_port())
    options: dict[str, Any] = {"authenticator": judge, "auth_required": True} if auth else {}
    if security == "starttls":
        options.update(tls_context=context, require_starttls=True)
    controller = Controller(
        server,
        hostname="127.0.0.1",
        port=server.port,
        ssl_context=context if security == "tls" else None,
        auth_require_tls=security == "starttls",
        **options,
    )
    controller.start()
    try:
        yield server
    finally:
        controller.stop()
