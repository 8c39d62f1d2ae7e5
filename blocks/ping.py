"""Pings: a watchdog outside is told how backups go, and raises the alarm when it hears nothing."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import ClassVar, Literal
from urllib.parse import SplitResult, urlsplit

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, SecretStr, field_validator

from blocks.look import DOCUMENTATION_URL, LOGO_URL
from vault.errors import BackupError, Transient, printable, redact

Signal = Literal["start", "success", "fail"]
PING_SLUG = "backup-ping"
_MOST = 10_000  # bytes of a text: healthchecks.io takes 100 kB, others less
_FOR_NOW = (408, 425, 429)


class PingError(BackupError):
    """A watchdog could not be told."""


class PingUnavailable(PingError, Transient):
    """It does not answer now."""


class Ping(Block):
    """
    A watchdog that expects to hear of each backup: healthchecks.io, or what speaks like it.

    Attributes:
        url: Its address for this schedule. Who knows it can pretend that all is well.
        timeout: How long to wait for the watchdog.

    Example:
        Tell it that all went well:
        ```python
        from blocks import Ping

        Ping.load("BLOCK_NAME").send("success")
        ```
    """

    _block_type_name: ClassVar[str | None] = "Backup Ping"
    _block_type_slug: ClassVar[str | None] = PING_SLUG
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL

    url: SecretStr = Field(
        description="Its address for this schedule, such as https://hc-ping.com/…; /start and /fail are added."
    )
    timeout: float = Field(default=10.0, gt=0, le=60, description="Seconds to wait for the watchdog's answers.")

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value().strip()
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname or not text.isprintable() or " " in text:
            raise ValueError("this is no address such as https://hc-ping.com/…")
        return SecretStr(text)

    @property
    def location(self) -> str:
        """The watchdog's host; the rest of the address is nobody's business."""
        return printable(self._parts.netloc.rpartition("@")[2])

    def check(self) -> None:
        """Say that all is well, which the watchdog may take for a backup."""
        self.send("success", "This is a test: a backup schedule is being set up.")

    def send(self, signal: Signal, text: str = "") -> None:
        """POST *text* to the address, or to the one below it for *signal*; ``PingError`` where that is not taken."""
        parts = self._parts
        path = parts.path if signal == "success" else f"{parts.path.rstrip('/')}/{signal}"
        request = urllib.request.Request(  # noqa: S310 - http and https only, see the validator
            parts._replace(path=path).geturl(),
            data=text.encode()[:_MOST],
            headers={"Content-Type": "text/plain; charset=utf-8", "User-Agent": "prefect-backups"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:  # noqa: S310
                said = answer.read(200).decode(errors="replace")
        except urllib.error.HTTPError as error:
            error.close()
            kind = PingUnavailable if error.code in _FOR_NOW or error.code >= 500 else PingError
            raise kind(f"{self.location} answers {error.code}", "Is the address right?") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise PingUnavailable(f"{self.location} cannot be reached: {self._safe(str(reason))}") from None
        if said.startswith("OK ("):  # healthchecks.io, with status 200: OK (not found), OK (rate limited)
            raise PingError(f"{self.location} answers {self._safe(said)}", "Is the address right?")

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self.url.get_secret_value())

    def _safe(self, text: str) -> str:
        return printable(redact(text, [self.url.get_secret_value(), self._parts.path.strip("/")]))[:200]
