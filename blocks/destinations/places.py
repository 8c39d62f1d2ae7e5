"""What destinations with directories have in common: the marker file in the root, and names of unfinished uploads.

The marker says that this is the disk it was: below an empty mount point, or on another disk, nothing happens (D05).
"""

from __future__ import annotations

import json
import re
import secrets
from datetime import timedelta

from vault.errors import DestinationError
from vault.store import PARTIAL_SUFFIX

MARKER = ".prefect-backups.json"
GRACE = timedelta(hours=24)
"""So long an unfinished upload is left alone after somebody wrote to it."""

_PARTIAL = re.compile(r"\.(.+)\.[0-9a-f]{16}" + re.escape(PARTIAL_SUFFIX))
_HARMLESS = {"lost+found"}


def partial_name(name: str) -> str:
    """A new name for the unfinished object *name*, which no listing shows."""
    return f".{name}.{secrets.token_hex(8)}{PARTIAL_SUFFIX}"


def finished_name(partial: str) -> str | None:
    """The name that *partial* is to get; None where we have not named it."""
    found = _PARTIAL.fullmatch(partial)
    return found[1] if found else None


def new_marker() -> bytes:
    """The content of a marker file, with an id of its own."""
    return (json.dumps({"format": 1, "id": secrets.token_hex(16)}) + "\n").encode()


def marker_id(content: bytes) -> str:
    """The id in a marker file."""
    try:
        document = json.loads(content)
        if document["format"] == 1 and re.fullmatch("[0-9a-f]{32}", document["id"]):
            return str(document["id"])
    except (ValueError, TypeError, KeyError):
        pass
    raise DestinationError(
        f"the marker file {MARKER} cannot be understood", "Use the version of prefect-backups that wrote it."
    )


def check_marker(location: str, found: str | None, wanted: str) -> None:
    """Pass when the marker that was *found* is the *wanted* one; where none is wanted yet, any will do."""
    if not found:
        raise not_mounted(location)
    if wanted and found != wanted:
        raise DestinationError(
            f"{location} is not the disk that it was: it has another marker file {MARKER}",
            "Mount the right one, or add this one as a destination of its own.",
        )


def not_mounted(location: str) -> DestinationError:
    """There is no root, or none that was claimed."""
    return DestinationError(
        f"{location} is not there, or has no marker file {MARKER}: is its disk mounted?",
        "Mount it. If it is new, add it with `backups destination add`.",
    )


def refuse_foreign(location: str, names: set[str], adopt: bool) -> None:
    """Pass when the root holds nothing but our own beginnings, or is to be adopted with all that it holds."""
    if adopt or all(name.startswith(MARKER) for name in names - _HARMLESS):
        return
    raise DestinationError(
        f"{location} holds other things, so it is not taken for backups",
        f"Give a new or an empty directory, such as {location}/backups.",
    )
