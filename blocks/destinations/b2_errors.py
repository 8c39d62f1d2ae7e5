"""What an S3 store or the way to it says went wrong, as an error of ours: the one place where that is done."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vault.errors import (
    AccessDenied,
    AlreadyExists,
    BackupError,
    DestinationError,
    DestinationUnavailable,
    KeptByLock,
    NoSpace,
    NotFound,
    printable,
)


class NotSupported(DestinationError):
    """The store does not know this operation."""


class NoBucket(DestinationError):
    """There is no such bucket."""


class NothingThere(DestinationError):
    """The object has no byte at that offset."""


_Kind = tuple[type[DestinationError], str]

_KEYS = (
    AccessDenied,
    "Check the key id and its secret, and that the key may list, read, write and delete in this bucket"
    " (B2: also that no cap of the account is reached).",
)
_FULL = (NoSpace, "Raise the cap or quota at the store, or keep fewer backups.")
_AWAY = (DestinationUnavailable, "Look at the network and at the store's status page; this is tried again.")
_BUCKET = (NoBucket, "Create the bucket at the store; it is never created by us. Check its name and the endpoint.")
_PLACE = (DestinationError, "Check the endpoint and the region: the bucket is somewhere else.")
_CLOCK = (DestinationError, "The clock of this machine is wrong by minutes: set it, and keep it set (NTP).")
_UNKNOWN = (NotSupported, "")
_ARCHIVED = (DestinationError, "It was moved to an archive class: bring it back at the store first.")
_LOCKED = (KeptByLock, "It can be deleted when its lock has ended.")

_CODES: dict[str, _Kind] = {
    **dict.fromkeys(("NoSuchKey", "NoSuchUpload", "NoSuchVersion", "NotFound", "404"), (NotFound, "")),
    **dict.fromkeys(("NoSuchBucket", "InvalidBucketName"), _BUCKET),
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "Forbidden", "401", "403"), _KEYS),
    **dict.fromkeys(("InvalidToken", "ExpiredToken", "UnauthorizedAccess", "AllAccessDisabled"), _KEYS),
    **dict.fromkeys(("AccountProblem", "NotSignedUp", "InvalidSecurity"), _KEYS),
    **dict.fromkeys(("RequestTimeTooSkewed", "RequestExpired"), _CLOCK),
    **dict.fromkeys(("QuotaExceeded", "StorageQuotaExceeded", "InsufficientStorage", "507"), _FULL),
    **dict.fromkeys(("XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"), _FULL),
    "400": _PLACE,  # all that a HEAD says
    **dict.fromkeys(("PermanentRedirect", "AuthorizationHeaderMalformed", "301", "IllegalLocationConstraint"), _PLACE),
    **dict.fromkeys(("PreconditionFailed", "412"), (AlreadyExists, "")),
    **dict.fromkeys(("NotImplemented", "MethodNotAllowed", "501", "405"), _UNKNOWN),
    **dict.fromkeys(("InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "TooManyRequests"), _AWAY),
    **dict.fromkeys(("Throttling", "ThrottlingException", "RequestLimitExceeded", "BandwidthLimitExceeded"), _AWAY),
    **dict.fromkeys(("InvalidRange", "416"), (NothingThere, "")),
    "InvalidObjectState": _ARCHIVED,
    **dict.fromkeys(("OperationAborted", "ConditionalRequestConflict", "409"), _AWAY),
    # What arrived was not what was sent: the way there, not the data, is at fault.
    **dict.fromkeys(("BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"), _AWAY),
}
_CAPS = ("cap exceeded", "caps exceeded", "cap_exceeded", "quota exceeded", "storage cap")
_LOCKS = ("protected by object lock", "worm protected", "protected by legal hold")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Whatever boto3 raises in this block is raised as ours, about *what*; unknown errors are permanent."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        raise _of_answer(what, error.response) from error
    except BotoCoreError as error:
        raise _of_way(what, error) from error
    except (HTTPError, ResponseParserError) as error:  # the body of an answer broke off, or is none of S3's
        raise DestinationUnavailable(f"{what}: {_line(error)}", _AWAY[1]) from error


def _of_answer(what: str, response: dict[str, Any]) -> DestinationError:
    said = response.get("Error", {})
    code, text = str(said.get("Code", "")), printable(str(said.get("Message", "")))[:300]
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    kind, remedy = _CODES.get(code) or _CODES.get(str(status) if status != 400 else "") or (DestinationError, "")
    if kind is DestinationError and not remedy and (status == 429 or status >= 500):
        kind, remedy = _AWAY
    # B2 says "403 AccessDenied" where a cap is reached, MinIO "400 InvalidRequest" for a lock: only the words tell.
    if status in (400, 403) and any(cap in text.lower() for cap in _CAPS):
        kind, remedy = _FULL
    elif status in (400, 403) and any(lock in text.lower() for lock in _LOCKS):
        kind, remedy = _LOCKED
    return kind(f"{what}: {code}{': ' if text else ''}{text}", remedy)


def _of_way(what: str, error: Exception) -> BackupError:
    from botocore import exceptions as boto

    inner = getattr(error, "kwargs", {}).get("error")
    if isinstance(inner, BackupError):  # of the body that we gave: of the spool, not of the store
        return inner
    if isinstance(error, boto.SSLError) and not _is_cut(error):
        return DestinationError(
            f"{what}: the TLS connection is refused: {_line(error)}",
            "Check the endpoint's certificate. Where its authority is your own, name its file in ca_file;"
            " a certificate is never left unchecked.",
        )
    if isinstance(error, boto.ConnectionError | boto.HTTPClientError | boto.IncompleteReadError):
        return _AWAY[0](f"{what}: {_line(error)}", _AWAY[1])
    if isinstance(error, boto.PaginationError):
        return DestinationUnavailable(f"{what}: the listing goes in circles", _AWAY[1])
    return DestinationError(f"{what}: {_line(error)}")


def _is_cut(error: BaseException) -> bool:
    """Whether TLS ended for a reset of the connection, not for what the other side is."""
    seen: BaseException | None = getattr(error, "kwargs", {}).get("error")
    while seen is not None:
        if isinstance(seen, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
            return True
        reason = getattr(seen, "reason", None)
        seen = reason if isinstance(reason, BaseException) else seen.__cause__ or seen.__context__
    return False


def _line(error: Exception) -> str:
    return printable(str(error))[:300]
