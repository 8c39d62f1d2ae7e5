"""The key of Prefect's blocks where the user keeps it, as in production: in what the servers' environment is read from.

To change it is to bring every block under the key of a new file. The old one stays where it is, and no file of the
user's is changed: until his servers are told the new one, both are there.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from cli.api import refuse_running_server
from cli.encryption_key import VARIABLES, users_own
from cli.fernet_file import checked_key, read_key, read_private, write_new_key
from cli.home import URL_VARIABLE, database_url, prefect_database
from cli.reencrypt import PrefectDatabase
from vault.errors import ConfigError
from vault.milestone import milestone

_NOT_LOST = "Name the file of the key with which they were saved: --old-key-file FILE. Nothing was changed."


@dataclass(frozen=True)
class ServerEnvironment:
    """The file *path* with what Prefect's servers have in their environment; *line* is where it names their key."""

    path: Path
    line: int
    variables: dict[str, str] = field(repr=False)

    def use(self) -> None:
        """From here on, this process has what the servers have."""
        os.environ.update(self.variables)


@dataclass(frozen=True)
class Rotated:
    """How many *blocks* are in *database* under the new key; *told*: the servers' environment says that key already."""

    blocks: int
    database: str
    told: bool


def server_environment(path: Path) -> ServerEnvironment:
    """What systemd or Compose reads from *path*."""
    text = read_private(path)
    if text is None:
        raise ConfigError(f"there is no file {path}", "`deployments/new-secrets` makes one: server.env.")
    found, lines = {}, {}
    for number, line in enumerate(text.splitlines(), 1):
        pair = re.fullmatch(r"\s*(\w+)=(.*?)\s*", line)
        if pair:
            found[pair[1]] = re.sub(r"""^(["'])(.*)\1$""", r"\2", pair[2])
            lines[pair[1]] = number
    return ServerEnvironment(path, next((lines[name] for name in VARIABLES if name in lines), 0), found)


def rotate_kept(new: Path, old: Path | None) -> Rotated:
    """Bring all blocks under the key in *new*, which is made where it does not exist.

    What they are under is the key in *old*, that in our environment, Prefect's own, or already the new one.
    ``ConfigError``, and no block is changed, while a server runs, or where one can be decrypted with none of them.
    """
    database, before = _database(), _old_keys(old)
    found, key = database.contents(), read_key(new)
    if key is not None and found.own_key is None and not found.unreadable(key):
        return Rotated(len(found.blocks), str(database), users_own() == key)
    found.refuse_lost(*before, *([key] if key else []), remedy=_NOT_LOST)
    database.refuse_users()
    refuse_running_server()
    key = key or write_new_key(new)
    milestone("rotate:written")
    return Rotated(database.bring_under(key, *before, alone=True), str(database), users_own() == key)


def _database() -> PrefectDatabase:
    file, url = prefect_database(), database_url() or ""
    if file is not None:
        from cli.reencrypt_sqlite import SqliteFile

        if users_own() is None:
            raise ConfigError(
                f"the key of {file} is kept here, or the one that its servers have is not known here",
                f"Without --new-key-file it is changed and kept here; else set {VARIABLES[0]}, or name --server-env.",
            )
        return SqliteFile(file)
    if not url.startswith("postgresql"):
        raise ConfigError(
            "where Prefect's server keeps its database is not known here",
            f"Set {URL_VARIABLE} as the server has it, or name the file that it is in: --server-env FILE.",
        )
    from cli.reencrypt_postgres import PostgresUrl

    return PostgresUrl(url)


def _old_keys(old: Path | None) -> list[str]:
    in_file, in_use = read_key(old) if old else None, users_own()
    if old and in_file is None:
        raise ConfigError(f"there is no file {old}", "It is to hold the old key; it is not made.")
    return [key for key in (in_file, checked_key(in_use, VARIABLES[0]) if in_use else None) if key]


def what_next(done: Rotated, environment: ServerEnvironment | None) -> str:
    """What a person has to do now, in its order."""
    if done.told:
        return (
            "The servers' environment says that key. Where they all have been started since, and on every machine, the"
            " old key can go: only backups of this database from before still need it."
        )
    if environment is None:
        where = f"{VARIABLES[0]} has to be that key wherever a Prefect server is started (--server-env FILE says where)"
    elif environment.line:
        where = f"Line {environment.line} of {environment.path}, {VARIABLES[0]}=…, has to say that key"
    else:
        where = f"{environment.path} needs a line {VARIABLES[0]}=… with that key"
    return (
        "Both keys are needed until this is done, in this order:\n"
        f"  1. {where}, on every machine with a Prefect server. Leave the old key as a comment (#) there.\n"
        "  2. Start the API servers: systemctl start prefect-api@4201 prefect-api@4202\n"
        "  3. Then the services: systemctl start prefect-services (in containers, both: docker compose up --detach)\n"
        "  4. Run this command again: it says whether the old key can go.\n"
        "Workers, commands and the console have no key, and go on as they are."
    )
