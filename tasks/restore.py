"""Restore, step by step: resolve, fetch, apply. Plain functions, so that it works where no Prefect API is.

Nothing touches the target before the record is authenticated and every fetched byte is proven (law 8).
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from prefect import task

from blocks.destinations.base import Destination
from blocks.sources.base import Content, Source
from tasks.log import logging_tools
from tasks.policy import ONCE, STEP
from tasks.progress import Progress
from tasks.resolve import Plan, RestoreRequest, identities, resolve_backup
from vault.codec import Codec, decode
from vault.errors import BackupError, Corrupt, NotFound, RestoreIncomplete, SpoolError, in_step
from vault.log import about
from vault.milestone import milestone
from vault.record import Artifact
from vault.signing import Trust
from vault.spool import Buffer
from vault.streams import Digesting
from vault.workspace import Workspace, default_root, sweep

_BLOCK = 1024 * 1024
_FETCHES = 2
"""How often an artifact is fetched before its digest is believed to be wrong at the destination (T12)."""


@dataclass(frozen=True)
class Restored:
    """One artifact as it was restored; *facts* are those of the target."""

    source: str
    target: str
    size: int
    facts: dict[str, Any]


@dataclass(frozen=True)
class RestoreResult:
    """A restored backup."""

    id: str
    app: str
    seconds: float
    artifacts: tuple[Restored, ...]
    warnings: tuple[str, ...] = ()


def fetch_artifact(destination: Destination, artifact: Artifact, workspace: Path, progress: Progress) -> Path:
    """The artifact's file in *workspace*, proven against the record; ``Corrupt`` says how it differs."""
    path = workspace / artifact.key.rpartition("/")[2]
    _refuse_without_room(workspace, artifact.size)
    for left in reversed(range(_FETCHES)):
        try:
            with destination.open(artifact.key) as stream, path.open("wb") as file:
                size, sha256 = _copy(stream, file, artifact.size, partial(progress.reach, artifact.source))
        except NotFound as error:  # it was there when the backup was looked up
            raise NotFound(
                f"{artifact.key} is gone from {destination.location}: its backup was deleted meanwhile; nothing was"
                " restored",
                "Begin again, with a backup that is there: see `backups list`. `backups pin` keeps one.",
            ) from error
        if (size, sha256) == (artifact.size, artifact.sha256):
            break
        if not left:
            raise difference(destination, artifact, size, "restored")
    milestone("restore:fetched")
    return path


def _copy(stream: BinaryIO, file: BinaryIO, size: int, progress: Callable[[int], None]) -> tuple[int, str]:
    digest, count = hashlib.sha256(), 0
    while count <= size and (data := stream.read(_BLOCK)):
        digest.update(data)
        count += len(data)
        try:
            file.write(data)
        except OSError as error:
            raise SpoolError(f"{file.name} cannot be written: {error.strerror}", _ROOM) from error
        progress(count)
    return count, digest.hexdigest()


_ROOM = "Free space there, or set BACKUPS_WORK_DIR to a directory on a larger disk."


def _refuse_without_room(workspace: Path, size: int) -> None:
    free = shutil.disk_usage(workspace).free
    if free < size:
        raise SpoolError(f"{workspace} has {free:,} bytes free; the artifact to fetch has {size:,}", _ROOM)


def difference(destination: Destination, artifact: Artifact, size: int, done: str) -> Corrupt:
    """How what *destination* gave, *size* bytes of it, differs from the record: nothing was *done* with it."""
    if size != artifact.size:
        how = "is truncated" if size < artifact.size else "is too long"
        detail = f"{how}: {size} bytes, not {artifact.size}"
    else:
        detail = "is corrupt: its SHA-256 is not that of its record"
    return Corrupt(
        f"{artifact.key} at {destination.location} {detail}; nothing was {done}",
        "Take it from another destination, or an older backup: see `backups list`.",
    )


def apply_artifact(
    artifact: Artifact, path: Path, target: Source, request: RestoreRequest, workspace: Path
) -> Restored:
    """The target holds the artifact's content, or is as it was."""
    work = workspace / f"{artifact.source}.restore"
    work.mkdir(mode=0o700, exist_ok=True)
    keys = identities(request.identity_file) if artifact.recipients else ()
    content = Content(artifact, partial(_plain, path, artifact, keys), work)
    milestone("restore:applying")
    with about(app=request.app, source=artifact.source), logging_tools():
        facts = target.hurried().restore(content, request.options)
    milestone("restore:applied")
    return Restored(artifact.source, target.location, artifact.plain_size, dict(facts))


