"""What retention did and why, as a table artifact of the run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prefect.artifacts import create_table_artifact

from flows.report import best_effort
from tasks.garbage import Collected
from tasks.retain import Judged

_MOST = 500  # rows that Prefect's UI shows without trouble


def show_retention(app: str, judged: Sequence[Judged], garbage: Sequence[Collected] = ()) -> None:
    """A row for each backup at each destination, and for what has no record, with why it stays or went."""
    rows = [row for one in judged for row in one.rows()] + [row for one in garbage for row in one.rows()]
    if not rows:
        return
    more = f"; the first {_MOST} of {len(rows)}" if len(rows) > _MOST else ""
    best_effort(
        lambda: create_table_artifact(
            key=f"retention-{app}",
            table=rows[:_MOST],
            description=f"Which backups of {app} stay, and why ({_counted(judged, garbage)}{more})",
        )
    )


def _counted(judged: Iterable[Judged], garbage: Iterable[Collected]) -> str:
    deleted = [f"{len(one.dropped)} deleted at {one.destination}" for one in judged]
    orphans = [
        f"{len(one.removed)} of {len(one.verdicts)} without a record removed at {one.destination}"
        for one in garbage
        if one.verdicts
    ]
    return "; ".join([*deleted, *orphans])
