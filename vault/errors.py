"""The errors of this system: each one is a sentence that an operator can act on.

The first argument says what failed and where; ``remedy`` says what to do next. Neither ever holds a
secret: whoever raises passes text through :func:`redact` where a tool's own words are quoted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self


class BackupError(Exception):
    """What the operator should read: what failed, where, and (``remedy``) what to do next."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)  # both in args: survives pickling
        self.message = message
        self.remedy = remedy
        self.step = ""

    def at(self, step: str) -> Self:
        """The same, which says in which step it failed, such as ``upload shop-db to office``: the first one counts."""
        self.step = self.step or step
        return self

    def __str__(self) -> str:
        step = f"Step: {self.step}" if self.step else ""
        return "\n".join(filter(None, [self.message, step, self.remedy]))


@contextmanager
def in_step(step: str) -> Iterator[None]:
    """A ``BackupError`` that passes says that it failed in *step*, where it does not say so yet."""
    try:
        yield
    except BackupError as error:
        error.at(step)
        raise


class Transient(BackupError):
    """Mix-in: the same step may succeed when it is tried again. The retry policy looks at nothing else."""


class ConfigError(BackupError):
    """Something was asked for that cannot be: a missing block, a bad name, source within destination."""


class SourceError(BackupError):
    """The source could not be read or written: tool missing, bad exit, versions that do not fit."""


class IncompleteDump(SourceError):
    """The tool ended well, yet what it wrote is not a whole dump."""


class SourceUnavailable(SourceError, Transient):
    """The source does not answer now: refused, killed, silent for too long."""


class DestinationError(BackupError):
    """The destination refused or failed."""


class NotFound(DestinationError):
    """No object has that key."""


class AlreadyExists(DestinationError):
    """Another object has that key; nothing was replaced."""


class AccessDenied(DestinationError):
    """The destination does not let us."""


class KeptByLock(AccessDenied):
    """A lock of the destination keeps the object: it cannot be deleted before its time."""


class NoSpace(DestinationError):
    """The destination is full, or over its quota."""


class HostKeyRejected(DestinationError, SourceError):
    """The server's host key is unknown, or is not the one that was pinned: whatever lies on it is out of reach."""


class DestinationUnavailable(DestinationError, Transient):
    """The destination does not answer now."""


class UploadLost(DestinationError, Transient):
    """What was sent of an object is gone there, and the spool cannot send it again: it takes another dump."""


class SpoolError(BackupError):
    """The local spool failed: its disk is full, or the spool is gone."""


class IntegrityError(BackupError):
    """Bytes are not what the record says."""


class BadRecord(IntegrityError):
    """A record that cannot be trusted: malformed, wrongly signed, or not that of its key."""


class Corrupt(IntegrityError):
    """An artifact differs from its record: flipped, truncated, extended, or exchanged."""


class WrongKey(IntegrityError):
    """None of the given identities can decrypt it, or the signer is not one that we trust."""


class ReadBackMismatch(IntegrityError, Transient):
    """The destination holds other bytes than were sent to it. Sending again may help."""


class HookFailed(BackupError):
    """A command of the operator's own, before or after the backup, failed or took too long."""


class RetentionRefused(BackupError):
    """Something looks odd, so nothing is deleted."""


class RestoreRefused(BackupError):
    """The restore would overwrite or could harm something; the target is untouched."""


class RestoreIncomplete(BackupError):
    """Of several parts of a backup some were restored and some were not; each is as it was, or complete."""


class UnsafeArchive(RestoreRefused):
    """The archive holds a member that could escape its directory or harm the host."""


def redact(text: str, secrets: Iterable[str]) -> str:
    """*text* with each of *secrets* replaced by ``***``; empty secrets are ignored."""
    for secret in sorted((s for s in secrets if s), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def printable(text: str) -> str:
    """*text* on one line, safe for a terminal, a log and a mail: control and format characters escaped (N04)."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
