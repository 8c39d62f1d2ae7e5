"""Backups that were committed without a run: bytes and a signed record, in milliseconds."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from blocks.destinations import Destination
from vault.catalog import Catalog
from vault.record import Artifact, BackupId, BackupRecord, artifact_key, utc
from vault.signing import Signer, Trust
from vault.spool import Segment


def put(place: Destination, key: str, data: bytes) -> None:
    """An object."""
    upload = place.upload(key)
    upload.append(Segment.of(data))
    upload.commit()


def commit(
    place: Destination, app: str, signer: Signer, contents: dict[str, bytes], at: datetime | None = None
) -> BackupRecord:
    """A backup of *app* with one artifact for each source in *contents*."""
    backup_id = BackupId.new(at or datetime.now(UTC), "files")
    artifacts = []
    for source, data in contents.items():
        key, digest = artifact_key(app, backup_id, source, "tar.age"), hashlib.sha256(data).hexdigest()
        put(place, key, data)
        artifacts.append(
            Artifact(
                source=source,
                kind="directory",
                key=key,
                size=len(data),
                sha256=digest,
                plain_size=len(data),
                plain_sha256=digest,
                compression="none",
                tool="tar",
                seconds={"dump": 1.0, "upload": 2.0},
                verified="server-digest",
                restore_with="tar -x",
            )
        )
    record = BackupRecord(
        id=str(backup_id),
        app=app,
        type="files",
        created_at=utc(backup_id.created_at),
        completed_at=utc(backup_id.created_at),
        producer={"host": "elsewhere"},
        artifacts=tuple(artifacts),
    )
    Catalog(place, app, Trust.of([signer.public_key])).commit(record, signer)
    return record
