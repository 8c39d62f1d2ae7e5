"""The one place where what Google, its libraries and the network say becomes an error of ours."""

from __future__ import annotations

import email.utils
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vault.errors import (
    AccessDenied,
    AlreadyExists,
    DestinationError,
    DestinationUnavailable,
    NoSpace,
    NotFound,
    printable,
)

if TYPE_CHECKING:
    from google.auth.exceptions import RefreshError
    from requests import Response

TIMEOUT = (30.0, 60.0)
"""Seconds without progress: to connect or to take a block of 256 KiB; and to answer."""

_FULL = (
    "Free space there, or keep fewer backups. A service account has no storage of its own: let it write to a Shared"
    " Drive (`--shared-drive`) or as a user (`--impersonate`), or use `--oauth`."
)
_TOO_MANY = "Google limits how many items a folder, a drive and an account may hold: keep fewer backups."
_BUSY = "Google limits requests per minute, and uploads to 750 GB a day per user. This is tried again."
_LATER = "That limit is of one day: it works again later."
_SHARE = (
    "Share the folder with the account that writes: as Manager of the Shared Drive, where nobody else may delete for"
    ' good, else as Editor. If a person made it, try scope "drive": "drive.file" shows only what this app made.'
)
_ENABLE = "Enable the Google Drive API in the Google Cloud project of the key or client."
_AGAIN = "Look at the network, and at https://www.google.com/appsstatus; this is tried again."
_CERTIFICATE = (
    "Something answers in Google's place: a proxy that reads traffic? If that is wanted, put its certificate into a"
    " file and name it in REQUESTS_CA_BUNDLE; or set this machine's clock."
)
_AUTHORISE = (
    "Authorise anew: `backups destination update NAME --oauth`."
    ' While the OAuth consent screen is in "Testing", tokens end after 7 days: publish it.'
)
_KEY = "Set this machine's clock; or make a new key: `backups destination update NAME --service-account FILE`."
_DELEGATE = (
    "In the Google Workspace admin console give the service account's client id domain-wide delegation for the scope"
    " of this destination, and check the user's address."
)


class FlaggedAsMalware(AccessDenied):
    """Google gives out a file that it takes for malware only to its owner who says that he knows."""


_IN_BROWSER = "Download it in a browser as its owner, and restore from the file."
_REASONS: dict[str, tuple[type[DestinationError], str]] = {
    **dict.fromkeys(("storageQuotaExceeded", "quotaExceeded"), (NoSpace, _FULL)),
    **dict.fromkeys(
        ("teamDriveFileLimitExceeded", "numChildrenInNonRootLimitExceeded", "activeItemCreationLimitExceeded"),
        (NoSpace, _TOO_MANY),
    ),
    **dict.fromkeys(
        ("userRateLimitExceeded", "rateLimitExceeded", "sharingRateLimitExceeded"), (DestinationUnavailable, _BUSY)
    ),
    **dict.fromkeys(("dailyLimitExceeded", "downloadQuotaExceeded"), (DestinationUnavailable, _LATER)),
    **dict.fromkeys(("accessNotConfigured", "SERVICE_DISABLED"), (AccessDenied, _ENABLE)),
    "cannotDownloadAbusiveFile": (
        FlaggedAsMalware,
        _IN_BROWSER,
    ),
}
_RATES = frozenset({"userRateLimitExceeded", "rateLimitExceeded", "sharingRateLimitExceeded"})
_STATUSES: dict[int, tuple[type[DestinationError], str]] = {
    401: (AccessDenied, _AUTHORISE),
    403: (AccessDenied, _SHARE),
    404: (NotFound, _SHARE),
    409: (AlreadyExists, ""),
    410: (NotFound, ""),
    429: (DestinationUnavailable, _BUSY),
}


