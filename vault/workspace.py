"""A run's private directory on the worker: held by a lock that dies with the process, swept by the next run."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from tempfile import mkdtemp

from vault.errors import ConfigError, SpoolError

_LOCK = "lock"


def default_root() -> Path:
    """``$BACKUPS_WORK_DIR``, else ``prefect-backups`` in the user's cache directory (F06)."""
    chosen = os.environ.get("BACKUPS_WORK_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "prefect-backups"


class Workspace:
    """A directory (0700) of one run. ``remove`` it at the end; what a killed run left, ``sweep`` removes."""

    def __init__(self, root: Path, name: str) -> None:
        """Make it below *root*. ``SpoolError`` when the disk does not let us, ``ConfigError`` for a foreign root."""
        self.root = root
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            if root.stat().st_uid != os.getuid():
                raise ConfigError(
                    f"the work directory {root} belongs to somebody else",
                    "Set BACKUPS_WORK_DIR to a directory of your own.",
                )
            self.path = Path(mkdtemp(prefix=f"{name}.", dir=root))
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OSError as error:
            raise SpoolError(
                f"the work directory {root} cannot be used: {error.strerror}",
                "Free space there, or set BACKUPS_WORK_DIR to a directory on a larger disk.",
            ) from error

    def remove(self) -> None:
        """Delete everything in it. May be called twice."""
        shutil.rmtree(self.path, ignore_errors=False, onerror=_raise_unless_gone)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def sweep(root: Path) -> list[Path]:
    """Remove the directories below *root* whose runs are dead; returns those removed."""
    removed: list[Path] = []
    if not root.is_dir() or root.stat().st_uid != os.getuid():
        return removed
    for entry in os.scandir(root):
        if entry.is_dir(follow_symlinks=False) and _is_dead(Path(entry.path)):
            shutil.rmtree(entry.path, onerror=_raise_unless_gone)
            removed.append(Path(entry.path))
    return removed


def _is_dead(path: Path) -> bool:
    try:
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False  # being made right now, or not ours
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def _raise_unless_gone(_function: object, path: str, problem: object) -> None:
    error = problem[1] if isinstance(problem, tuple) else problem
    if isinstance(error, FileNotFoundError):
        return
    raise SpoolError(f"{path} cannot be removed: {error}")
