"""Upload: follow the spool to one destination; a retry goes on where the destination stands."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from threading import Lock

from prefect import task

from blocks.destinations.base import Upload
from tasks.policy import STEP, is_final
from tasks.run import Transfer
from vault.errors import BackupError, NotFound, UploadLost
from vault.log import about
from vault.milestone import milestone
from vault.parallel import ordered
from vault.spool import Reader, Segment
from vault.store import StoredObject

_REMEDY = "Copy the backup there from another destination (`backups copy`), or back up again."


def upload_spool(transfer: Transfer, destination: str) -> StoredObject:
    """The object is committed under its key only after the dump was proven whole."""
    reader = transfer.readers[destination]
    try:
        with transfer.timed(f"upload {destination}"):
            held_back = _send(transfer, destination, reader)
            milestone("upload:sent")
            sent = _begun(transfer, destination)
            with _given_up(transfer, destination):
                stored = sent.commit()
        for segment in held_back:
            reader.done(segment)
        milestone("upload:committed")
    except BaseException as error:
        if is_final(error):
            try:
                abandon(transfer, destination)
            except BackupError as second:  # the first error is the one to be told
                error.add_note(f"and its rest could not be removed: {second.message}")
        else:
            begun = transfer.uploads.pop(destination, None)
            if begun is not None:  # the next try resumes by token, which may say more since parts were sent
                transfer.tokens[destination] = begun.token
        raise
    return stored


def _send(transfer: Transfer, destination: str, reader: Reader) -> deque[Segment]:
    """Append every segment, and give it back to the spool when the destination holds it; returns those it does not."""
    lock, pending = Lock(), deque[Segment]()

    def segments() -> Iterator[Segment]:
        for segment in reader:
            _begun(transfer, destination)
            pending.append(segment)
            yield segment

    def append(segment: Segment) -> None:
        sending = transfer.uploads[destination]
        with _given_up(transfer, destination):
            sending.append(segment)
        with lock:
            while pending and pending[0].offset + pending[0].size <= sending.offset:
                reader.done(pending.popleft())
        milestone("upload:segment")

    if destination in transfer.tokens:
        _begun(transfer, destination)  # before the first segment is taken: it may rewind
    parallel = transfer.run.destinations[destination].parallel
    with ThreadPoolExecutor(parallel) as pool, closing(ordered(pool, append, segments(), parallel - 1)) as appended:
        deque(appended, maxlen=0)
    return pending


def abandon(transfer: Transfer, destination: str) -> None:
    """Leave the spool to the others, and drop what was sent."""
    transfer.readers[destination].close()
    begun = transfer.uploads.pop(destination, None)
    if begun is not None:
        begun.abort()


def _begun(transfer: Transfer, destination: str) -> Upload:
    upload = transfer.uploads.get(destination)
    if upload is None:
        upload = _begin(transfer, destination)
        transfer.uploads[destination] = upload
    transfer.tokens[destination] = upload.token
    return upload


def _begin(transfer: Transfer, destination: str) -> Upload:
    store, token = transfer.run.destinations[destination], transfer.tokens.get(destination)
    if token is None:
        return store.upload(transfer.key)
    try:
        return store.upload(transfer.key, resume=token)
    except NotFound as error:
        if transfer.readers[destination].rewind():
            return store.upload(transfer.key)
        raise UploadLost(
            f"{store.location} has lost what was sent of {transfer.key}, and the spool holds its beginning no more",
            _REMEDY,
        ) from error


@contextmanager
def _given_up(transfer: Transfer, destination: str) -> Iterator[None]:
    """An upload that the destination knows no more, as after hours in which nothing came, is begun anew by a retry."""
    try:
        yield
    except NotFound as error:
        where = transfer.run.destinations[destination].location
        raise UploadLost(f"{where} has given up what was sent of {transfer.key}", _REMEDY) from error


@task(name="upload", task_run_name="upload {transfer.source} to {destination}", **STEP)
def upload(transfer: Transfer, destination: str) -> StoredObject:
    """See ``upload_spool``."""
    with about(source=transfer.source, destination=destination):
        return upload_spool(transfer, destination)
