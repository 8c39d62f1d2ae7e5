"""Upload: follow the spool to one destination; a retry goes on where the destination stands."""

from __future__ import annotations

from prefect import task

from blocks.destinations.base import Upload
from tasks.policy import STEP, is_final
from tasks.run import Transfer
from vault.errors import BackupError
from vault.milestone import milestone
from vault.store import StoredObject


def upload_spool(transfer: Transfer, destination: str) -> StoredObject:
    """The object is committed under its key only after the dump was proven whole."""
    reader = transfer.readers[destination]
    try:
        with transfer.timed(f"upload {destination}"):
            for segment in reader:
                _begun(transfer, destination).append(segment)
                reader.done(segment)
                milestone("upload:segment")
            milestone("upload:sent")
            stored = _begun(transfer, destination).commit()
        milestone("upload:committed")
    except BaseException as error:
        if is_final(error):
            try:
                abandon(transfer, destination)
            except BackupError as second:  # the first error is the one to be told
                error.add_note(f"and its rest could not be removed: {second.message}")
        else:
            transfer.uploads.pop(destination, None)  # the next try resumes by token
        raise
    return stored


def abandon(transfer: Transfer, destination: str) -> None:
    """Leave the spool to the others, and drop what was sent."""
    transfer.readers[destination].close()
    begun = transfer.uploads.pop(destination, None)
    if begun is not None:
        begun.abort()


def _begun(transfer: Transfer, destination: str) -> Upload:
    upload = transfer.uploads.get(destination)
    if upload is None:
        store = transfer.run.destinations[destination]
        upload = store.upload(transfer.key, resume=transfer.tokens.get(destination))
        transfer.uploads[destination] = upload
    transfer.tokens[destination] = upload.token
    return upload


@task(name="upload", task_run_name="upload {transfer.source} to {destination}", **STEP)
def upload(transfer: Transfer, destination: str) -> StoredObject:
    """See ``upload_spool``."""
    return upload_spool(transfer, destination)
