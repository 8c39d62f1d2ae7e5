"""Copy: a committed backup at one destination becomes one at others, byte by byte, without being decrypted.

The bytes are proven twice: against the signed record while they are read, and at each target before its record is
written, last of all. That record is the source's, but for how this copy was proven; its signer is this installation,
which vouches for what it has read and seen arrive, so it copies only what it trusts.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from prefect import task

from blocks.destinations import Destination, destination_from
from blocks.loading import block_name
from blocks.signing_key import keyring
from tasks.doors import look_at_each
from tasks.limits import limits
from tasks.log import run_log
from tasks.policy import ONCE, STEP
from tasks.progress import Progress
from tasks.restore import difference
from tasks.run import Committed, Run, Transfer
from vault.catalog import Catalog, find_backup
from vault.codec import Codec
from vault.errors import (
    AlreadyExists,
    BackupError,
    ConfigError,
    IntegrityError,
    NoSpace,
    NotFound,
    ReadBackMismatch,
    SpoolError,
)
from vault.milestone import milestone
from vault.orphans import sweep_orphans
from vault.record import Artifact, BackupRecord, Verification
from vault.signing import Trust
from vault.store import is_path
from vault.workspace import Turn, Workspace, default_root, sweep

_BLOCK = 1024 * 1024
_READS = 2
"""How often an artifact is read before its digest is believed to be wrong at the source (T12)."""


@dataclass(eq=False, repr=False)
class Copy:
    """One backup on its way to other destinations: what it is, and where it comes from."""

    run: Run
    record: BackupRecord
    origin: Destination
    doors: dict[str, Destination]
    """All targets; those of the run are the ones that do not have it yet."""
    there: dict[str, BackupRecord] = field(default_factory=dict)
    """The targets that have it already, and how they have it."""
    added: dict[str, set[str]] = field(default_factory=dict)
    """The keys that were not at a target before: what cleanup may remove there."""

    def __repr__(self) -> str:
        return f"Copy({self.record.app} {self.record.id})"


def prepare(backup: str, origin: str, targets: list[str], trusted: list[str]) -> Copy:
    """Find the backup, and look at every target, before the first byte is read. The origin is only read."""
    sweep_orphans()
    sweep(default_root())
    keys = keyring()
    keys = replace(keys, trust=Trust(keys.trust.public_keys, frozenset(trusted)))
    source = destination_from(origin)
    doors = _targets(source, targets)
    record = find_backup(source, backup, keys.trust)
    progress = Progress(f"copy {record.id}")
    with ExitStack() as undo:
        turn = Turn(default_root(), f"copy-{record.id.lower()}")
        undo.callback(turn.end)
        turn.take(lambda: progress.stage("waiting for another copy of it to end"))
        workspace = Workspace(default_root(), f"copy-{record.id}")
        undo.callback(workspace.remove)
        own = dict(doors)
        run = Run(record.backup_id, record.app, Codec(), {}, own, keys, workspace, turn, progress, limits=limits())
        progress.expect(record.size)
        copy = Copy(run, record, source, doors)
        look_at_each(run, lambda name: _check_target(copy, name), whole=False)
        undo.pop_all()
    return copy


def _targets(source: Destination, texts: list[str]) -> dict[str, Destination]:
    doors: dict[str, Destination] = {}
    for text in texts:
        door = destination_from(text)
        if door.location == source.location:
            raise ConfigError(f"{door.location} is where the backup lies", "Name another destination to copy it to.")
        doors[text if is_path(text) else block_name(text)] = door
    if not doors:
        raise ConfigError("no destination is named", "Give one with --to.")
    return doors


def _check_target(copy: Copy, name: str) -> None:
    door = copy.doors[name]
    if is_path(name):
        door.prepare()
    existing = _existing(copy, name)
    if existing is not None:
        copy.there[name] = existing
        del copy.run.destinations[name]
        return
    door.check()
    free = door.free_space()
    if free is not None and free < copy.record.size:
        raise NoSpace(f"{door.location} has {free:,} bytes free; the backup needs {copy.record.size:,}")
    copy.added[name] = {artifact.key for artifact in copy.record.artifacts if not _lies(door, artifact.key)}


def _existing(copy: Copy, name: str) -> BackupRecord | None:
    """The backup as it lies at a target already; ``AlreadyExists`` where that is another one, or is damaged."""
    door, record = copy.doors[name], copy.record
    try:
        found = Catalog(door, record.app, copy.run.keyring.trust).read(record.backup_id)
    except NotFound:
        return None
    except IntegrityError as error:
        raise AlreadyExists(
            f"{door.location} has a backup {record.id} that is damaged, or not trusted: {error.message}",
            error.remedy or f"Look at it, remove {record.key} there, then copy again.",
        ) from error
    if _content(found) != _content(record):
        raise AlreadyExists(
            f"{door.location} has another backup of the id {record.id}; nothing was replaced",
            "Compare the two with `backups show`; one of them was not made by prefect-backups.",
        )
    return found


def _content(record: BackupRecord) -> BackupRecord:
    """What is the same at every destination: all but how, and how fast, a copy got there."""
    same = {"verified": "read-back", "seconds": {}}
    return record.model_copy(update={"artifacts": tuple(a.model_copy(update=same) for a in record.artifacts)})


def _lies(door: Destination, key: str) -> bool:
    try:
        door.stat(key)
    except NotFound:
        return False
    return True


def read_origin(transfer: Transfer) -> None:
    """The spool ends whole only after the bytes were those of the record: no target ever sees the end of others."""
    try:
        with transfer.timed("read"):
            _read(transfer)
        milestone("copy:read")
        transfer.spool.close()
    except BaseException as error:
        transfer.spool.abort(error)
        raise


def _read(transfer: Transfer) -> None:
    if transfer.origin is None:
        raise AssertionError("nothing is to be copied")
    origin, artifact = transfer.origin.store, transfer.origin.artifact
    digest, size = hashlib.sha256(), 0
    with origin.open(artifact.key) as stream:
        while size <= artifact.size and (data := stream.read(_BLOCK)):
            digest.update(data)
            size += len(data)
            transfer.spool.write(data)
            transfer.run.progress.reach(transfer.source, size)
    if (size, digest.hexdigest()) == (artifact.size, artifact.sha256):
        return
    error = difference(origin, artifact, size, "copied")
    if transfer.attempt + 1 < _READS:
        raise ReadBackMismatch(error.message, error.remedy)
    raise error


def commit_copy(copy: Copy, destination: str, proofs: tuple[Verification, ...]) -> BackupRecord:
    """The record as it lies at *destination*; one that somebody else wrote there in the meantime is as good (D06)."""
    run = copy.run
    artifacts = tuple(
        artifact.model_copy(update={"verified": proof})
        for artifact, proof in zip(copy.record.artifacts, proofs, strict=True)
    )
    record = copy.record.model_copy(update={"artifacts": artifacts})
    milestone("commit:before")
    run.committing.add(destination)
    try:
        stored = Catalog(run.destinations[destination], run.app, run.keyring.trust).commit(record, run.keyring.signer)
        run.committed[destination] = Committed(record, stored.modified)
    except AlreadyExists:
        existing = _existing(copy, destination)
        if existing is None:
            raise
        copy.there[destination] = record = existing
    finally:
        run.committing.discard(destination)
    milestone("commit:done")
    return record


def refuse_changed(artifact: Artifact, size: int, sha256: str) -> None:
    """What the spool gave to the targets has to be what was read from the origin."""
    if (size, sha256) != (artifact.size, artifact.sha256):
        raise SpoolError(
            f"the spool gave back other bytes of {artifact.key} than were read", "Test this machine's disk and memory."
        )


def clean_up(copy: Copy) -> list[str]:
    """Remove the run's directory, and what this copy has put where no record was written. Returns what could not be.

    What lay at a target before stays, and so does everything where there is a record by now: it is somebody else's.
    """
    run, problems = copy.run, []
    milestone("cleanup:begun")
    for name in set(copy.added) - set(run.committed) - set(copy.there) - run.committing:
        door = copy.doors[name]
        try:
            if not _lies(door, copy.record.key):
                for key in copy.added[name]:
                    door.remove(key)
        except BackupError as error:
            problems.append(f"parts of {copy.record.id} may be left at {name}: {error.message}")
    try:
        run.close()
    except BackupError as error:
        problems.append(error.message)
    for problem in problems:
        run_log().warning("%s", problem)
    return problems


prepare_task = task(name="preflight", **STEP)(prepare)
read_task = task(name="read", task_run_name="read {transfer.source}", **ONCE)(read_origin)
commit_task = task(name="commit", task_run_name="commit at {destination}", **STEP)(commit_copy)
cleanup_task = task(name="cleanup", **ONCE)(clean_up)
