"""The backup flow: preflight; dump, checksum and uploads at once; verify; commit; retain; cleanup, always."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.report import BackupFailed, BackupResult, announce, outcome, publish, showing
from flows.transfer import NoDestinationLeft, carry, error_of, wait_all
from tasks.cleanup import cleanup
from tasks.commit import commit
from tasks.dump import dump
from tasks.preflight import preflight
from tasks.retain import retain
from tasks.run import Run, Sum, Transfer
from vault.codec import Codec
from vault.errors import SpoolError
from vault.milestone import milestone
from vault.record import Artifact, BackupType, Verification
from vault.store import NAME_PATTERN

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
            artifacts = {name: _back_up(run, name) for name in run.sources}
            _commit(run, artifacts)
            _retain(run)
    except NoDestinationLeft as error:
        result = outcome(run)
        publish(result)
        raise BackupFailed(result) from error
    finally:
        run.progress.stage("cleanup")
        cleanup(run)
    result = outcome(run)
    publish(result)
    if run.failures:
        raise BackupFailed(result)
    return result


def _back_up(run: Run, source: str) -> dict[str, Artifact]:
    """The artifact of *source*, by destination."""
    carried = carry(run, source, dump)
    return {name: describe(carried.transfer, name, carried.total, proof) for name, proof in carried.proofs.items()}


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
    wait_all(None, [*futures.values()])
    for name, future in futures.items():
        error = error_of(future)
        if error is not None:
            run.fail(name, error)


def _retain(run: Run) -> None:
    """A retention that refuses or fails is a warning: the backup itself is good."""
    run.progress.stage("retain")
    futures = {name: retain.submit(run, name, run.keep_last) for name in run.committed}
    wait_all(None, [*futures.values()])
    for name, future in futures.items():
        error = error_of(future)
        run.warnings += [f"retention at {name}: {error}"] if error is not None else future.result().warnings
