"""Backups as a list has them: what each destination holds, put together with the runs, by the id of the backup."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from prefect.client.schemas.objects import StateType

from console.models.backups import BackupStatus
from console.runs import BackupRun
from vault.catalog import Damaged, History
from vault.history import FromTheFuture, from_the_future
from vault.record import BackupId, BackupRecord, BackupType, Verification, utc

_GOING = (StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED)
_WAITING = (StateType.PENDING, StateType.SCHEDULED)


@dataclass(frozen=True, slots=True)
class Held:
    """A backup at one destination: what a list shows of its record."""

    destination: str
    id: str
    app: str
    type: BackupType | None
    created_at: str
    status: Literal["committed", "damaged", "untrusted"]
    completed_at: str | None = None
    size: int | None = None
    plain_size: int | None = None
    encrypted: bool | None = None
    verified: Verification | None = None
    pinned: bool = False
    run: str = ""
    detail: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One backup: its copies, and the run that makes it, or that did not end well. *status* is over all of them."""

    app: str
    id: str
    type: BackupType | None
    created_at: str
    copies: tuple[Held, ...]
    run: BackupRun | None
    status: BackupStatus

    @property
    def order(self) -> tuple[str, str]:
        """What is newer has more of it."""
        return self.created_at, self.id

    @property
    def committed(self) -> tuple[Held, ...]:
        """The copies that count."""
        return tuple(copy for copy in self.copies if copy.status == "committed")

    @property
    def from_the_future(self) -> FromTheFuture | None:
        """What is wrong with its time, if something is: then it is never the newest."""
        now = datetime.now(UTC)
        if not self.copies or self.created_at <= utc(now):  # most of many
            return None
        return from_the_future(BackupId.parse(self.id), now)

    @property
    def is_live(self) -> bool:
        """Whether its run goes on, or is still to begin."""
        return self.status in ("running", "pending")


def held(destination: str, histories: Iterable[History]) -> list[Held]:
    """What *destination* holds of all apps."""
    return [one for history in histories for one in _of_history(destination, history)]


def merged(there: Iterable[Held], runs: Iterable[BackupRun], meant: Mapping[str, tuple[str, ...]]) -> list[Entry]:
    """A backup for each id, the newest first. *meant*: by app, where its backups go when their run does not say."""
    copies: dict[tuple[str, str], list[Held]] = defaultdict(list)
    for one in there:
        copies[one.app, one.id].append(one)
    by_key = {(run.app, run.key): run for run in runs}
    entries = [_entry(app, those, by_key.pop((app, key), None), meant) for (app, key), those in copies.items()]
    entries += [_entry(app, [], run, meant) for (app, _), run in by_key.items()]
    return sorted(entries, key=lambda entry: entry.order, reverse=True)


def destinations_meant(run: BackupRun, meant: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The names of the destinations to which a run was to send its backup."""
    return run.destinations or meant.get(run.app, ())


def _entry(app: str, copies: list[Held], run: BackupRun | None, meant: Mapping[str, tuple[str, ...]]) -> Entry:
    status = _status(copies, run, meant)
    if copies:
        first = copies[0]
        return Entry(app, first.id, first.type, first.created_at, tuple(copies), run, status)
    if run is None:
        raise AssertionError("a backup is at a destination, or it has a run")
    return Entry(app, run.key, run.type, run.begun, (), run, status)


def _status(copies: list[Held], run: BackupRun | None, meant: Mapping[str, tuple[str, ...]]) -> BackupStatus:
    if run and run.state_type in _GOING:
        return "running"
    if run and run.state_type in _WAITING:
        return "pending"
    good = {copy.destination for copy in copies if copy.status == "committed"}
    if len(good) < len(copies):
        return "damaged"
    if good:
        missing = set(destinations_meant(run, meant)) - good if run else set()
        return "partial" if missing else "success"
    return "cancelled" if run and run.state_type == StateType.CANCELLED else "failed"


def _of_history(destination: str, history: History) -> Iterator[Held]:
    for record in history.records:
        yield _committed(destination, record, record.backup_id in history.pinned)
    for damaged in history.damaged:
        found = _damaged(destination, history, damaged)
        if found:
            yield found


def _committed(destination: str, record: BackupRecord, pinned: bool) -> Held:
    verified = {artifact.verified for artifact in record.artifacts}
    return Held(
        destination=destination,
        id=record.id,
        app=record.app,
        type=record.type,
        created_at=record.created_at,
        status="committed",
        completed_at=record.completed_at,
        size=record.size,
        plain_size=sum(artifact.plain_size for artifact in record.artifacts),
        encrypted=all(artifact.recipients for artifact in record.artifacts),
        verified="read-back" if "read-back" in verified else "server-digest",
        pinned=pinned,
        run=record.producer.get("flow_run", ""),
    )


def _damaged(destination: str, history: History, damaged: Damaged) -> Held | None:
    """None where its name is no backup's: nobody could ask for it."""
    backup_id = damaged.backup_id
    if backup_id is None:
        return None
    return Held(
        destination=destination,
        id=str(backup_id),
        app=history.app,
        type=backup_id.type,
        created_at=utc(backup_id.created_at),
        status="untrusted" if damaged.status == "untrusted" else "damaged",
        pinned=backup_id in history.pinned,
        detail=damaged.detail,
        remedy=damaged.error.remedy,
    )
