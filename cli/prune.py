"""``backups prune``: what would go, what stays and why; and have it go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from cli.api import prefect_api
from cli.keep import Keep
from cli.output import note, show_json, show_table
from cli.saved import Flag, Repeated
from vault.store import check_name
from vault.units import human

if TYPE_CHECKING:
    from flows.prune import PruneResult
    from tasks.prune import Pruned


def prune(
    app: Annotated[str, Parameter(name="APP")],
    /,
    *,
    type: Literal["database", "files", "full"] | None = None,
    to: Annotated[list[str] | None, Repeated] = None,
    keep: Keep | None = None,
    timezone: str = "UTC",
    instead_of: Annotated[list[str] | None, Repeated] = None,
    max_deletes: int = 10,
    accept_missing: Annotated[bool, Flag] = False,
    orphans: Annotated[bool, Flag] = False,
    dry_run: Annotated[bool, Flag] = False,
    json: Annotated[bool, Flag] = False,
) -> int:
    """Delete the backups of an app that newer ones replace, as a backup does after its commit.

    Example: backups prune shop --dry-run

    What any schedule of the app keeps stays; the options here keep more. Without a schedule and an option, what the app
    says stays. Nothing is deleted where anything looks odd: it is said what, and what to do about it. What dead runs
    left, without a record, goes a day after it was first seen so.

    Parameters
    ----------
    app
        An app. It may have been removed, or be one of safety backups, such as shop-before-restore.
    type
        Only backups of this type.
    to
        Only at this saved destination. Repeatable.
    timezone
        The zone in which days, weeks and months of the options here count, such as Europe/Paris.
    instead_of
        A schedule that does not count: the options here take its place. Repeatable.
    max_deletes
        Delete nothing at a destination where more than so many of one type would go.
    orphans
        Delete no backup, only what lies there without a record.
    accept_missing
        Go on although backups that were there the last time are gone: somebody removed them on purpose.
    dry_run
        Only show what would go, what stays, and why.
    json
        Print one JSON object.
    """
    check_name(app, "app")
    given = keep or Keep()
    policy, policies_at = given.policy(timezone), given.policies_at(timezone)
    with prefect_api():
        from cli.adhoc import destinations_for
        from flows.prune import PruneRefused, prune

        try:
            result = prune(
                app=app,
                type=type,
                destinations=destinations_for(to) if to else None,
                keep=policy,
                keep_at=policies_at or None,
                instead_of=instead_of,
                max_deletes=max_deletes,
                accept_missing=accept_missing,
                dry_run=dry_run,
                orphans=orphans,
            )
        except PruneRefused as error:
            _show(error.result, json)
            raise
    _show(result, json)
    return 0


def _show(result: PruneResult, json: bool) -> None:
    if json:
        show_json(result.as_json())
        return
    rows = [row for one in result.pruned for row in _rows(one, result.dry_run)]
    if rows:
        show_table(("DESTINATION", "BACKUP", "SIZE", "", "WHY"), rows)
    elif not any(one.error for one in result.pruned):
        note(f"There is nothing of {result.app} for which anything says what is to stay, or which has no record.")
    for one in result.pruned:
        if one.judged and result.dry_run:
            count = len(one.judged.go)
            note(f"{one.destination}: {count} of {len(one.judged.records)} backups of type {one.type} would go.")
            if one.judged.refused:
                note(f"{one.destination}: without --dry-run this is refused: {one.judged.refused}")
        if one.garbage and one.garbage.verdicts:
            said = f"{one.garbage.going} would go" if result.dry_run else f"{len(one.garbage.removed)} went"
            note(f"{one.destination}: {len(one.garbage.verdicts)} of type {one.type} have no record; {said}.")


def _rows(one: Pruned, dry_run: bool) -> Iterator[tuple[str, ...]]:
    goes = "would go" if dry_run else "deleted"
    for part in (one.judged, one.garbage):
        for row in part.rows() if part else ():
            stays = "stays" if row["stays"] else goes
            yield row["destination"], row["backup"], human(row["size"]), stays, row["why"]
