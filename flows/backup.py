"""The backup flow: preflight; dump, checksum and uploads at once; verify; commit; retain; cleanup, always."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Annotated

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.last_good import saying_what_is_left
from flows.pings import Pings
from flows.reading import read_all
from flows.report import BackupFailed, BackupResult, announce, best_effort, error_text, outcome, publish, showing
from flows.retention_table import show_retention
from flows.tell import tell_held, tell_small, tell_success
from flows.transfer import Carried, NoDestinationLeft, error_of, wait_all
from flows.turns import in_turn
from flows.window import Window
from tasks.again import again_soon
from tasks.catch_up import catch_up
from tasks.cleanup import cleanup
from tasks.commit import commit
from tasks.dump import dump
from tasks.garbage import Collected
from tasks.policy import as_it_is
from tasks.preflight import Wanted, preflight
from tasks.retain import Judged, others_of, retain
from tasks.run import Run, Sum, Transfer
from vault.codec import Codec
from vault.errors import SpoolError, in_step
from vault.log import about, also
from vault.milestone import milestone
from vault.record import Artifact, BackupType, Verification
from vault.retention import RetentionPolicy
from vault.sizes import Small
from vault.store import NAME_PATTERN

AppName = Annotated[str, Field(pattern=NAME_PATTERN, description="The name of the saved app, such as shop.")]
Reference = Annotated[str, Field(pattern="^[a-z0-9-]+/" + NAME_PATTERN[1:])]
DestinationName = Annotated[str, Field(pattern=NAME_PATTERN)]
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
    consistent: bool | None = None,
    keep: RetentionPolicy | None = None,
    keep_at: dict[DestinationName, RetentionPolicy] | None = None,
    ping: Annotated[str, Field(pattern=NAME_PATTERN)] | None = None,
) -> BackupResult:
    """Back up an app to its destinations, or to those that are named.

    Args:
        app: The name of the saved app, such as shop.
        type: Only its databases, only its files, or both (full). None: all that it has.
        destinations: Where to, such as local-destination/disk. None: where the app says.
        encrypt_to: age public keys (age1…). None: those of the app.
        consistent: Hold the app's containers still while it is read. None: as the app says.
        keep: Which of its backups of this type stay there afterwards. None: as the app says.
        keep_at: The same for single destinations, by name, where that differs.
        ping: The saved ping that is told how it goes.
    """
    again_soon(get_client(sync_client=True))
    pings = Pings(ping)
    try:
        best_effort(catch_up)
        wanted = Wanted(app, type, destinations, encrypt_to, consistent, keep, keep_at)
        with about(app=app), saying_what_is_left(wanted):
            result = _back_up(wanted)
    except BaseException as error:
        pings.failed(error)
        raise
    tell_success(result, type)
    return replace(result, warnings=(*result.warnings, *pings.succeeded(result.summary)))


def _back_up(wanted: Wanted) -> BackupResult:
    with in_step("preflight"):
        run = preflight(wanted)
    window = Window(run)
    try:
        with in_turn(run) as waited, showing(run.progress):
            if waited:
                run.begin_now()
            also(id=str(run.id))
            announce(run)
            with in_step("before the reading"):
                window.open()
            carried = read_all(run, dump, window.close)
            _commit(run, carried)
            _retain(run)
    except NoDestinationLeft as error:
        result = outcome(run)
        publish(result)
        raise BackupFailed(result) from error
    finally:
        try:
            window.close(whole=False)
        finally:
            run.progress.stage("cleanup")
            cleanup(as_it_is(run))
    result = outcome(run)
    publish(result)
    if run.failures or run.after_error:
        raise BackupFailed(result, run.after_error)
    return result


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
        read=transfer.read,
    )


def _shell_line(file: str, codec: Codec, restore_with: str) -> str:
    first, *rest = [*codec.decode_command.split(" | "), restore_with]
    return " | ".join([f"{first} < {file}", *rest])


def _commit(run: Run, carried: list[Carried]) -> None:
    run.progress.stage("commit")
    milestone("commit:begun")
    futures = {}
    for name in run.live:
        artifacts = tuple(describe(c.transfer, name, c.total, c.proofs[name]) for c in carried)
        futures[name] = commit.submit(as_it_is(run), name, artifacts)
    wait_all(None, [*futures.values()])
    for name, future in futures.items():
        error = error_of(future)
        if error is not None:
            run.fail(name, error, f"commit at {name}")


def _retain(run: Run) -> None:
    """A retention that refuses or fails is a warning: the backup itself is good."""
    judged: list[Judged] = []
    garbage: list[Collected] = []
    small = defaultdict[Small, list[str]](list)
    run.progress.stage("retain")
    others = others_of(run) if run.committed else None
    futures = {name: retain.submit(as_it_is(run), name, as_it_is(others)) for name in run.committed}
    wait_all(None, [*futures.values()])
    for name, future in futures.items():
        error = error_of(future)
        if error is not None:
            tell_held(run, name, error)
            run.warnings.append(f"retention at {name}: {error_text(error)}")
            continue
        done = future.result()
        run.warnings += done.warnings
        judged += [done.judged] if done.judged else []
        garbage += [done.garbage] if done.garbage else []
        for one in done.small:
            small[one].append(name)
    tell_small(run, small)
    show_retention(run.app, judged, garbage)
