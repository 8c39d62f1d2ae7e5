"""Back up what a restore will replace: an ordinary backup, at the destination that the restore reads from.

It lies under an app of its own, ``APP-before-restore``: it is never the latest backup of the app, which is likely to be
what somebody restores next, and no retention counts it or removes it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from socket import gethostname

from blocks.destinations import Destination
from blocks.signing_key import Keyring
from blocks.sources import Source
from flows.backup import describe
from tasks.checksum import checksum_spool
from tasks.cleanup import clean_up
from tasks.commit import commit_record
from tasks.dump import dump_source
from tasks.limits import limits
from tasks.log import run_log
from tasks.progress import Progress
from tasks.run import Run, Sum, Transfer
from tasks.upload import upload_spool
from tasks.verify import verify_object
from vault.codec import Codec
from vault.garbage import SAFETY
from vault.milestone import milestone
from vault.process import kill_all
from vault.record import Artifact, BackupId
from vault.workspace import Turn, Workspace, default_root

_AT = "safety"


def back_up_target(app: str, like: Artifact, target: Source, destination: Destination, keys: Keyring) -> str:
    """What to tell of the backup of what *target* holds: committed and verified, encrypted as *like* is."""
    kept_as = app[: 63 - len(SAFETY)].rstrip("-") + SAFETY
    run = _run(kept_as, like, target, destination, keys)
    try:
        with run.carrying(like.source, None, 0) as transfer:
            total = _carry(transfer)
        proof = verify_object(destination, transfer.key, total)
        commit_record(run, _AT, (describe(transfer, _AT, total, proof),))
    finally:
        clean_up(run)
    milestone("restore:safe")
    told = f"what {target.location} held was backed up first, as {run.id} of {kept_as} at {destination.location}"
    run_log().info("%s", told)
    return told


def _run(app: str, like: Artifact, target: Source, destination: Destination, keys: Keyring) -> Run:
    backup_id = BackupId.new(datetime.now(UTC), target.category)
    return Run(
        id=backup_id,
        app=app,
        codec=Codec(like.compression, None, like.recipients),
        sources={like.source: target},
        destinations={_AT: destination},
        keyring=keys,
        workspace=Workspace(default_root(), str(backup_id)),
        turn=Turn(default_root(), app),
        progress=Progress(app),
        limits=limits(),
        producer={
            "prefect-backups": version("prefect-backups"),
            "host": gethostname(),
            f"source {like.source}": target.check(),
        },
    )


def _carry(transfer: Transfer) -> Sum:
    """Dump, checksum and upload at once, each in a thread: when one fails, the others do."""
    with ThreadPoolExecutor(3) as pool:
        dumping = pool.submit(dump_source, transfer)
        summing = pool.submit(checksum_spool, transfer)
        sending = pool.submit(upload_spool, transfer, _AT)
        try:
            failure = sending.exception()
        except BaseException as error:  # we are told to end, and the pool waits for its threads
            transfer.spool.abort(error)
            kill_all()
            raise
        if failure is not None:
            transfer.spool.abort(failure)
            raise dumping.exception() or failure
        dumping.result()
        return summing.result()
