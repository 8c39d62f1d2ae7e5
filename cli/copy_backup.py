"""``backups copy``: a backup that lies at one destination, to others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cli.api import prefect_api
from cli.output import how_to_restore, progress_line, show_json
from cli.saved import Flag, Repeated
from vault.errors import ConfigError, printable
from vault.store import check_reference

if TYPE_CHECKING:
    from flows.copy_backup import CopyResult


def copy(
    backup: Annotated[str, Parameter(name="ID")],
    /,
    *,
    from_: Annotated[str, Parameter(name="--from")],
    to: Annotated[list[str], Repeated],
    trust: Annotated[list[str] | None, Repeated] = None,
    json: Annotated[bool, Flag] = False,
) -> int:
    """Copy a backup to other destinations, as it is: nothing is decrypted, and no identity is needed.

    Example: backups copy 20261123T030000Z-full-3f9a2c --from disk --to offsite

    What is read is proven by the signed record, what arrives by what the target holds; its record is written last.
    A target that has the backup already is left as it is.

    Parameters
    ----------
    backup
        The id of the backup, or the beginning or the last six digits of one: see `backups list`.
    from_
        Where it lies: a saved destination, or a path.
    to
        Where to: a saved destination, or a path. Repeatable.
    trust
        The id of the signing key to believe, when this machine does not know it.
    json
        Print one JSON object.
    """
    check_reference(backup)
    for key_id in trust or []:
        if not re.fullmatch(r"[0-9a-f]{32}", key_id):
            raise ConfigError(f"{printable(key_id)[:80]!r} is not the id of a signing key", "It has 32 hex digits.")
    with prefect_api():
        from blocks.destinations import check_place
        from flows.copy_backup import CopyFailed, copy_backup

        origin, *targets = map(check_place, (from_, *to))
        try:
            with progress_line():
                result = copy_backup(backup=backup, origin=origin, destinations=targets, trust=trust)
        except CopyFailed as error:
            if json:
                show_json(error.result.as_json())
            raise
    if json:
        show_json(result.as_json())
    else:
        _tell(result)
    return 0


def _tell(result: CopyResult) -> None:
    print(f"{result.id} of {result.app}, from {result.origin} in {result.seconds:.1f} s")
    for landing in result.destinations:
        if landing.record:
            how = "was there already, " if landing.name in result.there else ""
            print(f"  {landing.name} ({landing.location}): {how}verified by {landing.record.verified}")
    first = result.destinations[0]
    if first.record:
        print(how_to_restore(first.record, first.name))
