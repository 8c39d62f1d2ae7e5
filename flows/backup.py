"""The backup flow: preflight; dump, checksum and uploads at once; verify; commit; retain; cleanup, always."""

from __future__ import annotations

import time
from typing import Annotated, Any

from prefect import flow
from prefect.futures import PrefectFuture, wait
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.report import BackupFailed, BackupResult, announce, outcome, publish, showing
from tasks.checksum import checksum
from tasks.cleanup import cleanup
from tasks.commit import commit
from tasks.dump import dump
from tasks.log import run_log
from tasks.policy import RETRIES, RETRY_DELAY
from tasks.preflight import preflight
from tasks.retain import retain
from tasks.run import CHECKSUM, Run, Sum, Transfer
from tasks.upload import upload
from tasks.verify import verify
from vault.codec import Codec
from vault.errors import BackupError, SpoolError, Transient, UploadLost
from vault.milestone import milestone
from vault.process import kill_all
from vault.record import Artifact, BackupType, Verification
from vault.store import NAME_PATTERN

_FAREWELL = 60  # seconds for steps to end when the run is told to
AppName = Annotated[str, Field(pattern=NAME_PATTERN, description="The saved app to back up.")]
Reference = Annotated[str, Field(pattern="^[a-z0-9-]+/" + NAME_PATTERN[1:])]
Recipient = Annotated[str, Field(pattern=r"^age1[0-9a-z]+$")]


@flow(
    name="backup",
    flow_run_name="{app}",
    task_runner=ThreadPoolTaskRunner(max_workers=64),  # type: ignore[arg-type]
    persist_result=False,
)
def backup(
    app: AppName,
    type: BackupType | None = None,
    destinations: list[Reference] | None = None,
    encrypt_to: list[Recipient] | None = None,
) -> BackupResult:
    """Back up an app to its destinations, or to those that are named.

    Args:
        app: The saved app to back up.
        type: database, files or full; empty takes every source of the app.
        destinations: Where to, each as block-type-slug/name; empty takes those of the app.
        encrypt_to: age public keys (age1…) instead of those of the app.
    """
    run = preflight(app, type, destinations, encrypt_to)
    announce(run)
    try:
        with showing(run.progress):
            artifacts = {name: _back_up_source(run, name) for name in run.sources}
            _commit(run, artifacts)
            _retain(run)
    except BackupFailed as error:
        publish(error.result)
        raise
    finally:
        run.progress.stage("cleanup")
        cleanup(run)
    result = outcome(run)
    publish(result)
    if run.failures:
        raise BackupFailed(result)
    return result


def _back_up_source(run: Run, source: str) -> dict[str, Artifact]:
    """The artifact of *source* by destination; a dump that failed for the moment is begun again, whole."""
    attempt, before = 0, run.progress.now.done
    while True:
        run.progress.reach(before)
        transfer = Transfer.begin(run, source)
        try:
            return _transfer(transfer)
        except Transient as error:
            if attempt >= RETRIES:
                raise
            delay = RETRY_DELAY * 2**attempt
            run_log().warning("%s; trying again in %g s", error.message, delay)
            time.sleep(delay)
            attempt += 1
        finally:
            transfer.spool.destroy()


def _transfer(transfer: Transfer) -> dict[str, Artifact]:
    run, source = transfer.run, transfer.source
    run.progress.stage(f"dump {source}")
    dumping = dump.submit(transfer)
    summing = checksum.submit(transfer)
    uploads = {name: upload.submit(transfer, name) for name in transfer.readers if name != CHECKSUM}
    _wait(transfer, [dumping])
    dump_error = _error(dumping)
    if dump_error is not None:
        transfer.spool.abort(dump_error)  # also where the task failed before it could do so itself
    _wait(transfer, [summing, *uploads.values()])
    errors = {name: error for name, future in uploads.items() if (error := _error(future)) is not None}
    _raise_if_lost(errors, len(uploads))
    for name, error in errors.items():
        if not (dump_error and _is_echo(error)):
            run.fail(name, error)
    _raise_if_all_failed(run)
    _raise(dumping)
    _raise(summing)
    expected: Sum = summing.result()
    run.progress.stage(f"verify {source}")
    proofs = {name: verify.submit(transfer, name, expected) for name in uploads if name in run.live}
    _wait(transfer, [*proofs.values()])
    for name, proof in proofs.items():
        error = _error(proof)
        if error is not None:
            run.fail(name, error)
    _raise_if_all_failed(run)
    return {
        name: describe(transfer, name, expected, proof.result()) for name, proof in proofs.items() if name in run.live
    }


