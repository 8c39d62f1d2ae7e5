"""What the steps of one backup share while it runs, in this process only: none of it is stored."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from blocks.destinations.base import Destination, Upload
from blocks.signing_key import Keyring
from blocks.sources.base import Dump, Source
from tasks.progress import Progress
from vault.codec import Codec, Encoded
from vault.record import Artifact, BackupId, BackupRecord, artifact_key
from vault.spool import Reader, Spool
from vault.store import Digest
from vault.workspace import Turn, Workspace

CHECKSUM = "checksum"


@dataclass(frozen=True)
class Limits:
    """What a run may use of the worker; bytes and seconds."""

    spool: int = 1024**3
    segment: int = 32 * 1024**2
    stall_timeout: float = 600.0


@dataclass(frozen=True)
class Committed:
    """A record as it lies at a destination, and the time that the destination gave it."""

    record: BackupRecord
    clock: datetime


@dataclass(eq=False, repr=False)
class Run:
    """One backup on its way: its id, the doors it uses, and what failed so far, by destination."""

    id: BackupId
    app: str
    codec: Codec
    sources: dict[str, Source]
    destinations: dict[str, Destination]
    keyring: Keyring
    workspace: Workspace
    turn: Turn
    progress: Progress
    keep_last: int | None = None
    limits: Limits = field(default_factory=Limits)
    producer: dict[str, str] = field(default_factory=dict)
    failures: dict[str, BaseException] = field(default_factory=dict)
    begun: bool = False
    """Whether anything was sent: what cleanup removes where no commit happened."""
    completed_at: datetime | None = None
    committing: set[str] = field(default_factory=set)
    """Destinations whose record may or may not be written: cleanup touches nothing there."""
    committed: dict[str, Committed] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Run({self.app} {self.id})"

    @property
    def live(self) -> dict[str, Destination]:
        """The destinations that have not failed."""
        return {name: place for name, place in self.destinations.items() if name not in self.failures}

    def close(self) -> None:
        """Give back what the run held on this machine. May be called twice."""
        self.workspace.remove()
        self.turn.end()

    def fail(self, destination: str, error: BaseException) -> None:
        """*destination* is out of this run; its first error is the one that counts."""
        self.failures.setdefault(destination, error)


@dataclass(frozen=True, repr=False)
class Origin:
    """What is sent, where that is not a dump but an artifact of another destination."""

    store: Destination
    artifact: Artifact


@dataclass(eq=False, repr=False)
class Transfer:
    """One source's stream on its way through the spool to the live destinations: one attempt."""

    run: Run
    source: str
    spool: Spool
    readers: dict[str, Reader]
    origin: Origin | None = None
    attempt: int = 0
    dump: Dump | None = None
    encoded: Encoded | None = None
    uploads: dict[str, Upload] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Transfer({self.run.app} {self.source})"

    @classmethod
    def begin(cls, run: Run, source: str, origin: Origin | None = None, attempt: int = 0) -> Transfer:
        """A new spool with a reader for each live destination and one for the checksum."""
        directory = _unused(run.workspace.path, source)
        spool = Spool(
            directory,
            limit=run.limits.spool,
            segment_size=min(run.limits.segment, run.limits.spool // 4),
            stall_timeout=run.limits.stall_timeout,
        )
        readers = {name: spool.reader(name) for name in run.live}
        readers[CHECKSUM] = spool.reader(CHECKSUM, essential=False)
        return cls(run, source, spool, readers, origin, attempt)

    @property
    def key(self) -> str:
        """Where the artifact lies at every destination; known as soon as the dump has begun."""
        if self.origin is not None:
            return self.origin.artifact.key
        if self.dump is None:
            raise AssertionError("the dump has not begun")
        extension = self.dump.extension + self.run.codec.extension
        return artifact_key(self.run.app, self.run.id, self.source, extension)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds of this block to *stage*."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - began, 3)


@dataclass(frozen=True)
class Sum:
    """Size and SHA-256 of the encoded artifact, from what the spool held."""

    size: int
    sha256: str
    md5s: tuple[str, ...] = field(default=(), compare=False)
    """One for each segment, where a destination's digest is made of them."""

    def fits(self, digest: Digest) -> bool:
        """Whether *digest* is that of the artifact, put whole or with a part for each segment."""
        if digest.algorithm == "sha256":
            return digest.value == self.sha256
        joined = b"".join(map(bytes.fromhex, self.md5s))
        parts = f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(self.md5s)}"
        return digest.value == parts or self.md5s == (digest.value,)


def _unused(parent: Path, source: str) -> Path:
    attempt = 1
    while (parent / f"{source}.{attempt}").exists():
        attempt += 1
    return parent / f"{source}.{attempt}"
