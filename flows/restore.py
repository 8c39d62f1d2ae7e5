"""The restore flow: resolve, fetch and prove, apply. The same steps run without Prefect: ``tasks.restore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field

from blocks.destinations import destination_from
from blocks.signing_key import keyring
from blocks.sources.base import RestoreOptions
from tasks.restore import TASKS, RestoreRequest, RestoreResult, restore_backup
from vault.record import Name
from vault.signing import Trust


@flow(name="restore", flow_run_name="restore {app} {backup}", persist_result=False)
def restore(
    app: Name,
    destination: str,
    targets: dict[str, str],
    backup: str = "latest",
    source: str | None = None,
    overwrite: bool = False,
    create_roles: bool = False,
    jobs: Annotated[int, Field(ge=1, le=64)] = 2,
    identity_file: Path | None = None,
    trust: list[Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]] | None = None,
) -> RestoreResult:
    """Restore a backup of an app.

    Args:
        app: Whose backup.
        destination: Where it lies: block-type-slug/name, or a path.
        targets: Where each source goes: a directory, a file or a database URL, by source; "" for all others.
        backup: latest, an id, or the beginning of one.
        source: Only this source of it.
        overwrite: Replace what the target holds, once the new is complete.
        create_roles: Make PostgreSQL roles that are missing, without login.
        jobs: How many tables PostgreSQL restores at once.
        identity_file: A file with the age identity, on the machine where this runs.
        trust: Ids of signing keys to believe besides our own.
    """
    keys = keyring()
    return restore_backup(
        RestoreRequest(
            app=app,
            backup=backup,
            targets=targets,
            source=source,
            options=RestoreOptions(overwrite=overwrite, create_roles=create_roles, jobs=jobs),
            identity_file=identity_file,
        ),
        destination_from(destination),
        Trust(keys.trust.public_keys, frozenset(trust or ())),
        TASKS,
    )
