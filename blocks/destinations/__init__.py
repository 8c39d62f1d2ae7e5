"""Where backups go: one file per kind."""

from __future__ import annotations

from pathlib import Path

from blocks.destinations.b2 import B2Destination
from blocks.destinations.base import Destination, Upload
from blocks.destinations.google_drive import GoogleDriveDestination
from blocks.destinations.local import LocalDestination
from blocks.destinations.sftp import SftpDestination
from blocks.loading import find, load
from vault.store import absolute, is_path

DESTINATIONS: dict[str, type[Destination]] = {
    "local-destination": LocalDestination,
    "b2-destination": B2Destination,
    "google-drive-destination": GoogleDriveDestination,
    "sftp-destination": SftpDestination,
}
"""Every kind, by its block type's slug."""


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
    "SftpDestination",
    "Upload",
    "destination_from",
]
