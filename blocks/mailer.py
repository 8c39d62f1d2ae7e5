"""Mail by SMTP: how people hear of a backup that failed."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import ClassVar, Literal, Self

from prefect.blocks.abstract import NotificationBlock, NotificationError
from pydantic import Field, HttpUrl, SecretStr, field_validator, model_validator

from blocks.look import DOCUMENTATION_URL, LOGO_URL
from blocks.outbox import Refused, outbox
from vault.address import is_loopback
from vault.errors import BackupError, printable

MAILER_SLUG = "backup-mailer"
_LONGEST = 200  # characters of a subject
_MOST = 100_000  # characters of a mail


class MailError(BackupError):
    """A mail could not be sent."""


class PartlySent(MailError, Refused):
    """Some have got it, others were refused."""


class Mailer(NotificationBlock):
    """
    Sends mail by SMTP. Automations send with it what a failed run says.

    Attributes:
        host: The mail server.
        port: Its port: 587 for STARTTLS, 465 for TLS.
        security: How the way to it is encrypted.
        username: The account there; empty where it asks for none.
        password: Its password.
        sender: Whom the mails are from.
        recipients: Whom they go to.
        timeout: How long to wait for the server.
        pause: How long a digest is collected, once there are too many mails.

    Example:
        Send a mail:
        ```python
        from blocks import Mailer

        Mailer.load("BLOCK_NAME").send("subject", "text")
        ```
    """

    _block_type_name: ClassVar[str | None] = "Backup Mailer"
    _block_type_slug: ClassVar[str | None] = MAILER_SLUG
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL

    host: str = Field(min_length=1, description="The mail server, such as smtp.example.org.")
    port: int = Field(default=587, ge=1, le=65535, description="587 for STARTTLS, 465 for TLS.")
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="How the way is encrypted; none only without a password, or on this machine."
    )
    username: str = Field(default="", description="The account there; empty where it asks for none.")
    password: SecretStr = Field(default=SecretStr(""), description="The account's password.")
    sender: str = Field(description="Whom the mails are from, such as backups@example.org.")
    recipients: list[str] = Field(
        min_length=1, description='Whom they go to, as a list: `["ops@example.org", "me@example.org"]`.'
    )
    timeout: float = Field(default=30.0, gt=0, le=600, description="Seconds to wait for the server's answers.")
    pause: float = Field(
        default=60.0, gt=0, le=3600, description="Of more than ten mails in so many seconds, the others go as one."
    )

    @field_validator("sender")
    @classmethod
    def _is_address(cls, text: str) -> str:
        return _address(text)

    @field_validator("recipients")
    @classmethod
    def _are_addresses(cls, texts: list[str]) -> list[str]:
        return [_address(text) for text in texts]

    @model_validator(mode="after")
    def _hides_its_password(self) -> Self:
        if self.security == "none" and self.username and not is_loopback(self.host):
            raise ValueError("a password would cross the network in clear: take starttls or tls")
        return self

    @property
    def location(self) -> str:
        """Where mails are handed in, and for whom."""
        return printable(f"{self.host}:{self.port} for {', '.join(self.recipients)}")

    def check(self) -> None:
        """Send a mail that says that it is a test."""
        self.send(
            "Backups: this is a test",
            f"Mails about backups come from here. {socket.gethostname()} sent this one to see whether they arrive.",
        )

    def send(self, subject: str, body: str) -> None:
        """Send a mail to all recipients, or raise ``MailError``: one that refuses is named, the others have got it."""
        message = EmailMessage()
        message["Subject"] = " ".join(printable(subject.replace("\n", " ")).split())[:_LONGEST]
        message["From"], message["To"] = self.sender, ", ".join(self.recipients)
        message["Date"] = formatdate(localtime=True)
        message["Message-ID"] = make_msgid(domain=self.sender.partition("@")[2])
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation notice answers it
        message.set_content("\n".join(map(printable, body[:_MOST].expandtabs().splitlines())))
        with self._translated(), self._connected() as server:
            refused = server.send_message(message)
        if refused:
            raise PartlySent(f"{self.host} refused {_each(refused)}", "The other recipients have got it.")

    async def notify(self, body: str, subject: str | None = None) -> None:
        """What Prefect's automations call. What is not taken is tried again, for as long as the process lives."""
        box = outbox(self.pause, self.host, self.port, self.username, self.sender, *self.recipients)
        try:
            await asyncio.to_thread(box.post, self.send, subject or "Backups", body)
        except MailError as error:
            raise NotificationError(str(error)) from None  # which the server notes as an event

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        context = ssl.create_default_context()
        if self.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout, context=context)
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=self.timeout)
        with server:
            if self.security == "starttls":
                server.starttls(context=context)
            if self.username:
                server.login(self.username, self.password.get_secret_value())
            yield server

    @contextmanager
    def _translated(self) -> Iterator[None]:
        where = printable(f"{self.host}:{self.port}")
        try:
            yield
        except smtplib.SMTPNotSupportedError as error:
            raise MailError(
                f"{where} does not offer what is needed: {_said(error)}",
                "Another port may: 587 for STARTTLS, 465 for TLS (--security tls).",
            ) from None
        except smtplib.SMTPAuthenticationError as error:
            raise MailError(f"{where} does not let {self.username} in: {_said(error)}", "Check the password.") from None
        except ssl.SSLError as error:
            raise MailError(
                f"the connection to {where} cannot be encrypted: {error.reason or error}",
                "Its certificate has to be valid for that name. Is it the right port for this kind of encryption?",
            ) from None
        except (smtplib.SMTPException, MessageError) as error:
            raise MailError(f"{where} did not take the mail: {_said(error)}") from None
        except OSError as error:
            said = error.strerror or str(error)
            raise MailError(f"{where} cannot be reached: {said}", "Check its name, the port and the network.") from None


def _address(text: str) -> str:
    try:
        return str(Address(addr_spec=text).addr_spec) if text.isprintable() and "@" in text else _refuse(text)
    except (ValueError, IndexError, MessageError):
        return _refuse(text)


def _refuse(text: str) -> str:
    raise ValueError(f"{printable(text)[:80]!r} is not a mail address such as ops@example.org")


def _said(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {_text(error.smtp_error)}"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return _each(error.recipients)
    return _text(str(error))


def _each(refused: Mapping[str, tuple[int, bytes]]) -> str:
    return "; ".join(f"{_text(name)} ({code} {_text(said)})" for name, (code, said) in refused.items())


def _text(said: bytes | str) -> str:
    return printable(said.decode(errors="replace") if isinstance(said, bytes) else said)[:300]
