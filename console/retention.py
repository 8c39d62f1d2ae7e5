"""What a retention policy would keep today, before anybody saves it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from blocks.signing_key import keyring
from console.apps import app_ref
from console.models.common import Trouble
from console.models.schedules import PreviewAt, PreviewRow, RetentionPreview
from tasks.prune import Pruned, Pruning, Saved, prune_at
from vault.errors import BackupError
from vault.plan import MAX_DELETES
from vault.record import BackupId, BackupType, utc
from vault.retention import RetentionPolicy


def retention_preview(
    app: str,
    type: BackupType | None = None,
    keep: RetentionPolicy | None = None,
    keep_at: dict[str, RetentionPolicy] | None = None,
    instead_of: str | None = None,
) -> RetentionPreview:
    """Whether each backup of *app* would stay, and why, by destination and type. Nothing is deleted.

    What its schedules keep stays too, but for that of the schedule *instead_of*, whose place the policy takes.
    ``Problem`` 404 where there is no such app; ``ConfigError`` where nothing says what is to stay.
    """
    app_ref(app)
    saved = Saved.read(app)
    places = saved.places(None)
    keepers = saved.keepers(keep, keep_at or {}, places, [instead_of] if instead_of else [])
    pruning = Pruning(
        app, places, keyring().trust, type, keepers, max_deletes=MAX_DELETES, accept_missing=False, dry_run=True
    )
    with ThreadPoolExecutor(max_workers=8) as pool:
        found = pool.map(lambda name: _judged(pruning, name), places)
    return RetentionPreview(app=app, places=[at for ats in found for at in ats], as_of=utc(datetime.now(UTC)))


def _judged(pruning: Pruning, name: str) -> list[PreviewAt]:
    try:
        judged = [one for one in prune_at(pruning, name) if one.judged or one.error]
        return [_at(one) for one in judged] or [PreviewAt(destination=name)]
    except BackupError as error:
        return [PreviewAt(destination=name, trouble=Trouble.of(name, error))]


def _at(one: Pruned) -> PreviewAt:
    if one.error is not None or one.judged is None:
        trouble = Trouble.of(one.destination, one.error) if one.error else None
        return PreviewAt(destination=one.destination, type=one.type, trouble=trouble)
    rows = [
        PreviewRow(
            id=row["backup"],
            created_at=utc(BackupId.parse(row["backup"]).created_at),
            size=row["size"],
            stays=row["stays"],
            why=row["why"],
        )
        for row in one.judged.rows()
    ]
    go = len(one.judged.go)
    refused = f"A run would delete nothing: {one.judged.refused}" if one.judged.refused else ""
    return PreviewAt(
        destination=one.destination,
        type=one.type,
        stay=len(rows) - go,
        go=go,
        backups=rows,
        note=refused,
    )
