"""What lies at a destination, and what still fits there."""

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Lock

from blocks.destinations import Destination
from blocks.loading import load
from console.listing import LISTING
from console.problems import Problem
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


def known(names: Collection[str]) -> dict[str, Held]:
    """What lies at each of *names*, as the list of backups has it; without those that could not be listed yet."""
    try:
        look = LISTING.look(_PATIENCE)
    except Problem:
        return {}
    unread = {trouble.name for trouble in look.troubles}
    found = {name: Held(0, 0) for name in names if name in look.destinations and name not in unread}
    for copy in (copy for entry in look.backups.entries for copy in entry.copies):
        before = found.get(copy.destination)
        if before is not None:
            found[copy.destination] = Held(before.backups + 1, before.size + (copy.size or 0))
    return found


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
