"""A run's private directory on the worker: held by a lock that dies with the process, swept by the next run."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

from vault.errors import ConfigError, SpoolError

_LOCK = "lock"
_TURNS = "turns"
_ELSEWHERE = "Free space there, or set BACKUPS_WORK_DIR to a directory on a larger disk."


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
            _make_root(root)
            self.path = Path(mkdtemp(prefix=f"{name}.", dir=root))
            new = self.path / f"{_LOCK}.new"
            self._lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            new.rename(self.path / _LOCK)  # a sweeper never sees it unlocked
        except OSError as error:
            raise SpoolError(
                f"the work directory {root} cannot be used: {error.strerror}",
                _ELSEWHERE,
            ) from error

    def remove(self) -> None:
        """Delete everything in it. May be called twice."""
        shutil.rmtree(self.path, ignore_errors=False, onerror=_raise_unless_gone)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class Turn:
    """The right to be the only run of *name* on this machine; the next one waits. It ends with the process (X01)."""

    def __init__(self, root: Path, name: str) -> None:
        self._path = root / _TURNS / f"{name}.lock"
        self._lock = -1

    def take(self, waiting: Callable[[], None]) -> None:
        """Return when it is our turn; *waiting* is called once where somebody else has it now."""
        try:
            _make_root(self._path.parent.parent)
            self._path.parent.mkdir(exist_ok=True, mode=0o700)
            self._lock = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise SpoolError(f"{self._path} cannot be made: {error.strerror}", _ELSEWHERE) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def end(self) -> None:
        """Let the next one go on. May be called twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def turns() -> Path:
    """Where runs leave what has to outlive them: whose turn it is, and what they did not come to."""
    return default_root() / _TURNS


def _make_root(root: Path) -> None:
    root.parent.mkdir(parents=True, exist_ok=True)
    root.mkdir(exist_ok=True, mode=0o700)
    if root.stat().st_uid != os.getuid():
        raise ConfigError(
            f"the work directory {root} belongs to somebody else", "Set BACKUPS_WORK_DIR to a directory of your own."
        )


def contains(outer: Path, inner: Path) -> bool:
    """Whether *inner* is *outer* or lies in it, symbolic links followed."""
    return Path(os.path.realpath(inner)).is_relative_to(os.path.realpath(outer))


def leftovers(root: Path) -> list[Path]:
    """What runs, living or dead, have in *root* now."""
    return [path for path in root.iterdir() if path.name != _TURNS] if root.is_dir() else []


def sweep(root: Path) -> list[Path]:
    """Remove the directories below *root* whose runs are dead; returns those removed."""
    removed: list[Path] = []
    if not root.is_dir() or root.stat().st_uid != os.getuid():
        return removed
    for path in leftovers(root):
        if path.is_dir() and not path.is_symlink() and _is_dead(path):
            shutil.rmtree(path, onerror=_raise_unless_gone)
            removed.append(path)
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
