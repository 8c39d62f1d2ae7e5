"""The key that encrypts Prefect's blocks: in a file of its own (0600), outside of the database that it protects.

Each Prefect server that we start gets it in its environment; whoever sets PREFECT_SERVER_ENCRYPTION_KEY keeps the
key himself. To change the key is to write ``encryption.key.new``, to bring every block under it in one transaction,
and to rename it: whoever finds that file goes on where the last one was killed. All servers of ours hold a lock
together, which lives as long as they do; who changes the key holds it alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cli.fernet_file import checked_key, read_key, sync_directory, write_new_key
from cli.home import own_files, prefect_database, prefect_home
from cli.output import note
from cli.reencrypt import Contents
from cli.reencrypt_sqlite import SqliteFile
from vault.errors import BackupError, ConfigError
from vault.milestone import milestone

VARIABLES = ("PREFECT_SERVER_ENCRYPTION_KEY", "ORION_ENCRYPTION_KEY")
_NAP = 0.02
_PATIENCE = 60.0  # seconds for another command to change the key


def key_file() -> Path:
    """Where the key lies: ``encryption.key``, or another name for another database than Prefect's usual one."""
    database, usual = prefect_database(), prefect_home() / "prefect.db"
    other = "" if database in (None, usual) else f"-{hashlib.sha256(str(database).encode()).hexdigest()[:12]}"
    return own_files() / f"encryption{other}.key"


def _next_file() -> Path:
    return key_file().with_suffix(".key.new")


@dataclass(frozen=True)
class Lease:
    """What a server that starts now is given: its environment, and the lock that it holds while it lives."""

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: tuple[int, ...] = ()

    def close(self) -> None:
        """Leave the lock to the server."""
        for file in self.files:
            os.close(file)


def lease() -> Lease:
    """The key for a server that starts now. Every block in its database can be decrypted with it."""
    database = prefect_database()
    own = users_own()
    if database is None or own is not None:
        if database is not None and own is not None:
            _refuse_unreadable(database, SqliteFile(database).contents(), own, VARIABLES[0])
        return Lease()
    lock = _open_lock()
    try:
        key = _settled_key(lock, database)
    except BaseException:
        os.close(lock)
        raise
    return Lease({VARIABLES[0]: key} if key else {}, (lock,))


def advice() -> str | None:
    """What to tell who starts a server whose blocks are not protected by a key outside of its database."""
    if users_own() is not None or key_file().exists():
        return None
    if prefect_database() is None:
        return (
            f"Blocks are encrypted with a key in their own database, until you set {VARIABLES[0]}."
            " `backups keys rotate --new-key-file FILE` takes it out of there."
        )
    return "Blocks are encrypted with a key in their own database; `backups keys rotate` takes it out of there."


def rotate() -> int:
    """Bring all blocks under a new key, which replaces the one in the file; returns how many blocks there are."""
    database = _rotatable()
    lock = _open_lock()
    try:
        if not _try_alone(lock):
            raise ConfigError(
                "a Prefect server of another `backups` command is running on this database",
                "Wait for that command to end, or end it; then rotate.",
            )
        SqliteFile(database).refuse_users()
        return _change_key(database)
    finally:
        os.close(lock)


def _rotatable() -> Path:
    if users_own() is not None:
        raise ConfigError(
            f"{VARIABLES[0]} is set: you keep the key yourself",
            "Name a file for the new one: --new-key-file FILE. To have the key kept and rotated here instead, write it"
            f" into {key_file()} (0600), and unset the variable.",
        )
    database = prefect_database()
    if database is None:
        raise ConfigError(
            "Prefect's database is not an SQLite file, and only of such a one the key is kept and rotated here",
            f"Keep it yourself, in {VARIABLES[0]}. To change it, name a file for the new one: --new-key-file FILE.",
        )
    if not database.exists():
        raise ConfigError(f"there is no Prefect database {database}", "It is made by the first command that needs it.")
    return database


def _settled_key(lock: int, database: Path) -> str | None:
    """The key, with the lock held together with other servers; None where Prefect keeps a key of its own."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        fcntl.flock(lock, fcntl.LOCK_SH)  # waits for whoever changes the key
        if not _next_file().exists():
            key = read_key(key_file())
            found = SqliteFile(database).contents()
            if key is not None:
                return _adopted(database, found, key)
            if not _may_begin(found, database):
                _refuse_unreadable(database, found, found.own_key, f"{database} itself")
                return None
        if _try_alone(lock):
            _change_key(database)
        elif time.monotonic() > deadline:
            raise BackupError(
                f"another process holds {_lock_file()}, so the key of Prefect's blocks cannot be settled",
                "End the other `backups` commands of this machine, then try again.",
            )
        else:  # another command is about to do it
            time.sleep(_NAP)


def _adopted(database: Path, found: Contents, key: str) -> str:
    """Blocks that a server without our key has saved since come under it too."""
    if found.own_key is None:
        _refuse_unreadable(database, found, key, str(key_file()))
        return key
    strangers, alone = found.unreadable(key), not SqliteFile(database).users()
    if strangers or alone:
        SqliteFile(database).bring_under(key, alone=alone)
    if strangers:
        note(f"{len(strangers)} blocks that another Prefect server has saved are encrypted with {key_file()} now.")
        note(f"  It cannot read them until it has that key: set {VARIABLES[0]} in its environment.")
    return key


def _may_begin(found: Contents, database: Path) -> bool:
    """Whether the key may move out of the database: not while others use it, who would not find it any more."""
    if found.blocks:
        from deployments.register import block_types

        if not {block.kind for block in found.blocks} <= {kind.get_block_type_name() for kind in block_types()}:
            return False
    return found == Contents() or not SqliteFile(database).users()


def _change_key(database: Path) -> int:
    """With the lock held alone: a new key for everything, or that of a change that was interrupted."""
    interrupted = read_key(_next_file())
    key, before = interrupted or write_new_key(_next_file()), read_key(key_file())
    milestone("rotate:written")
    try:
        old = [before] if before else []
        count = SqliteFile(database).bring_under(key, *old, alone=True) if database.exists() else 0
    except ConfigError as error:
        if interrupted is None:  # nothing was changed, and nothing can be under the new key yet
            _next_file().unlink()
        raise ConfigError(error.message, _put_back(database)) from error
    os.replace(_next_file(), key_file())
    sync_directory(own_files())
    milestone("rotate:switched")
    return count


def _refuse_unreadable(database: Path, found: Contents, key: str | None, where: str) -> None:
    """Prefect's server would answer with an error 500 to whatever it is asked of blocks, and not say why."""
    for block in found.unreadable(checked_key(key, where)) if key else found.blocks:
        raise ConfigError(
            f"block {block} was not encrypted with the key in {where}",
            _put_back(database),
        )


def _put_back(database: Path) -> str:
    return (
        f"Put the key back with which it was saved, into {key_file()} or {VARIABLES[0]}. If that key is lost, so are"
        f" those blocks, and no backup: move {database} away, save the blocks again, and see `backups list --from`."
    )


def users_own() -> str | None:
    """The key that the user keeps, and gives to his Prefect servers."""
    return next(filter(None, map(os.environ.get, VARIABLES)), None)


def _lock_file() -> Path:
    return key_file().with_suffix(".lock")


def _open_lock() -> int:
    own_files().mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.open(_lock_file(), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _try_alone(lock: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
