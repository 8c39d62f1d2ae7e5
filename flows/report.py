"""What a run says of itself: its name and artifacts in Prefect, its result, and the text of its failure.

Prefect is told what it can be told: where its API is gone, the backup goes on (O02).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from prefect import runtime
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.client.orchestration import get_client

from tasks.log import run_log
from tasks.progress import Progress
from tasks.run import Run
from vault.errors import BackupError
from vault.log import about
from vault.record import BackupRecord, utc
from vault.units import human

_COLUMNS = dict.fromkeys(
    ("destination", "source", "status", "size", "of", "warnings", "seconds", "artifact", "sha256"), ""
)
_BEAT = 2.0  # seconds between two updates of the progress artifact


@dataclass(frozen=True)
class Landing:
    """How one destination ended: *error* is empty where the backup is committed there."""

    name: str
    location: str
    record: BackupRecord | None
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "name": self.name,
            "location": self.location,
            "status": "committed" if self.record else "failed",
            "verified": self.record.verified if self.record else None,
            "error": self.error or None,
        }


@dataclass(frozen=True)
class BackupResult:
    """How a backup ended, destination by destination."""

    id: str
    app: str
    type: str
    started_at: str
    seconds: float
    destinations: tuple[Landing, ...]
    warnings: tuple[str, ...] = ()

    @property
    def record(self) -> BackupRecord | None:
        """A record of what was committed, the same but for how and how fast it got there."""
        return next((landing.record for landing in self.destinations if landing.record), None)

    @property
    def summary(self) -> str:
        """For a person, a line for each destination."""
        lines = [
            f"{done.name}: {done.record.size:,} bytes, verified by {done.record.verified}"
            for done in self.destinations
            if done.record
        ]
        return "\n".join([f"Backup {self.id} of {self.app} in {self.seconds} s", *lines, *self.warnings])

    def as_json(self) -> dict[str, Any]:
        """For ``--json``: one object with ``id``, ``artifacts`` and ``destinations``."""
        artifacts = self.record.model_dump(mode="json")["artifacts"] if self.record else []
        own = {key: value for key, value in asdict(self).items() if key != "destinations"}
        return {
            **own,
            "artifacts": artifacts,
            "destinations": [landing.as_json() for landing in self.destinations],
        }


def told(what: str, landings: Sequence[Landing]) -> tuple[str, str]:
    """Message and remedy of *what* failed at some of its destinations, or at all.

    The message has the first line of each error. All others follow in their order, for each destination by itself: the
    step, what tools said, what to do; once where several have the same.
    """
    failed = [landing for landing in landings if landing.error]
    good = [landing.name for landing in landings if landing.record]
    lines = "; ".join(f"{landing.name}: {landing.error.splitlines()[0]}" for landing in failed)
    parts = [f"committed at {', '.join(good)}"] * bool(good) + [f"failed at {lines}"] * bool(failed)
    more: dict[str, list[str]] = {}
    for landing in failed:
        if rest := "\n".join(landing.error.splitlines()[1:]):
            more.setdefault(rest, []).append(landing.name)
    heads = len(failed) > 1
    return f"{what}: {'; '.join(parts)}", "\n".join(
        f"At {', '.join(names)}:\n{rest}" if heads else rest for rest, names in more.items()
    )


class BackupFailed(BackupError):
    """A destination failed, or all of them, or what follows the reading; what could be committed is and stays so."""

    def __init__(self, result: BackupResult, after: BackupError | None = None) -> None:
        message, remedy = told(f"backup {result.id} of {result.app}", result.destinations)
        if after is not None:
            message, remedy = f"{message}; {after.message}", f"{remedy}\n{after.remedy}".strip()
        super().__init__(message, remedy)
        self.result, self.after = result, after

    def __reduce__(self) -> tuple[type[BackupFailed], tuple[BackupResult, BackupError | None]]:
        return type(self), (self.result, self.after)


def outcome(run: Run) -> BackupResult:
    """The result of *run* as it stands now."""
    committed = {name: done.record for name, done in run.committed.items()}
    landings = tuple(
        Landing(
            name,
            place.location,
            committed.get(name),
            error_text(run.failures.get(name)),
        )
        for name, place in run.destinations.items()
    )
    warnings = [*run.warnings]
    record = next(iter(committed.values()), None)
    if record is not None:
        warnings += [*record.warnings, *(f"{a.source}: {said}" for a in record.artifacts for said in a.warnings)]
    return BackupResult(
        id=str(run.id),
        app=run.app,
        type=run.id.type,
        started_at=utc(run.id.created_at),
        seconds=round(run.progress.now.seconds, 1),
        destinations=landings,
        warnings=tuple(warnings),
    )


def error_text(error: BaseException | None) -> str:
    """What is told of *error*; empty where there is none."""
    if error is None:
        return ""
    return str(error) if isinstance(error, BackupError) else f"{type(error).__name__}: {error}"


def best_effort(tell: Callable[[], Any]) -> Any:
    """Tell Prefect something; a failure to do so is logged, and is no failure of the backup."""
    try:
        return tell()
    except Exception as error:  # noqa: BLE001 - whatever an API client raises: the records are the truth
        run_log().warning("Prefect could not be told: %s", error)
        return None


def announce(run: Run) -> None:
    """Name the flow run after app, type and id."""
    best_effort(lambda: _rename(f"{run.app} {run.id.type} {run.id}"))


def _rename(name: str) -> None:
    flow_run = runtime.flow_run.id
    if flow_run:
        with get_client(sync_client=True) as client:
            client.update_flow_run(flow_run, name=name)


def publish(result: BackupResult) -> None:
    """The table artifact, a row for each artifact at each destination; and a line for each in the run's log."""
    for landing in result.destinations:
        with about(destination=landing.name):
            _log(landing)
    for warning in result.warnings:
        run_log().warning("%s", warning)
    rows = [row for landing in result.destinations for row in _rows(landing)]
    best_effort(
        lambda: create_table_artifact(
            key=f"backup-{result.app}",
            table=rows,
            description=f"Backup `{result.id}` of {result.app}, of type {result.type}",
        )
    )


