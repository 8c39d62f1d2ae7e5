"""One stream through a spool to several destinations at once, and the proof of each copy: for backup and for copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture, wait

from tasks.checksum import checksum
from tasks.log import run_log
from tasks.policy import RETRIES, RETRY_DELAY, as_it_is
from tasks.run import CHECKSUM, Origin, Run, Sum, Transfer
from tasks.upload import upload
from tasks.verify import verify
from vault.errors import BackupError, SpoolError, Transient, UploadLost
from vault.process import kill_all
from vault.record import Verification

_FAREWELL = 60  # seconds for steps to end when the run is told to


class NoDestinationLeft(BackupError):
    """Every destination of the run has failed; ``Run.failures`` says why."""


@dataclass(frozen=True)
class Carried:
    """A stream that arrived: what was carried, and how its copy was proven, by destination."""

    transfer: Transfer
    total: Sum
    proofs: dict[str, Verification]


def carry(run: Run, source: str, fill: Task[[Transfer], Any], origin: Origin | None = None) -> Carried:
    """What *fill* writes to the spool lies at every destination that has not failed. Raises what *fill* does.

    A *fill* that failed for the moment is begun again, whole, with a new spool and new uploads.
    """
    attempt = 0
    while True:
        run.progress.reach(source, 0)
        try:
            with run.carrying(source, origin, attempt) as transfer:
                total, destinations = _send(transfer, fill)
            return _proven(transfer, total, destinations)
        except Transient as error:
            if attempt >= RETRIES or run.closed.is_set():
                raise
            delay = RETRY_DELAY * 2**attempt
            run_log().warning("%s; trying again in %g s", error.message, delay)
            if run.stopping.wait(delay):
                raise
            attempt += 1
        finally:
            run.progress.stage("", source)


def _send(transfer: Transfer, fill: Task[[Transfer], Any]) -> tuple[Sum, list[str]]:
    """What was sent, and to which destinations: each has all of it, or has failed."""
    run, source = transfer.run, transfer.source
    run.progress.stage(f"{fill.name} {source}", source)
    filling = fill.submit(as_it_is(transfer))
    summing = checksum.submit(as_it_is(transfer))
    uploads = {name: upload.submit(as_it_is(transfer), name) for name in transfer.readers if name != CHECKSUM}
    wait_all(transfer, [filling], [summing, *uploads.values()])
    fill_error = error_of(filling)
    if fill_error is not None:
        transfer.spool.abort(fill_error)  # also where the task failed before it could do so itself
    wait_all(transfer, [summing, *uploads.values()])
    errors = {name: error for name, future in uploads.items() if (error := error_of(future)) is not None}
    _raise_if_lost(errors, len(uploads), f"upload {source}")
    for name, error in errors.items():
        if not (fill_error and _is_echo(error)):
            run.fail(name, error, f"upload {source} to {name}")
    _raise_if_all_failed(run)
    _raise(filling, f"{fill.name} {source}")
    _raise(summing, f"{checksum.name} {source}")
    return summing.result(), [*uploads]


def _proven(transfer: Transfer, total: Sum, destinations: list[str]) -> Carried:
    """The spool is gone by now: others may be read while the copies are proven."""
    run, source = transfer.run, transfer.source
    run.progress.stage(f"verify {source}", source)
    proofs = {name: verify.submit(as_it_is(transfer), name, total) for name in destinations if name in run.live}
    wait_all(transfer, [*proofs.values()])
    for name, proof in proofs.items():
        problem = error_of(proof)
        if problem is not None:
            run.fail(name, problem, f"verify {source} at {name}")
    _raise_if_all_failed(run)
    return Carried(transfer, total, {name: proof.result() for name, proof in proofs.items() if name in run.live})


def wait_all(
    transfer: Transfer | None, futures: list[PrefectFuture[Any]], others: Sequence[PrefectFuture[Any]] = ()
) -> None:
    """Until all *futures* have ended. When we are told to end, they are, and the *others* that have begun with them.

    No step may go on behind the back of cleanup: an upload would commit what was just removed.
    """
    try:
        wait(futures)
    except BaseException as error:
        if transfer is not None:
            transfer.spool.abort(error)
        for _ in range(_FAREWELL):
            kill_all()  # again and again: a step may be about to start one
            if not wait([*futures, *others], timeout=1.0).not_done:
                break
        raise


def error_of(future: PrefectFuture[Any]) -> BaseException | None:
    """Why a task that has ended failed; None where it did not."""
    found = future.state.result(raise_on_failure=False) if not future.state.is_completed() else None
    return found if found is None or isinstance(found, BaseException) else BackupError(str(found))


def _raise(future: PrefectFuture[Any], step: str) -> None:
    error = error_of(future)
    if error is not None:
        raise error.at(step) if isinstance(error, BackupError) else error


def _is_echo(error: BaseException) -> bool:
    """Whether an upload failed only because what fills the spool did."""
    return isinstance(error, SpoolError) and error.__cause__ is not None


def _raise_if_lost(errors: dict[str, BaseException], uploads: int, step: str) -> None:
    """Where every destination lost what it was sent, another try is the way; where one still has it, a copy is."""
    lost = [error for error in errors.values() if isinstance(error, UploadLost)]
    if lost and len(lost) == uploads:
        raise lost[0].at(step)


def _raise_if_all_failed(run: Run) -> None:
    if not run.live:
        raise NoDestinationLeft("no destination is left")
