"""What the steps of one backup share while it runs, in this process only: none of it is stored."""

from __future__ import annotations

import hashlib
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import BoundedSemaphore, Event

from blocks.app import App
from blocks.destinations.base import Destination, Upload
from blocks.hook import Hook, Side
from blocks.signing_key import Keyring
from blocks.sources.base import Dump, Source
from blocks.still import Still
from tasks.limits import Limits
from tasks.places import Places
from tasks.progress import Progress
from vault.codec import Codec, Encoded
from vault.errors import BackupError, HookFailed, SpoolError
from vault.record import Artifact, BackupId, BackupRecord, Reading, artifact_key
from vault.retention import RetentionPolicy
from vault.spool import Reader, Spool
from vault.store import Digest
from vault.workspace import Turn, Workspace

CHECKSUM = "checksum"


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
    saved: App | None = None
    """The app as it is saved; None for what is backed up without one, and then no policy holds."""
    keep: RetentionPolicy | None = None
    """Which backups of this app and type stay; None keeps all."""
    keep_at: dict[str, RetentionPolicy] = field(default_factory=dict)
    """The same for single destinations, which takes precedence there."""
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
    hooks: dict[Side, Hook] = field(default_factory=dict)
    still: list[Still] = field(default_factory=list)
    """What is held still while all is read."""
    held: list[str] = field(default_factory=list)
    """The containers that were."""
    remarks: list[str] = field(default_factory=list)
    """Warnings of the backup as a whole that its record keeps."""
    offset: float | None = None
    """See ``BackupRecord.offset``."""
    reads: defaultdict[str, Future[None]] = field(default_factory=lambda: defaultdict(Future))
    """By source: whether it has been read, and its dump was proven whole."""
    transfers: set[Transfer] = field(default_factory=set)
    """Those that have a spool now."""
    stopping: Event = field(default_factory=Event)
    """Set when the run fails or is told to end: nothing is begun any more."""
    closed: Event = field(default_factory=Event)
    """Set when the app goes on as usual: what was read cannot be read again as it was."""
    places: Places = field(default_factory=Places)
    """Its turns at servers, where it has them before it reads."""
    after_error: HookFailed | None = None
    """What went wrong after all was read: the backup is good, and the run has failed."""

    def __post_init__(self) -> None:
        self.slots = BoundedSemaphore(self.limits.parallel)

    def __repr__(self) -> str:
        return f"Run({self.app} {self.id})"

    @property
    def live(self) -> dict[str, Destination]:
        """The destinations that have not failed."""
        return {name: place for name, place in self.destinations.items() if name not in self.failures}

    def begin_now(self) -> None:
        """The backup has waited since its id was made: it has the time at which it begins."""
        self.id = BackupId.new(datetime.now(UTC), self.id.type)

    @contextmanager
    def carrying(self, source: str, origin: Origin | None, attempt: int) -> Iterator[Transfer]:
        """A new transfer of *source*, when it may begin; its spool is gone at exit."""
        with ExitStack() as slot:
            slot.enter_context(self.slots)
            if self.stopping.is_set():
                raise SpoolError(f"{source} was not read: the run ends")
            transfer = Transfer.begin(self, source, origin, attempt)
            if self.still:  # those that are still to be read do not wait until this one is sent
                transfer.when_read = slot.close
            self.transfers.add(transfer)
            try:
                yield transfer
            finally:
                self.transfers.discard(transfer)
                transfer.spool.destroy()

    def is_urgent(self, source: str) -> bool:
        """Whether something is down for as long as *source* is read."""
        return source in self.sources and (bool(self.still) or self.sources[source].is_urgent)

    def slow(self, destination: Destination) -> float:
        """Seconds in which no whole segment may have arrived there, so slow as it is meant to be."""
        parts = (destination.parallel + 1) * self.limits.segment_size * self.limits.parallel
        return 2 * parts / destination.bandwidth if destination.bandwidth else 0.0

    def close(self) -> None:
        """Give back what the run held on this machine. May be called twice."""
        self.workspace.remove()
        self.turn.end()

    def fail(self, destination: str, error: BaseException, step: str = "preflight") -> None:
        """*destination* is out of this run, for *error* in *step*; its first error is the one that counts."""
        if isinstance(error, BackupError):
            error.at(step)
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
    read: Reading | None = None
    when_read: Callable[[], None] = lambda: None
    """Called as soon as all of it is in the spool."""

    def __repr__(self) -> str:
        return f"Transfer({self.run.app} {self.source})"

    @classmethod
    def begin(cls, run: Run, source: str, origin: Origin | None = None, attempt: int = 0) -> Transfer:
        """A new spool with a reader for each live destination and one for the checksum."""
        directory = _unused(run.workspace.path, source)
        # What holds something up while it is read waits for no destination: for it the disk alone is the limit.
        urgent = origin is None and run.is_urgent(source)
        spool = Spool(
            directory,
            limit=sys.maxsize if urgent else run.limits.share,
            segment_size=run.limits.segment_size,
            stall_timeout=max([run.limits.stall_timeout, *map(run.slow, run.live.values())]),
            others=lambda: any(other.spool.bytes_on_disk for other in tuple(run.transfers) if other.source != source),
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
    md5: str = field(default="", compare=False)
    """That of the whole, where a destination may have no other digest."""

    def fits(self, digest: Digest) -> bool:
        """Whether *digest* is that of the artifact, put whole or with a part for each segment."""
        if digest.algorithm == "sha256":
            return digest.value == self.sha256
        if digest.algorithm == "md5":
            return digest.value == self.md5
        joined = b"".join(map(bytes.fromhex, self.md5s))
        parts = f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(self.md5s)}"
        return digest.value == parts or self.md5s == (digest.value,)


def _unused(parent: Path, source: str) -> Path:
    attempt = 1
    while (parent / f"{source}.{attempt}").exists():
        attempt += 1
    return parent / f"{source}.{attempt}"