def _log(landing: Landing) -> None:
    where, record = f"{landing.name} ({landing.location})", landing.record
    if record is None:
        run_log().error("%s: %s", where, landing.error)
    else:
        run_log().info("%s: %d bytes, verified by %s", where, record.size, record.verified)


def _rows(landing: Landing) -> list[dict[str, Any]]:
    """What a person looks for first comes first; all have the same columns: Prefect shows those of the first row."""
    if landing.record is None:
        said = landing.error.splitlines()[0] if landing.error else "not committed"
        return [{**_COLUMNS, "destination": landing.name, "source": "all", "status": f"FAILED: {said}"}]
    return [
        {
            **_COLUMNS,
            "destination": landing.name,
            "source": artifact.source,
            "status": f"committed, verified by {artifact.verified}",
            "size": human(artifact.size),
            "of": human(artifact.plain_size),
            "warnings": len(artifact.warnings),
            "seconds": ", ".join(f"{stage} {seconds:g}" for stage, seconds in artifact.seconds.items()),
            "artifact": artifact.key.rpartition("/")[2],
            "sha256": artifact.sha256,
        }
        for artifact in landing.record.artifacts
    ]


@contextmanager
def showing(progress: Progress, what: str = "Backup of ") -> Iterator[None]:
    """While a run goes on, keep its progress artifact in Prefect up to date; its description says the stage."""

    def said() -> str:
        return f"{what}{progress.now}"

    artifact = best_effort(lambda: create_progress_artifact(0.0, description=said()))
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(_BEAT):
            best_effort(lambda: update_progress_artifact(artifact, _percent(progress), said()))

    thread = threading.Thread(target=beat, name="progress", daemon=True)
    if artifact is not None:
        thread.start()
    try:
        yield
        if artifact is not None:
            ended.set()
            thread.join()
            best_effort(lambda: update_progress_artifact(artifact, 100.0, said()))
    finally:
        ended.set()


def _percent(progress: Progress) -> float:
    now = progress.now
    return min(99.0, 100.0 * now.done / now.expected) if now.expected else 0.0
