"""``backups restore``: with Prefect where it is there, and without it where it is not."""

from __future__ import annotations

import os
import re
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cli.api import prefect_api, server_known
from cli.output import note, progress_line, show_json
from cli.restore_plan import Wanted, destination_of, looked_at
from vault.errors import ConfigError
from vault.store import absolute, check_name, check_reference, is_path, split_named
from vault.units import human
from vault.urls import refuse_password, scheme_of

if TYPE_CHECKING:
    from tasks.restore import RestoreResult

MAX_JOBS = 64
Repeated = Parameter(negative="", consume_multiple=False)
Flag = Parameter(negative="")


def restore(
    app: Annotated[str, Parameter(name="APP")],
    backup: Annotated[str, Parameter(name="BACKUP")] = "latest",
    /,
    *,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: Annotated[list[str] | None, Repeated] = None,
    to_server: Annotated[str | None, Parameter(name=("--to-server", "--server"))] = None,
    source: str | None = None,
    path: Annotated[list[str] | None, Repeated] = None,
    table: Annotated[list[str] | None, Repeated] = None,
    identity: Path | None = None,
    trust: Annotated[list[str] | None, Repeated] = None,
    overwrite: Annotated[bool, Flag] = False,
    create_roles: Annotated[bool, Flag] = False,
    jobs: int = 0,
    yes: Annotated[bool, Flag] = False,
    dry_run: Annotated[bool, Flag] = False,
    json: Annotated[bool, Flag] = False,
) -> int:
    """Restore a backup, or one source of it. What the target holds is never replaced without --overwrite.

    Without --to each source of a saved app goes back to where it lies, databases first; on another server, to the same
    places there. Then what will be done is shown, and asked for.

    Example: backups restore shop latest --from /mnt/backups --to ./restored

    Parameters
    ----------
    app
        Whose backup.
    backup
        latest, or an id, or the beginning or the last six digits of one: see `backups list`.
    from_
        Where it lies: a saved destination, or a path; default: the app's own.
    to
        Where to: a directory, a file, postgresql://user@host/database or mysql://user@host/database. For a backup of
        several sources, the directory below which each one goes, or SOURCE=TARGET, repeated.
    to_server
        The saved server on which all that lies, or local for this machine; default: this machine for --to, and else
        each source's own.
    source
        Only this source of the backup.
    path
        Only this file, or this directory and what is below it, of a directory or a volume: etc/app.conf. Repeatable.
    table
        Only this table of a PostgreSQL database, into a new or an empty one: orders, or sales.orders. Repeatable.
    identity
        A file with the age identity that decrypts it.
    trust
        The id of the signing key to believe, when this machine does not know it.
    overwrite
        Replace what the target holds, once the new is complete; with --path only what stands at these paths.
    create_roles
        Make PostgreSQL roles and MySQL definers that are missing, without login.
    jobs
        How many tables PostgreSQL restores at once; default: the number of cores.
    yes
        Do not ask.
    dry_run
        Show what would be done, and do nothing.
    json
        Print one JSON object.
    """
    check_name(app, "app")
    check_reference(backup)
    if source is not None:
        check_name(source, "source")
    _check(trust or [], jobs)
    targets = _targets(to or [])
    wanted = Wanted(
        app,
        backup,
        targets,
        source,
        (overwrite, create_roles, jobs or min(os.cpu_count() or 2, MAX_JOBS), tuple(path or ()), tuple(table or ())),
        identity.absolute() if identity else None,
        tuple(trust or ()),
        in_place="" not in targets and (not targets or to_server is not None),
        server=to_server,
    )
    with_api = wanted.in_place or from_ is None or to_server is not None or _needs_api(from_)
    with prefect_api() if with_api else nullcontext():
        place = from_ or destination_of(wanted)
        if wanted.in_place or dry_run:
            wanted = looked_at(wanted, place, dry_run=dry_run, ask=not yes, json=json)
        if dry_run:
            return 0
        with progress_line():
            result = _through_prefect(wanted, place) if with_api and _is_text(path or []) else _alone(wanted, place)
    _tell(result, json)
    return 0


def _check(trust: list[str], jobs: int) -> None:
    for key_id in trust:
        if not re.fullmatch(r"[0-9a-f]{32}", key_id):
            raise ConfigError(f"{key_id!r} is not the id of a signing key", "It has 32 hex digits.")
    if not 0 <= jobs <= MAX_JOBS:
        raise ConfigError(f"--jobs is {jobs}", f"Give a number from 1 to {MAX_JOBS}.")


def _through_prefect(wanted: Wanted, place: str) -> RestoreResult:
    from blocks.destinations import check_place
    from blocks.sources import check_target
    from flows.restore import restore as restore_flow

    overwrite, create_roles, jobs, paths, tables = wanted.options
    return restore_flow(
        app=wanted.app,
        destination=check_place(place),
        targets={name: check_target(target) for name, target in wanted.targets.items()},
        backup=wanted.backup,
        source=wanted.source,
        paths=list(paths) or None,
        tables=list(tables) or None,
        overwrite=overwrite,
        create_roles=create_roles,
        jobs=jobs,
        identity_file=str(wanted.identity) if wanted.identity else None,
        trust=list(wanted.trust) or None,
        in_place=wanted.in_place,
        server=wanted.server_ref,
    )


def _alone(wanted: Wanted, place: str) -> RestoreResult:
    from blocks.destinations import destination_from
    from blocks.signing_key import known_trust
    from tasks.restore import restore_backup

    with nullcontext() if is_path(place) else prefect_api():
        return restore_backup(wanted.request(), destination_from(place), known_trust(wanted.trust))


def _needs_api(from_: str) -> bool:
    """A saved destination needs the API; a path goes through it only where one is there already."""
    return not is_path(from_) or server_known()


def _is_text(paths: list[str]) -> bool:
    """Whether Prefect can hold them as parameters: names of files need not be Unicode."""
    return not any("\udc80" <= letter <= "\udcff" for path in paths for letter in path)


def _targets(to: list[str]) -> dict[str, str]:
    targets: dict[str, str] = {}
    for text in to:
        name, target = split_named(text)
        if name in targets:
            raise ConfigError("two targets are given for the same source", "Name them: --to SOURCE=TARGET.")
        refuse_password(target)
        if not scheme_of(target) and not target.startswith("docker-volume:"):
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
        for left in artifact.facts.get("left_out", ()):
            note(f"left out: {left}")
