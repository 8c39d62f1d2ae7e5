"""Doors to the world, with credentials: every block of this project, for ``prefect block register -m blocks``."""

from blocks.app import App
from blocks.console_accounts import ConsoleAccounts
from blocks.destinations import B2Destination, GoogleDriveDestination, LocalDestination, SftpDestination
from blocks.mailer import Mailer
from blocks.ping import Ping
from blocks.servers import LocalServer
from blocks.signing_key import SigningKey
from blocks.sources import (
    Directory,
    DockerVolume,
    MySQLDatabase,
    PostgresDatabase,
    RedisDatabase,
    RedisFile,
    SqliteDatabase,
)
from blocks.ssh_server import SshServer

__all__ = [
    "App",
    "B2Destination",
    "ConsoleAccounts",
    "Directory",
    "DockerVolume",
    "GoogleDriveDestination",
    "LocalDestination",
    "LocalServer",
    "Mailer",
    "MySQLDatabase",
    "Ping",
    "PostgresDatabase",
    "RedisDatabase",
    "RedisFile",
    "SftpDestination",
    "SigningKey",
    "SqliteDatabase",
    "SshServer",
]
