"""``backups restore``: with Prefect where it is there, and without it where it is not."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cli.api import prefect_api, server_known
from cli.output import human, note, progress_line, show_json
from vault.errors import ConfigError
from vault.store import absolute, check_name, is_path, refuse_password, split_named

if TYPE_CHECKING:
    from tasks.restore import RestoreRequest, RestoreResult

MAX_JOBS = 64
Repeated = Parameter(negative="", consume_multiple=False)
Flag = Parameter(negative="")


def restore(
    app: Annotated[str, Parameter(name="APP")],
    backup: Annotated[str, Parameter(name="BACKUP")] = "latest",
    /,
    *,
    from_: Annotated[str, Parameter(name="--from")],
    to: Annotated[list[str], Repeated],
    source: str | None = None,
    identity: Path | None = None,
    trust: Annotated[list[str] | None, Repeated] = None,
    overwrite: Annotated[bool, Flag] = False,
    create_roles: Annotated[bool, Flag] = False,
    jobs: int = 0,
    json: Annotated[bool, Flag] = False,
) -> int:
    """Restore a backup, or one source of it. What the target holds is never replaced without --overwrite.

    Example: backups restore shop latest --from /mnt/backups --to ./restored

    Parameters
    ----------
    app
        Whose backup.
    backup
        latest, or an id, or the beginning or the last six digits of one: see `backups list`.
    from_
        Where it lies: a saved destination, or a path.
    to
        Where to: a directory, a file, or postgresql://user@host/database. For a backup of several sources, the
        directory below which each one goes, or SOURCE=TARGET, repeated.
    source
        Only this source of the backup.
    identity
        A file with the age identity that decrypts it.
    trust
        The id of the signing key to believe, when this machine does not know it.
    overwrite
        Replace what the target holds, once the new is complete.
    create_roles
        Make PostgreSQL roles that are missing, without login.
    jobs
        How many tables PostgreSQL restores at once; default: the number of cores.
    json
        Print one JSON object.
    """
    check_name(app, "app")
    targets = _targets(to)
    for key_id in trust or []:
        if not re.fullmatch(r"[0-9a-f]{32}", key_id):
            raise ConfigError(f"{key_id!r} is not the id of a signing key", "It has 32 hex digits.")
    if not 0 <= jobs <= MAX_JOBS:
        raise ConfigError(f"--jobs is {jobs}", f"Give a number from 1 to {MAX_JOBS}.")
    jobs = jobs or min(os.cpu_count() or 2, MAX_JOBS)
    if _needs_api(from_):
        with prefect_api(), progress_line():
            from flows.restore import restore as restore_flow

            result = restore_flow(
                app=app,
                destination=from_ if not is_path(from_) else absolute(from_),
                targets=targets,
                backup=backup,
                source=source,
                overwrite=overwrite,
                create_roles=create_roles,
                jobs=jobs,
                identity_file=identity.absolute() if identity else None,
                trust=trust,
            )
    else:
        from blocks.sources.base import RestoreOptions
        from tasks.restore import RestoreRequest

        options = RestoreOptions(overwrite=overwrite, create_roles=create_roles, jobs=jobs)
        result = _without_prefect(
            RestoreRequest(app, backup, targets, source, options, identity), from_, tuple(trust or ())
        )
    _tell(result, json)
    return 0


def _without_prefect(request: RestoreRequest, from_: str, trust: tuple[str, ...]) -> RestoreResult:
    from blocks.destinations import destination_from
    from blocks.signing_key import known_trust
    from tasks.restore import restore_backup

    with progress_line():
        return restore_backup(request, destination_from(from_), known_trust(trust))


def _needs_api(from_: str) -> bool:
    """A saved destination needs the API; a path goes through it only where one is there already."""
    return not is_path(from_) or server_known()


def _targets(to: list[str]) -> dict[str, str]:
    targets: dict[str, str] = {}
    for text in to:
        name, target = split_named(text)
        if name in targets:
            raise ConfigError("two targets are given for the same source", "Name them: --to SOURCE=TARGET.")
        if re.match(r"[a-z]+://", target):
            refuse_password(target)
        else:
            target = absolute(target) + ("/" if target.endswith("/") else "")
        targets[name] = target
    return targets


def _tell(result: RestoreResult, json: bool) -> None:
    for warning in result.warnings:
        note(f"warning: {warning}")
    if json:
        show_json(
            {
                "id": result.id,
                "app": result.app,
                "seconds": result.seconds,
                "warnings": list(result.warnings),
                "artifacts": [vars(artifact) for artifact in result.artifacts],
            }
        )
        return
    print(f"Restored {result.id} of {result.app} in {result.seconds:.1f} s", file=sys.stdout)
    for artifact in result.artifacts:
        print(f"  {artifact.source} -> {artifact.target}  {human(artifact.size)}")
