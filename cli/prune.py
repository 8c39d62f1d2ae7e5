"""``backups prune``: what would go, what stays and why; and have it go."""

from __future__ import annotations

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
    dry_run: Annotated[bool, Flag] = False,
    json: Annotated[bool, Flag] = False,
) -> int:
    """Delete the backups of an app that newer ones replace, as a backup does after its commit.

    Example: backups prune shop --dry-run

    What any schedule of the app keeps stays; the options here keep more. Without a schedule and an option, what the app
    says stays. Nothing is deleted where anything looks odd: it is said what, and what to do about it.

    Parameters
    ----------
    app
        A saved app.
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
        note(f"There is no backup of {result.app} for which anything says what is to stay.")
    for one in result.pruned:
        if one.judged and result.dry_run:
            count = len(one.judged.go)
            note(f"{one.destination}: {count} of {len(one.judged.records)} backups of type {one.type} would go.")
            if one.judged.refused:
                note(f"{one.destination}: without --dry-run this is refused: {one.judged.refused}")


def _rows(one: Pruned, dry_run: bool) -> list[tuple[str, ...]]:
    if one.judged is None:
        return []
    goes = "would go" if dry_run else "deleted"
    return [
        (row["destination"], row["backup"], human(row["size"]), "stays" if row["stays"] else goes, row["why"])
        for row in one.judged.rows()
    ]
