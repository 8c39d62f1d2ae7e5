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

from cryptography.fernet import Fernet

from cli.home import own_files, prefect_database, prefect_home
from cli.output import note
from cli.reencrypt import Contents, bring_under, contents, users
from vault.errors import BackupError, ConfigError, printable
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
    own = _users_own()
    if database is None or own is not None:
        if database is not None and own is not None:
            _refuse_unreadable(database, contents(database), own, VARIABLES[0])
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
    if _users_own() is not None or key_file().exists():
        return None
    if prefect_database() is None:
        return f"Blocks are encrypted with a key in their own database, until you set {VARIABLES[0]}."
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
        others = users(database)
        if others:
            pid, argv = next(iter(others.items()))
            raise ConfigError(
                f"process {pid} uses Prefect's database {database}: {argv}",
                "End it first; a server that runs on would go on with the old key.",
            )
        return _change_key(database)
    finally:
        os.close(lock)


def _rotatable() -> Path:
    if _users_own() is not None:
        raise ConfigError(
            f"{VARIABLES[0]} is set: you keep the key yourself",
            f"To have it kept and rotated here, write it into {key_file()} (0600), and unset the variable.",
        )
    database = prefect_database()
    if database is None:
        raise ConfigError(
            "Prefect's database is not an SQLite file, and only of such a one the key is kept and rotated here",
            f"Keep that key yourself, in {VARIABLES[0]}.",
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
            key = _read(key_file())
            found = contents(database)
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
    strangers, alone = found.unreadable(key), not users(database)
    if strangers or alone:
        bring_under(database, key, None, alone=alone)
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
    return found == Contents() or not users(database)


def _change_key(database: Path) -> int:
    """With the lock held alone: a new key for everything, or that of a change that was interrupted."""
    interrupted = _read(_next_file())
    key, before = interrupted or Fernet.generate_key().decode(), _read(key_file())
    if interrupted is None:
        _write_new(_next_file(), key)
    milestone("rotate:written")
    try:
        count = bring_under(database, key, before, alone=True) if database.exists() else 0
    except ConfigError as error:
        if interrupted is None:  # nothing was changed, and nothing can be under the new key yet
            _next_file().unlink()
        raise ConfigError(error.message, _put_back(database)) from error
    os.replace(_next_file(), key_file())
    _sync(own_files())
    milestone("rotate:switched")
    return count


def _refuse_unreadable(database: Path, found: Contents, key: str | None, where: str) -> None:
    """Prefect's server would answer with an error 500 to whatever it is asked of blocks, and not say why."""
    for block in found.unreadable(_checked(key, where)) if key else found.blocks:
        raise ConfigError(
            f"block {printable(block.name)} ({printable(block.kind)}) was not encrypted with the key in {where}",
            _put_back(database),
        )


def _put_back(database: Path) -> str:
    return (
        f"Put the key back with which it was saved, into {key_file()} or {VARIABLES[0]}. If that key is lost, so are"
        f" those blocks, and no backup: move {database} away, save the blocks again, and see `backups list --from`."
    )


def _users_own() -> str | None:
    return next(filter(None, map(os.environ.get, VARIABLES)), None)


def _read(path: Path) -> str | None:
    """The key in *path*; None where there is no such file."""
    try:
        with open(path, opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW)) as file:
            mode = os.fstat(file.fileno()).st_mode
            key = file.read(1024).strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigError(f"others may read {path}", f"Take that right away: chmod 600 {path}; then rotate the key.")
    return _checked(key, str(path))


def _checked(key: str, where: str) -> str:
    try:
        Fernet(key)
    except ValueError:
        raise ConfigError(f"{where} holds no Fernet key", "It has 44 characters; put back the one there was.") from None
    return key


def _write_new(path: Path, key: str) -> None:
    """Whole or not at all: a kill in between leaves only a file that the next one replaces."""
    draft = path.with_suffix(".draft")
    try:
        draft.unlink(missing_ok=True)
        with open(draft, "x", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600)) as file:
            file.write(f"{key}\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        _sync(path.parent)
    except OSError as error:
        raise BackupError(f"{path} cannot be written: {error.strerror}") from error


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
