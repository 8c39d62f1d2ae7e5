"""Commit: write the record, last of all: from then on the backup exists at that destination."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import task

from tasks.policy import STEP
from tasks.run import Committed, Run
from vault.catalog import Catalog
from vault.log import about
from vault.milestone import milestone
from vault.record import Artifact, BackupRecord, utc


def commit_record(run: Run, destination: str, artifacts: tuple[Artifact, ...]) -> Committed:
    """The record as it lies at *destination*; writing the same one again is no error (O04)."""
    run.completed_at = run.completed_at or max(datetime.now(UTC), run.id.created_at)
    record = BackupRecord(
        id=str(run.id),
        app=run.app,
        type=run.id.type,
        created_at=utc(run.id.created_at),
        completed_at=utc(run.completed_at),
        producer=run.producer,
        artifacts=artifacts,
        offset=run.offset,
        warnings=tuple(run.remarks),
        held=tuple(run.held),
    )
    milestone("commit:before")
    run.committing.add(destination)
    try:
        catalog = Catalog(run.destinations[destination], run.app, run.keyring.trust)
        stored = catalog.commit(record, run.keyring.signer)
        run.committed[destination] = Committed(record, stored.modified)
    finally:
        run.committing.discard(destination)
    milestone("commit:done")
    return run.committed[destination]


@task(name="commit", task_run_name="commit at {destination}", **STEP)
def commit(run: Run, destination: str, artifacts: tuple[Artifact, ...]) -> Committed:
    """See ``commit_record``."""
    with about(destination=destination):
        return commit_record(run, destination, artifacts)
