"""Where backups go: one file per kind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field

from blocks.destinations.b2 import B2Destination
from blocks.destinations.base import Destination, Upload
from blocks.destinations.google_drive import GoogleDriveDestination
from blocks.destinations.local import LocalDestination
from blocks.destinations.sftp import SftpDestination
from blocks.loading import find, load
from vault.errors import ConfigError
from vault.store import PLACE_PATTERN, absolute, is_path

DESTINATIONS: dict[str, type[Destination]] = {
    "local-destination": LocalDestination,
    "b2-destination": B2Destination,
    "google-drive-destination": GoogleDriveDestination,
    "sftp-destination": SftpDestination,
}
"""Every kind, by its block type's slug."""

Place = Annotated[str, Field(pattern=PLACE_PATTERN)]
"""What ``destination_from`` takes, as a parameter of a flow."""


def check_place(text: str) -> str:
    """*text*, a path from the root on, when it can be a destination: looked at before it becomes a parameter of a run.

    ``ConfigError`` where it cannot; it is not quoted, for who gives the URL of a server may give a password in it.
    """
    if not re.fullmatch(PLACE_PATTERN, text):
        raise ConfigError(
            "this is neither a saved destination nor a path",
            "Give its name, see `backups destination list`; or a path, which begins with '/', '.' or '~'.",
        )
    return absolute(text) if is_path(text) else text


def destination_from(text: str) -> Destination:
    """What *text* means: a path (with a ``/`` at its beginning, or after dots or ``~``), else a saved destination."""
    if is_path(text):
        return LocalDestination(root=Path(absolute(text)))
    return load(find(text, DESTINATIONS, "destination"), Destination)  # type: ignore[type-abstract]


__all__ = [
    "DESTINATIONS",
    "B2Destination",
    "Destination",
    "GoogleDriveDestination",
    "LocalDestination",
    "Place",
    "SftpDestination",
    "Upload",
    "check_place",
    "destination_from",
]
