"""What lies at a destination, and what still fits there."""

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Lock

from blocks.destinations import Destination
from blocks.loading import load
from vault.errors import BackupError
from vault.record import BackupId, backup_of

_PATIENCE, _FRESH = 3.0, 300.0  # seconds: to wait for an answer, and for which one holds
_asking = ThreadPoolExecutor(max_workers=4, thread_name_prefix="free-space")
_lock = Lock()
_asked: dict[str, Future[int | None]] = {}
_known: dict[str, tuple[float, int | None]] = {}


@dataclass(frozen=True)
class Held:
    """The backups at a destination, of all apps: how many, bytes of all objects, and the newest."""

    backups: int
    size: int
    newest: BackupId | None = None

    def __str__(self) -> str:
        plural = "backup" if self.backups == 1 else "backups"
        return f"{self.backups} {plural} there" + (f", the newest {self.newest}" if self.newest else "")


def held_at(ref: str) -> Held:
    """What lies there now. Raises what the destination raises where it cannot be listed."""
    door = load(ref, Destination)  # type: ignore[type-abstract]
    found, size = [], 0
    for stored in door.list(""):
        size += stored.size
        backup_id = backup_of(stored.key)
        if backup_id is not None and stored.key.endswith(f"/{backup_id}.json"):
            found.append(backup_id)
    return Held(len(found), size, max(found, key=BackupId.order, default=None))


def known(ref: str) -> Held | None:
    """What was listed last; None before it was."""
    del ref
    return None


def free_space(refs: Collection[str]) -> dict[str, int | None]:
    """Bytes that still fit, each where it is known: asked at most every five minutes, and not waited for long."""
    now = time.monotonic()
    with _lock:
        for ref in refs:
            if ref not in _asked and now - _known.get(ref, (-_FRESH, None))[0] >= _FRESH:
                _asked[ref] = _asking.submit(_ask, ref)
        running = [_asked[ref] for ref in refs if ref in _asked]
    wait(running, timeout=_PATIENCE)
    return {ref: _known.get(ref, (0.0, None))[1] for ref in refs}


def forget(ref: str) -> None:
    """It was changed: what was known of it no longer holds."""
    with _lock:
        _known.pop(ref, None)


def _ask(ref: str) -> int | None:
    found: int | None = None
    try:
        found = load(ref, Destination).free_space()  # type: ignore[type-abstract]
    except BackupError:
        pass  # its test says what is wrong
    finally:
        with _lock:
            _known[ref] = time.monotonic(), found
            _asked.pop(ref, None)
    return found
