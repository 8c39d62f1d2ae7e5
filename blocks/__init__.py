"""Doors to the world, with credentials: every block of this project, for ``prefect block register -m blocks``."""

from blocks.app import App
from blocks.destinations import B2Destination, GoogleDriveDestination, LocalDestination, SftpDestination
from blocks.servers import LocalServer
from blocks.signing_key import SigningKey
from blocks.sources import Directory, PostgresDatabase, SqliteDatabase

__all__ = [
    "App",
    "B2Destination",
    "Directory",
    "GoogleDriveDestination",
    "LocalDestination",
    "LocalServer",
    "PostgresDatabase",
    "SftpDestination",
    "SigningKey",
    "SqliteDatabase",
]
