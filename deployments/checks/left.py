"""What lies at destinations and no policy lets go: orphans, and what restores backed up before they replaced it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from blocks.destinations.base import Destination
from blocks.loading import block_name
from deployments.checks.apps import Inventory
from deployments.checks.finding import Check, Finding, ok, skipped, warning
from vault.errors import BackupError
from vault.garbage import GRACE, SAFETY, Left, survey
from vault.units import human


def left(inventory: Inventory) -> dict[str, Check]:
    """A check for each destination, which lists it whole and reads no record."""
    return dict(_look(block_name(ref), door) for ref, door in inventory.destinations.items())


def _look(name: str, door: Destination) -> tuple[str, Check]:
    check = f"left at {name}"

    def look() -> Iterator[Finding]:
        try:
            apps = survey(door.list(""))
        except BackupError:
            yield skipped(check, f"it cannot be listed: see destination {name}")
            return
        before = datetime.now(UTC) - GRACE  # what is younger may be that of a run
        orphans = {app: [one for one in found.orphans if one.newest < before] for app, found in apps.items()}
        orphans = {app: found for app, found in orphans.items() if found}
        if orphans:
            said = _each({app: (len(found), sum(one.size for one in found)) for app, found in orphans.items()})
            how = "\n".join(f"backups prune {app} --orphans --to {name} --dry-run" for app in orphans)
            yield warning(check, f"artifacts of backups that have no record: {said}", how)
        else:
            yield ok(check, "each artifact has its record")
        safe = {app: found for app, found in apps.items() if app.endswith(SAFETY) and found.backups}
        if safe:
            yield _safety(check, name, safe)

    return check, look


def _safety(check: str, name: str, safe: dict[str, Left]) -> Finding:
    said = _each({app: (found.backups, found.size) for app, found in safe.items()})
    how = "\n".join(f"backups prune {app} --keep-last 1 --to {name} --dry-run" for app in safe)
    return Finding(
        "ok", check, f"made before a restore replaced something, and kept until somebody prunes: {said}", how
    )


def _each(counted: dict[str, tuple[int, int]]) -> str:
    return ", ".join(f"{number} of {app} ({human(size)})" for app, (number, size) in counted.items())
