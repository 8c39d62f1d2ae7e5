"""Where everything that SSH and SFTP can say becomes an error of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from blocks.destinations import sftp_messages as sftp
from blocks.destinations.sftp_messages import Garbled, SftpStatus, Space
from blocks.ssh.errors import PROBLEMS, Refusal, Trouble, reason, trouble
from vault.errors import (
    AccessDenied,
    BackupError,
    DestinationError,
    DestinationUnavailable,
    NoSpace,
    printable,
)

_Kind = tuple[type[DestinationError], str]

_FULL = (NoSpace, "Free space there, keep fewer backups, or raise the quota.")
_DENIED = (AccessDenied, "Give the account the right to write there, on a file system that is mounted for writing.")
_AWAY = (DestinationUnavailable, Trouble.AWAY.value)
_CHATTY = (DestinationError, "Nothing may be printed for this account: look at the shell's start-up files there.")
_UNNAMED = (
    DestinationError,
    "The server gives no reason. Look there: a full quota, a limit on the size of files, a bad disk?",
)

_KINDS: dict[Trouble, type[DestinationError]] = {
    Trouble.AWAY: DestinationUnavailable,
    Trouble.BUSY: DestinationUnavailable,
    Trouble.LOGIN: AccessDenied,
}
_STATUS: dict[int, _Kind] = {
    sftp.PERMISSION_DENIED: _DENIED,
    sftp.WRITE_PROTECTED: _DENIED,
    sftp.NO_SPACE: _FULL,
    sftp.QUOTA: _FULL,
    sftp.NO_CONNECTION: _AWAY,
    sftp.CONNECTION_LOST: _AWAY,
    sftp.FAILURE: _UNNAMED,
}
_WORDS: tuple[tuple[str, _Kind], ...] = (  # servers other than OpenSSH say what it was
    *((word, _FULL) for word in ("no space", "quota", "disk full", "file too large")),
    *((word, _DENIED) for word in ("read-only", "permission denied", "not permitted")),
)


@contextmanager
def translated(
    what: str, missing: type[DestinationError] = DestinationError, room: Callable[[], Space | None] | None = None
) -> Iterator[None]:
    """The one place where the errors of SSH and SFTP become ours.

    *missing* is what "no such file" means here. SFTP has no status for a full disk: where the server only says
    "failure", *room* is asked for how much is left.
    """
    try:
        yield
    except BackupError:
        raise
    except SftpStatus as status:
        kind, remedy = _meaning(status, missing, room)
        raise kind(f"{what}: {_said(status)}", remedy) from status
    except Garbled as error:
        raise _CHATTY[0](f"{what}: the answer is not SFTP: {printable(str(error))}", _CHATTY[1]) from error
    except Refusal as error:
        raise AccessDenied(f"{what}: {error}", error.remedy) from error
    except PROBLEMS as error:
        found = trouble(error)
        raise _KINDS.get(found, DestinationError)(f"{what}: {reason(error)}", found.value) from error


def _meaning(status: SftpStatus, missing: type[DestinationError], room: Callable[[], Space | None] | None) -> _Kind:
    if status.code == sftp.NO_SUCH_FILE:
        return missing, ""
    told = _STATUS.get(status.code, (DestinationError, ""))
    if told is not _UNNAMED:
        return told
    text = status.text.lower()
    for word, meaning in _WORDS:
        if word in text:
            return meaning
    space = room() if room else None
    if space is not None:
        if space.read_only:
            return _DENIED
        if space.free < NEARLY_FULL or space.files_free == 0:
            return _FULL
    return _UNNAMED


NEARLY_FULL = 8 * 1024 * 1024
"""With less than this left, a server that fails to write has no space: more than all that is on its way at a time."""


def _said(status: SftpStatus) -> str:
    names = {sftp.NO_SUCH_FILE: "no such file", sftp.PERMISSION_DENIED: "permission denied", sftp.FAILURE: "failure"}
    name = names.get(status.code, f"status {status.code}")
    text = printable(status.text)[:200]
    return name if not text or text.lower() == name else f"{name}: {text}"