def failure(response: Response, what: str) -> DestinationError:
    """What an answer that is no success means."""
    reason, message = _said(response)
    status = response.status_code
    away = (DestinationUnavailable, _AGAIN) if status >= 500 or status == 408 else (DestinationError, "")
    kind, remedy = _REASONS.get(reason) or _STATUSES.get(status, away)
    return kind(f"{what}: {message or 'no reason given'} (HTTP {status}{reason and ' '}{reason})", remedy)


def is_busy(response: Response) -> bool:
    """Whether the same request may succeed some seconds later."""
    return response.status_code in (408, 429) or response.status_code >= 500 or _said(response)[0] in _RATES


def pause_asked_for(response: Response | None) -> float:
    """The seconds of ``Retry-After``; 0 where there is none."""
    text = response.headers.get("Retry-After", "") if response is not None else ""
    if text.isdecimal():
        return float(text)
    moment = email.utils.parsedate_tz(text)
    return max(0.0, email.utils.mktime_tz(moment) - time.time()) if moment else 0.0


def _said(response: Response) -> tuple[str, str]:
    """Reason and message in Google's error document; empty where it is another."""
    try:
        error = response.json()["error"]
        details = error.get("errors") or [{}]
        return printable(str(details[0].get("reason", "")))[:60], printable(str(error["message"]))[:300]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError):  # the last: it broke off
        return "", ""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Errors of the network, TLS and the token server become ours; unknown ones are permanent."""
    from google.auth.exceptions import GoogleAuthError, RefreshError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except RefreshError as error:
        raise _no_token(error, what) from error
    except (OSError, HTTPError) as error:  # what requests raises are OSErrors
        ours = _network(error, what)
        # What these libraries say names the address of an upload session, and that is a key to it.
        system = [cause for cause in _causes(error) if isinstance(cause, OSError) and cause.strerror]
        raise ours from (system[-1] if system else None if isinstance(ours, DestinationUnavailable) else error)
    except GoogleAuthError as error:
        raise DestinationError(f"{what}: {printable(str(error))[:300]}") from error


def _network(error: Exception, what: str) -> DestinationError:
    import requests
    from urllib3 import exceptions

    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return DestinationError(f"{what}: TLS failed: {printable(str(cause))[:200]}", _CERTIFICATE)
    passing = (
        *(requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError),
        *(exceptions.ProtocolError, exceptions.TimeoutError, exceptions.SSLError),
    )
    if isinstance(error, passing):
        return DestinationUnavailable(f"{what} does not answer: {_kind(error)}", _AGAIN)
    said = _kind(error) if isinstance(error, requests.RequestException | exceptions.HTTPError) else str(error)
    return DestinationError(f"{what}: {printable(said)[:300]}")


def _kind(error: Exception) -> str:
    """The innermost cause's own words; those of the layers above it hold addresses of upload sessions."""
    inner = [cause for cause in _causes(error) if isinstance(cause, OSError) and cause.strerror]
    return printable(str(inner[-1].strerror))[:200] if inner else type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """*error* and what led to it, by each of the ways in which these libraries keep that."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        found = waiting.pop(0)
        if isinstance(found, BaseException) and found not in seen:
            seen.append(found)
            yield found
            waiting += [found.__cause__, found.__context__, getattr(found, "reason", None), *found.args]


def _no_token(error: RefreshError, what: str) -> DestinationError:
    said = printable(str(error.args[0] if error.args else error))[:200]
    if error.retryable:
        return DestinationUnavailable(f"{what}: the token server failed: {said}", _AGAIN)
    remedy = ""
    if said.startswith("invalid_grant"):
        remedy = _KEY if "JWT" in said or "account" in said.lower() else _AUTHORISE
    elif said.startswith(("unauthorized_client", "access_denied", "invalid_scope")):
        remedy = _DELEGATE
    elif said.startswith(("invalid_client", "deleted_client")):
        remedy = _AUTHORISE
    return AccessDenied(f"{what}: Google gives no access token: {said}", remedy)