@contextmanager
def _plain(path: Path, artifact: Artifact, identities: tuple[str, ...]) -> Iterator[BinaryIO]:
    codec = Codec(artifact.compression, None, artifact.recipients)
    with (
        path.open("rb") as file,
        decode(file, codec, identities, max_size=artifact.plain_size) as stream,
    ):
        yield io.BufferedReader(_Proven(stream, artifact), _BLOCK)


class _Proven(io.RawIOBase):
    """A plain stream whose end is only reached when its size and digest are those of the record."""

    def __init__(self, stream: BinaryIO, artifact: Artifact) -> None:
        self._stream, self._artifact = Digesting(stream), artifact

    def readable(self) -> bool:
        return True

    def readinto(self, target: Buffer) -> int:  # type: ignore[override]
        count = self._stream.readinto(target)
        record = self._artifact
        if not count and (self._stream.size, self._stream.sha256) != (record.plain_size, record.plain_sha256):
            raise Corrupt(
                f"{record.key} decodes to {self._stream.size} bytes that are not those of its record",
                "Restore an older backup: see `backups list`.",
            )
        return count


Safety = Callable[[Artifact, Source], str]
"""Backs up what a target holds, like the artifact that is to replace it; returns what to tell of it."""


@dataclass(frozen=True)
class Steps:
    """The steps as they run: plain functions, or the same as Prefect tasks."""

    resolve: Callable[[RestoreRequest, Destination, Trust], Plan]
    fetch: Callable[[Destination, Artifact, Path, Progress], Path]
    apply: Callable[[Artifact, Path, Source, RestoreRequest, Path], Restored]


PLAIN = Steps(resolve_backup, fetch_artifact, apply_artifact)
TASKS = Steps(
    task(name="resolve", **STEP)(resolve_backup),
    task(name="fetch", task_run_name="fetch {artifact.source}", **STEP)(fetch_artifact),
    task(name="apply", task_run_name="apply {artifact.source}", **ONCE)(apply_artifact),
)


def restore_backup(
    request: RestoreRequest,
    destination: Destination,
    trust: Trust,
    steps: Steps = PLAIN,
    safety: Safety | None = None,
    progress: Progress | None = None,
) -> RestoreResult:
    """Restore what *request* means. Everything is fetched and proven before the first target is touched.

    What is replaced in more than one step is backed up by *safety* first; without one it stays, under another name.
    """
    sweep(default_root())
    progress = progress or Progress(f"restore {request.app}")
    progress.stage("resolve")
    with in_step("resolve"):
        plan = steps.resolve(request, destination, trust)
    progress.expect(sum(artifact.size for artifact, _ in plan.artifacts))
    workspace = Workspace(default_root(), f"restore-{plan.record.id}")
    try:
        progress.stage("fetch")
        with in_step("fetch"):
            fetched = [
                (artifact, steps.fetch(destination, artifact, workspace.path, progress), target)
                for artifact, target in plan.artifacts
            ]
        if plan.base is not None:
            plan.base.mkdir(exist_ok=True)
        done: list[Restored] = []
        saved = _save(plan, request, safety, progress) if safety is not None else []
        if safety is None:
            request = replace(request, options=replace(request.options, keep=True))
        for artifact, path, target in fetched:
            progress.stage(f"restore {artifact.source}")
            try:
                done.append(steps.apply(artifact, path, target, request, workspace.path))
            except BackupError as error:
                error.at(f"apply {artifact.source}")
                if len(fetched) == 1:
                    raise
                raise _incomplete(plan, done, error).at(error.step) from error
    finally:
        workspace.remove()
    warnings = (*plan.warnings, *saved)
    return RestoreResult(plan.record.id, request.app, round(progress.now.seconds, 1), tuple(done), warnings)


def _save(plan: Plan, request: RestoreRequest, safety: Safety, progress: Progress) -> list[str]:
    """All that is replaced in more than one step, before the first target is touched."""
    saved = []
    for artifact, target in plan.artifacts:
        if target.replaces(request.options):
            progress.stage(f"back up {target.location}")
            saved.append(safety(artifact, target))
    return saved


def _incomplete(plan: Plan, done: list[Restored], error: BackupError) -> RestoreIncomplete:
    """What was restored and what was not, where one of several failed: a person has to go on from there."""
    failed, *later = [artifact.source for artifact, _ in plan.artifacts][len(done) :]
    parts = [f"{failed} was not restored: {error.message}"]
    parts.append("restored: " + (", ".join(f"{one.source} to {one.target}" for one in done) or "nothing"))
    if later:
        parts.append(f"not begun: {', '.join(later)}")
    rest = " and ".join(f"--source {name}" for name in (failed, *later))
    return RestoreIncomplete(
        "; ".join(parts), f"{error.remedy}\nThen restore the rest of {plan.record.id}, one by one: {rest}.".strip()
    )
