"""``backups run``: back up an app now, one that is saved or one that the command line describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from cli.api import prefect_api
from cli.output import how_to_restore, note, progress_line, show_json
from vault.codec import Codec
from vault.errors import ConfigError
from vault.store import check_name
from vault.units import human

if TYPE_CHECKING:
    from flows.report import BackupResult

Repeated = Parameter(negative="", consume_multiple=False)


def run(
    name: Annotated[str | None, Parameter(name="APP")] = None,
    /,
    *,
    app: str | None = None,
    source: Annotated[list[str] | None, Repeated] = None,
    to: Annotated[list[str] | None, Repeated] = None,
    type: Literal["database", "files", "full"] | None = None,
    encrypt_to: Annotated[list[str] | None, Repeated] = None,
    compression: Literal["zstd", "gzip", "none"] | None = None,
    keep_last: int | None = None,
    consistent: bool | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Back up an app now.

    Example: backups run --app shop --source postgresql://shop@localhost/shop --source ./uploads --to /mnt/backups

    With --source the app is saved under its name; from then on `backups run shop` does the same.

    Parameters
    ----------
    name
        A saved app.
    app
        The name of the app; the same as APP.
    source
        A source: postgresql://user@host/database, mysql://user@host/database, an SQLite file, a directory, or a saved
        source. Repeatable; NAME=… names it.
    to
        A destination: a path, or a saved destination. Repeatable; default: the app's own.
    type
        Only its databases, only its files, or both.
    encrypt_to
        An age recipient (age1…, see `backups keys generate`). Repeatable; saved with the app.
    compression
        How the backup is compressed; saved with the app.
    keep_last
        Keep so many backups of each type at each destination (saved with the app).
    consistent
        Stop or pause the app's containers while all of it is read; default: as the app says.
    json
        Print one JSON object: id, artifacts, destinations.
    """
    app_name = check_name(_one_name(name, app), "app")
    Codec(recipients=tuple(encrypt_to or ()))  # a recipient that is none is found before anything starts
    with prefect_api():
        from cli.adhoc import Wanted, change_app, destinations_for, save_app
        from flows.backup import backup
        from flows.report import BackupFailed

        others = {"encrypt_to": encrypt_to, "compression": compression, "keep_last": keep_last}
        wanted = Wanted(source or [], to or [], others)
        if source:
            save_app(app_name, wanted)
        else:
            change_app(app_name, wanted)
        try:
            with progress_line():
                result = backup(
                    app=app_name,
                    type=type,
                    destinations=destinations_for(wanted.to) or None,
                    consistent=consistent,
                )
        except BackupFailed as error:
            if json:
                show_json(error.result.as_json())
            raise
    if json:
        show_json(result.as_json())
    else:
        _tell(result)
    return 0


def _one_name(name: str | None, app: str | None) -> str:
    if name and app and name != app:
        raise ConfigError(f"two apps are named: {name} and {app}", "Give one.")
    if not (name or app):
        raise ConfigError("no app is named", "Give its name: backups run APP; see `backups app list`.")
    return name or app or ""


def _tell(result: BackupResult) -> None:
    record = result.record
    if record is None:
        return
    plain = sum(artifact.plain_size for artifact in record.artifacts)
    print(f"{result.id}  {human(plain)} -> {human(record.size)} in {result.seconds:.1f} s")
    for landing in result.destinations:
        if landing.record:
            print(f"  {landing.name} ({landing.location}): verified by {landing.record.verified}")
    for warning in result.warnings:
        note(f"warning: {warning}")
    print(how_to_restore(record, result.destinations[0].name))
