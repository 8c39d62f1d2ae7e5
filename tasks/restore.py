"""Restore, step by step: resolve, fetch, apply. Plain functions, so that it works where no Prefect API is.

Nothing touches the target before the record is authenticated and every fetched byte is proven (law 8).
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from prefect import task

from blocks.destinations.base import Destination
from blocks.sources import target_for
from blocks.sources.base import Content, RestoreOptions, Source
from tasks.policy import ONCE, STEP
from tasks.progress import Progress
from vault.age import parse_identities
from vault.catalog import Catalog, History
from vault.codec import Codec, decode
from vault.errors import ConfigError, Corrupt, RestoreRefused, SpoolError
from vault.milestone import milestone
from vault.record import Artifact, BackupRecord
from vault.signing import Trust
from vault.spool import Buffer
from vault.streams import Digesting
from vault.workspace import Workspace, contains, default_root, sweep

_BLOCK = 1024 * 1024
_FETCHES = 2
"""How often an artifact is fetched before its digest is believed to be wrong at the destination (T12)."""


@dataclass(frozen=True)
class RestoreRequest:
    """What the operator asked for. *targets* are by source; the key ``""`` stands for all others."""

    app: str
    backup: str
    targets: Mapping[str, str]
    source: str | None = None
    options: RestoreOptions = field(default_factory=RestoreOptions)
    identity_file: Path | None = None


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


@dataclass(frozen=True)
class Plan:
    """What will be restored where: decided, and checked, before a byte is fetched."""

    record: BackupRecord
    artifacts: tuple[tuple[Artifact, Source], ...]
    warnings: tuple[str, ...]
    base: Path | None = None
    """The directory below which the sources go, where it is still to be made."""


def resolve_backup(request: RestoreRequest, destination: Destination, trust: Trust) -> Plan:
    """The backup that is meant, authenticated, and its targets, each found fit to take it."""
    history = Catalog(destination, request.app, trust).history()
    record = history.find(request.backup, request.source)
    if request.identity_file is not None:
        _identities(request.identity_file)
    warnings = _warnings(request, history, record)
    wanted = [record.artifact(request.source)] if request.source else list(record.artifacts)
    base = _missing_base(request, wanted)
    chosen = []
    for artifact in wanted:
        if artifact.recipients and request.identity_file is None:
            raise ConfigError(
                f"{artifact.key} is encrypted to {', '.join(artifact.recipients)}",
                "Add --identity FILE, with the age identity of one of them.",
            )
        target = _target(request, artifact, len(wanted) > 1)
        _refuse_overlap(target, destination)
        if base is None or artifact.source in request.targets:
            target.check_target(request.options)
        chosen.append((artifact, target))
    return Plan(record, tuple(chosen), warnings, base)


def _warnings(request: RestoreRequest, history: History, record: BackupRecord) -> tuple[str, ...]:
    if request.backup != "latest":
        return ()
    damaged = [f"skipped a newer backup: {d.error.message}" for d in history.newer_damaged(record)]
    own = {artifact.source for artifact in record.artifacts}
    others = {artifact.source for other in history.records for artifact in other.artifacts} - own
    absent = [f"{record.id} is the latest, and has no {name}: see --source" for name in sorted(others)]
    return (*damaged, *(absent if request.source is None else ()))


def _refuse_overlap(target: Source, destination: Destination) -> None:
    """A target that contains the backups, or lies among them, would replace what it is restored from."""
    for path in target.paths:
        for ours in (*destination.paths, default_root()):
            if contains(path, ours) or contains(ours, path):
                raise RestoreRefused(f"{path} and {ours} lie within each other", "Restore to a place of its own.")


def _missing_base(request: RestoreRequest, wanted: list[Artifact]) -> Path | None:
    below = [artifact for artifact in wanted if artifact.source not in request.targets]
    text = request.targets.get("")
    if len(wanted) < 2 or not below or text is None or "://" in text or Path(text).exists():
        return None
    if not Path(text).parent.is_dir():
        raise RestoreRefused(
            f"{text} cannot be made: its parent directory is missing", "Make the parent directory first."
        )
    return Path(text)


def _target(request: RestoreRequest, artifact: Artifact, several: bool) -> Source:
    own = request.targets.get(artifact.source)
    text = own or request.targets.get("")
    if text is None:
        raise ConfigError(f"no target is given for source {artifact.source}", f"Add --to {artifact.source}=TARGET.")
    return target_for(artifact.kind, text, artifact.source if several and own is None else None)


def fetch_artifact(destination: Destination, artifact: Artifact, workspace: Path, progress: Progress) -> Path:
    """The artifact's file in *workspace*, proven against the record; ``Corrupt`` says how it differs."""
    path = workspace / artifact.key.rpartition("/")[2]
    _refuse_without_room(workspace, artifact.size)
    for left in reversed(range(_FETCHES)):
        with destination.open(artifact.key) as stream, path.open("wb") as file:
            size, sha256 = _copy(stream, file, artifact.size, progress)
        if (size, sha256) == (artifact.size, artifact.sha256):
            break
        if not left:
            raise difference(destination, artifact, size, "restored")
    milestone("restore:fetched")
    return path


def _copy(stream: BinaryIO, file: BinaryIO, size: int, progress: Progress) -> tuple[int, str]:
    digest, count = hashlib.sha256(), 0
    while count <= size and (data := stream.read(_BLOCK)):
        digest.update(data)
        count += len(data)
        try:
            file.write(data)
        except OSError as error:
            raise SpoolError(f"{file.name} cannot be written: {error.strerror}", _ROOM) from error
        progress.add(len(data))
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
    identities = _identities(request.identity_file) if artifact.recipients else ()
    content = Content(artifact, partial(_plain, path, artifact, identities), work)
    milestone("restore:applying")
    facts = target.restore(content, request.options)
    milestone("restore:applied")
    return Restored(artifact.source, target.location, artifact.plain_size, dict(facts))


def _identities(file: Path | None) -> tuple[str, ...]:
    if file is None:
        return ()
    try:
        return parse_identities(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the identity file {file} cannot be read: {error}") from error


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
    request: RestoreRequest, destination: Destination, trust: Trust, steps: Steps = PLAIN
) -> RestoreResult:
    """Restore what *request* means. Everything is fetched and proven before the first target is touched."""
    sweep(default_root())
    progress = Progress(f"restore {request.app}")
    progress.stage("resolve")
    plan = steps.resolve(request, destination, trust)
    progress.expect(sum(artifact.size for artifact, _ in plan.artifacts))
    workspace = Workspace(default_root(), f"restore-{plan.record.id}")
    try:
        progress.stage("fetch")
        fetched = [
            (artifact, steps.fetch(destination, artifact, workspace.path, progress), target)
            for artifact, target in plan.artifacts
        ]
        if plan.base is not None:
            plan.base.mkdir(exist_ok=True)
        done = []
        for artifact, path, target in fetched:
            progress.stage(f"restore {artifact.source}")
            done.append(steps.apply(artifact, path, target, request, workspace.path))
    finally:
        workspace.remove()
    return RestoreResult(plan.record.id, request.app, round(progress.now.seconds, 1), tuple(done), plan.warnings)
