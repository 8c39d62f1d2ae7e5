"""What there is of backups, row by row: what lies at the destinations, and the runs that left none."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort

from blocks.app import APP_SLUG, App, load_destinations
from blocks.destinations import DESTINATIONS, Destination, destination_from
from blocks.loading import load, missing, saved
from vault.catalog import Catalog, History, read_all
from vault.errors import BackupError, ConfigError
from vault.history import from_the_future
from vault.record import BackupId, utc
from vault.record_cache import RecordCache
from vault.signing import Trust

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

_DAYS = 30
_MOST = 200


@dataclass(frozen=True)
class Row:
    """A backup at a destination, or a run that has left none; sizes in bytes, *time* as in records."""

    id: str
    app: str
    time: str
    type: str
    size: int | None
    destination: str
    status: str
    verified: str | None = None
    detail: str = ""
    remedy: str = ""
    pinned: bool = False


def destinations_at(from_: str | None) -> dict[str, Destination]:
    """The destination that is meant, or all that are saved, by name."""
    if from_ is not None:
        return {from_: destination_from(from_)}
    refs = saved(DESTINATIONS)
    return load_destinations(refs) if refs else {}


def histories(door: Destination, app: str | None, trust: Trust, cache: RecordCache | None = None) -> Iterable[History]:
    """What lies at *door* of *app*, or of all apps; *cache* as in ``Catalog.history``."""
    if app is None:
        return read_all(door, trust, cache).values()
    return [Catalog(door, app, trust).history(cache)]


def rows_at(destination: str, found: Iterable[History]) -> list[Row]:
    """A row for each backup of these histories, the damaged ones too."""
    rows, now = [], datetime.now(UTC)
    for history in found:
        for r in history.records:
            row = Row(r.id, r.app, r.created_at, r.type, r.size, destination, "success", r.verified)
            if future := from_the_future(r.backup_id, now):
                row = replace(row, status="future", detail=future.message, remedy=future.remedy)
            rows.append(replace(row, pinned=r.backup_id in history.pinned))
        for damaged in history.damaged:
            backup_id = damaged.backup_id
            rows.append(
                Row(
                    str(backup_id or damaged.key),
                    history.app,
                    utc(backup_id.created_at) if backup_id else "",
                    backup_id.type if backup_id else "?",
                    None,
                    destination,
                    damaged.status,
                    detail=damaged.detail,
                    remedy=damaged.error.remedy,
                )
            )
    return rows


def unfinished_runs(app: str | None) -> list[Row]:
    """The backup runs of the last 30 days that did not succeed everywhere: running, failed, crashed, cancelled."""
    states = [state for state in StateType if state not in (StateType.COMPLETED, StateType.SCHEDULED)]
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["backup"])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)),
                start_time=FlowRunFilterStartTime(after_=datetime.now(UTC) - timedelta(days=_DAYS)),
            ),
            sort=FlowRunSort.START_TIME_DESC,
            limit=_MOST,
        )
    rows = [_row(run) for run in runs]
    return [row for row in rows if app in (None, row.app)]


def backup_of_run(run: FlowRun) -> BackupId | None:
    """The backup that *run* of the backup flow makes: its name ends with the id, once it has one."""
    try:
        return BackupId.parse((run.name or "").rpartition(" ")[2])
    except ConfigError:
        return None


def message_of(run: FlowRun) -> str:
    """Why it is in its state, as our own errors say it: without the words that Prefect puts before them."""
    return (
        re.sub(r"^(Flow|Task) run encountered an exception: (\w+: )?", "", run.state.message or "") if run.state else ""
    )


def first_line(run: FlowRun) -> str:
    """Of ``message_of``."""
    return next(iter(message_of(run).splitlines()), "")


def _row(run: FlowRun) -> Row:
    backup_id = backup_of_run(run)
    kind = str(backup_id.type if backup_id else run.parameters.get("type") or "?")
    status = (run.state_name or "unknown").lower()
    started = utc(run.start_time) if run.start_time else ""
    return Row(
        str(backup_id or f"run {run.id}"),
        str(run.parameters.get("app", "")),
        started,
        kind,
        None,
        "-",
        status,
        detail="" if status == "running" else first_line(run),
    )


def place_of(
    app: str, backup: str, source: str | None, believed: Callable[[str], Trust]
) -> tuple[str, list[BackupError]]:
    """The app's destination where the backup lies that is meant; for ``latest``, the newest of all that answer.

    Beside it, what is wrong with those that do not, and what is passed over at those that do, since it is from the
    future. *believed* says whose records count at a place. Raises the first
    error where it lies nowhere.
    """
    ref = f"{APP_SLUG}/{app}"
    places = [] if missing(ref) else load(ref, App).destinations
    if not places:
        raise ConfigError(f"it is not known where backups of {app} lie", "Say where from: --from DESTINATION.")
    found: dict[str, str] = {}
    passed_over: list[tuple[str, BackupError]] = []
    problems: list[BackupError] = []
    now = datetime.now(UTC)
    for place in places:
        try:
            history = Catalog(destination_from(place), app, believed(place)).history()
            found.setdefault(history.find(backup, now, source).id, place)
            future = history.from_the_future(now) if backup == "latest" else ()
            passed_over += [(place, BackupError(f"{place}: {one.message}", one.remedy)) for one in future]
        except BackupError as error:
            problems.append(error)
    if not found:
        raise problems[0]
    newest = found[max(found)]  # whoever reads that one there hears of its own anyway
    return newest, problems + [problem for place, problem in passed_over if place != newest]
