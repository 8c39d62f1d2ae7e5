"""Google Drive's HTTP interface: authorised calls, tried again where that may help.

Plain ``requests`` carries every call, and google-auth makes the tokens: one transport, one place for time limits and
errors. The generated client of google-api-python-client would add nothing to seven calls but a second transport; its
resumable upload cannot be taken up by another process, and costs more CPU (see ``bench/transports.py``). Its
description of the interface is what the tests hold our calls against.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from blocks.destinations.google_drive_errors import TIMEOUT, failure, is_busy, pause_asked_for, translated
from vault.errors import DestinationError, DestinationUnavailable

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from requests import PreparedRequest, Response

ENDPOINT = "https://www.googleapis.com"
TRIES = 5
LONGEST_PAUSE = 120.0
"""Seconds that a ``Retry-After`` is waited for; what asks for more fails at once, and says so."""

_DRIVE_PATHS = ("/upload/drive/v3/", "/resumable/upload/drive/v3/")


@dataclass
class DriveApi:
    """Calls of one account. Every method may be called by any thread."""

    credentials: Credentials
    location: str
    endpoint: str = field(default_factory=lambda: ENDPOINT)
    timeout: tuple[float, float] = TIMEOUT
    tries: int = TRIES

    def __post_init__(self) -> None:
        import requests

        self._session = requests.Session()
        self._lock = Lock()

    def call(
        self, method: str, path: str, params: Mapping[str, str], body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The answer to *method* of ``drive/v3/path``; a failure is ours, after some tries where that may help."""
        with closing(self.send(method, f"{self.endpoint}/drive/v3/{path}", json=body, params=params)) as response:
            return self.read(response)

    def send(self, method: str, url: str, also: tuple[int, ...] = (), **options: Any) -> Response:
        """A good answer (2xx, or a status in *also*) to a request that may be sent more than once."""
        failed = 0
        while True:
            response, error = None, None
            try:
                response = self.once(method, url, **options)
                if response.status_code < 300 or response.status_code in also:
                    return response
                error = failure(response, self.location)
            except DestinationUnavailable as problem:
                error = problem
            failed += 1
            self.wait_or_raise(failed, error, response)

    def once(self, method: str, url: str, **options: Any) -> Response:
        """Whatever the server answers; no redirect is followed. A token that has run out is renewed once (T05)."""
        options = {"timeout": self.timeout, "allow_redirects": False, **options}
        with translated(self.location):
            bearer = _Bearer(self._token())
            response = self._session.request(method, url, auth=bearer, **options)
            if response.status_code == 401:
                response.close()
                bearer = _Bearer(self._token(instead_of=bearer.token))
                response = self._session.request(method, url, auth=bearer, **options)
            return response

    def read(self, response: Response) -> dict[str, Any]:
        """The document that *response* holds; empty where it holds none."""
        with translated(self.location):
            content = response.content
            document = response.json() if content else {}
        if not isinstance(document, dict):
            raise DestinationError(f"{self.location}: the answer is no JSON object")
        return document

    def wait_or_raise(self, failed: int, error: DestinationError, response: Response | None) -> None:
        """Wait before the next try, as long as the server asks for; raise *error* where no try is left or may help."""
        busy = response is None or is_busy(response)
        asked = pause_asked_for(response)
        if response is not None:
            response.close()
        if not busy or failed >= self.tries or asked > LONGEST_PAUSE:
            raise error
        _sleep(max(asked, 2.0 ** (failed - 1) * random.uniform(1.0, 1.3)))  # noqa: S311 - jitter, no secret

    def start_upload(self, metadata: Mapping[str, Any], fields: str) -> str:
        """Begin an upload whose size is not known yet; returns the URL of its session."""
        response = self.send(
            "POST",
            f"{self.endpoint}/upload/drive/v3/files",
            params={"uploadType": "resumable", "supportsAllDrives": "true", "fields": fields},
            json=metadata,
            headers={"X-Upload-Content-Type": str(metadata["mimeType"])},
        )
        response.close()
        url = response.headers.get("Location", "")
        if not self.is_session(url):
            raise DestinationError(f"{self.location} gave no address for the upload that one could trust")
        return url

    def is_session(self, url: str) -> bool:
        """Whether *url* may be a session of ours: our token is sent to nobody else."""
        address = urlsplit(url)
        ours = f"{address.scheme}://{address.netloc}" == self.endpoint
        googles = (
            address.scheme == "https" and re.fullmatch(r"[a-z0-9.-]+\.googleapis\.com", address.netloc) is not None
        )
        return (ours or googles) and address.path.startswith(_DRIVE_PATHS) and " " not in url and url.isprintable()

    def _token(self, instead_of: str | None = None) -> str:
        with self._lock:
            if not self.credentials.valid or self.credentials.token == instead_of:
                self.credentials.refresh(self._ask_for_token)  # type: ignore[no-untyped-call]
            return str(self.credentials.token)

    def _ask_for_token(
        self, url: str, method: str = "GET", body: Any = None, headers: Any = None, **_: Any
    ) -> _TokenAnswer:
        """How google-auth reaches the token server: as everything else does."""
        with closing(
            self._session.request(
                method,
                url,
                data=body,
                headers=headers,
                timeout=self.timeout,
                allow_redirects=False,
                auth=_unchanged,
            )
        ) as response:
            return _TokenAnswer(response.status_code, response.headers, response.content)


@dataclass(frozen=True)
class _TokenAnswer:
    status: int
    headers: Mapping[str, str]
    data: bytes


@dataclass(frozen=True)
class _Bearer:
    """Puts the token into a request; given as ``auth``, so that no ~/.netrc takes its place."""

    token: str

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def _unchanged(request: PreparedRequest) -> PreparedRequest:
    return request


def held_bytes(response: Response) -> int:
    """How many bytes an unfinished upload (308) holds, by its Range."""
    held = re.fullmatch(r"(?:bytes=)?0-(\d+)", response.headers.get("Range", ""))
    return int(held[1]) + 1 if held else 0


_sleep = time.sleep  # the tests do not wait
