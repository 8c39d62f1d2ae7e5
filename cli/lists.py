"""``backups list`` and ``backups show``: what lies at the destinations, and which runs failed or still run."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from cli.api import api_for
from cli.output import note, show_json, show_table
from vault.errors import BackupError, ConfigError, printable
from vault.store import check_name, is_path
from vault.units import human

if TYPE_CHECKING:
    from tasks.listing import Row
    from vault.record_cache import RecordCache
    from vault.signing import Trust

_HEADS = ("ID", "APP", "TIME (UTC)", "TYPE", "SIZE", "DESTINATION", "STATUS")


def list_backups(
    app: Annotated[str | None, Parameter(name="APP")] = None,
    /,
    *,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    trust: Annotated[list[str] | None, Parameter(negative="", consume_multiple=False)] = None,
    no_cache: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """List backups, oldest first; failed and running runs too.

    Example: backups list shop --from /mnt/backups

    Parameters
    ----------
    app
        Only those of this app.
    from_
        Only this destination: a saved one, or a path (then no Prefect API is needed, and no runs are shown).
    trust
        The id of a signing key to believe besides those that this machine knows.
    no_cache
        Read every record where it lies, also those that were read before.
    json
        Print one JSON array.
    """
    if app is not None:
        check_name(app, "app")
    with api_for(from_):
        from tasks.listing import destinations_at, histories, rows_at, unfinished_runs

        doors = destinations_at(from_)
        believed = _trust(from_, trust or [])
        rows, failed, cache = [], [], _cache(no_cache)
        for name, door in doors.items():
            try:
                rows += rows_at(name, histories(door, app, believed, cache))
            except BackupError as error:
                failed.append(error)
                note(f"backups: destination {name}: {error.message}")
        if from_ is None:
            rows += unfinished_runs(app)
    rows.sort(key=lambda row: (row.time, row.id))
    if json:
        show_json([vars(row) for row in rows])
    elif rows:
        show_table(_HEADS, [_cells(row) for row in rows])
    else:
        note("There are no backups here yet.")
    if not json:
        _explain(rows)
    if failed:
        raise BackupError(f"{len(failed)} of {len(doors)} destinations could not be listed")
    return 0


def _explain(rows: list[Row]) -> None:
    """Why rows are not what they should be; what holds for many of them, such as an unknown signer, once."""
    of: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.detail:
            of[row.detail, row.remedy].append(row)
    for (detail, remedy), alike in of.items():
        who = alike[0].id if len(alike) == 1 else f"{len(alike)} backups, {alike[0].id} to {alike[-1].id}"
        note(f"{who}: {printable(detail)}" + (f"\n  {printable(remedy)}" if remedy else ""))


def show(
    id: Annotated[str, Parameter(name="ID")],
    /,
    *,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    trust: Annotated[list[str] | None, Parameter(negative="", consume_multiple=False)] = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Show the record of a backup: what is in it, how it was proven, and how to restore it with standard tools.

    Example: backups show 20261123T030000Z-full-3f9a2c

    Parameters
    ----------
    id
        The backup's id, or the beginning or the last six digits of one.
    from_
        Only this destination: a saved one, or a path.
    trust
        The id of a signing key to believe besides those that this machine knows.
    json
        Print the record as JSON.
    """
    with api_for(from_):
        from tasks.listing import destinations_at, histories

        believed = _trust(from_, trust or [])
        found: dict[str, dict[str, Any]] = {}
        for name, door in destinations_at(from_).items():
            for history in histories(door, None, believed):
                if any(id in (record.id, record.id[-6:]) or record.id.startswith(id) for record in history.records):
                    found[name] = history.find(id, datetime.now(UTC)).model_dump(mode="json")
                elif any(id in damaged.key for damaged in history.damaged):
                    history.find(id, datetime.now(UTC))
    if not found:
        raise ConfigError(f"no destination has a backup {id!r}", "See `backups list`.")
    if json:
        show_json(found if len(found) > 1 else next(iter(found.values())))
    else:
        for name, record in found.items():
            _print_record(name, record)
    return 0


def _print_record(destination: str, record: dict[str, Any]) -> None:
    print(f"{record['id']}  app {record['app']}, at {destination}")
    print(f"  {record['created_at']} to {record['completed_at']}")
    if record.get("offset") is not None:
        print(f"  files read from {record['offset']:.1f} s after its last database on: see 'read' below")
    if record.get("held"):
        print(f"  held still while all was read: {', '.join(record['held'])}")
    for warning in record.get("warnings", ()):
        print(f"  warning   {warning}")
    for artifact in record["artifacts"]:
        ratio = f"{human(artifact['plain_size'])} -> {human(artifact['size'])}"
        print(f"  {artifact['source']} ({artifact['kind']}): {ratio}, verified by {artifact['verified']}")
        print(f"    file      {artifact['key']}")
        print(f"    sha256    {artifact['sha256']}")
        print(f"    made by   {artifact['tool']}")
        read = artifact.get("read")
        if read:
            print(f"    read      from {read['began']:.1f} s to {read['ended']:.1f} s of the run")
        if artifact["recipients"]:
            print(f"    encrypted to {', '.join(artifact['recipients'])}")
        for warning in artifact["warnings"]:
            print(f"    warning   {warning}")
        print(f"    restore   {artifact['restore_with']}")


def _trust(from_: str | None, key_ids: list[str]) -> Trust:
    from blocks.signing_key import keyring, known_trust
    from vault.signing import Trust

    if from_ is not None and is_path(from_):
        return known_trust(tuple(key_ids))
    return Trust(keyring().trust.public_keys, frozenset(key_ids))


def _cache(no_cache: bool) -> RecordCache | None:
    from vault.record_cache import RecordCache, default_path

    return None if no_cache else RecordCache(default_path())


def _cells(row: Row) -> tuple[str, ...]:
    size = human(row.size) if row.size is not None else "-"
    status = f"verified ({row.verified})" if row.verified else row.status
    status = f"from the future, {status}" if row.status == "future" else status
    status += ", pinned" if row.pinned else ""
    return row.id, row.app, row.time, row.type, size, row.destination, status