def describe(transfer: Transfer, destination: str, total: Sum, verified: Verification) -> Artifact:
    """What the record says of this artifact's copy at *destination*."""
    dumped, encoded, codec = transfer.dump, transfer.encoded, transfer.run.codec
    if dumped is None or encoded is None:
        raise AssertionError("described before it was dumped")
    if encoded.size != total.size:
        raise SpoolError(f"the spool gave back {total.size} bytes of {encoded.size}")
    own = (f"upload {destination}", f"verify {destination}")
    file = transfer.key.rpartition("/")[2]
    return Artifact(
        source=transfer.source,
        kind=transfer.run.sources[transfer.source].kind,
        key=transfer.key,
        size=total.size,
        sha256=total.sha256,
        plain_size=encoded.plain_size,
        plain_sha256=encoded.plain_sha256,
        compression=codec.compression,
        recipients=codec.recipients,
        tool=dumped.tool,
        warnings=tuple(dumped.warnings),
        facts=dumped.facts,
        seconds={stage.split()[0]: s for stage, s in transfer.seconds.items() if stage in ("dump", *own)},
        verified=verified,
        restore_with=_shell_line(file, codec, dumped.restore_with),
    )


def _shell_line(file: str, codec: Codec, restore_with: str) -> str:
    first, *rest = [*codec.decode_command.split(" | "), restore_with]
    return " | ".join([f"{first} < {file}", *rest])


def _commit(run: Run, artifacts: dict[str, dict[str, Artifact]]) -> None:
    run.progress.stage("commit")
    milestone("commit:begun")
    futures = {
        name: commit.submit(run, name, tuple(by_place[name] for by_place in artifacts.values())) for name in run.live
    }
    _wait(None, [*futures.values()])
    for name, future in futures.items():
        error = _error(future)
        if error is not None:
            run.fail(name, error)


def _retain(run: Run) -> None:
    """A retention that refuses or fails is a warning: the backup itself is good."""
    run.progress.stage("retain")
    futures = {name: retain.submit(run, name, run.keep_last) for name in run.committed}
    _wait(None, [*futures.values()])
    for name, future in futures.items():
        error = _error(future)
        run.warnings += [f"retention at {name}: {error}"] if error is not None else future.result().warnings


def _wait(transfer: Transfer | None, futures: list[PrefectFuture[Any]]) -> None:
    """Until all have ended. When we are told to end, they are: no step may go on behind the back of cleanup."""
    try:
        wait(futures)
    except BaseException as error:
        if transfer is not None:
            transfer.spool.abort(error)
        for _ in range(_FAREWELL):
            kill_all()  # again and again: a step may be about to start one
            if not wait(futures, timeout=1.0).not_done:
                break
        raise


def _error(future: PrefectFuture[Any]) -> BaseException | None:
    found = future.state.result(raise_on_failure=False) if not future.state.is_completed() else None
    return found if found is None or isinstance(found, BaseException) else BackupError(str(found))


def _raise(future: PrefectFuture[Any]) -> None:
    error = _error(future)
    if error is not None:
        raise error


def _is_echo(error: BaseException) -> bool:
    """Whether an upload failed only because the dump did."""
    return isinstance(error, SpoolError) and error.__cause__ is not None


def _raise_if_lost(errors: dict[str, BaseException], uploads: int) -> None:
    """Where every destination lost what it was sent, another dump is the way; where one still has it, a copy is."""
    lost = [error for error in errors.values() if isinstance(error, UploadLost)]
    if lost and len(lost) == uploads:
        raise lost[0]


def _raise_if_all_failed(run: Run) -> None:
    if not run.live:
        raise BackupFailed(outcome(run))
