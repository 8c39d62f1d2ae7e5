"""The restore flow: resolve, fetch and prove, apply. The same steps run without Prefect: ``tasks.restore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field

from blocks.destinations import Place, destination_from
from blocks.named_server import SERVER_PATTERN, server_named
from blocks.signing_key import keyring
from blocks.sources import Target
from blocks.sources.base import RestoreOptions
from flows.report import showing
from flows.safety import back_up_target
from tasks.progress import Progress
from tasks.resolve import RestoreRequest, places_of
from tasks.restore import TASKS, RestoreResult, restore_backup
from vault.record import Name, Reference
from vault.signing import Trust
from vault.store import NAME_PATTERN, PATH_PATTERN

Targets = Annotated[
    dict[str, Target],
    # Of the names too: pydantic would check them by a schema that lets pass what has another name.
    Field(json_schema_extra={"propertyNames": {"pattern": f"^$|{NAME_PATTERN}"}}),
]


@flow(name="restore", flow_run_name="restore {app} {backup}", persist_result=False)
def restore(
    app: Name,
    destination: Place,
    backup: Reference = "latest",
    in_place: bool = False,
    targets: Targets | None = None,
    source: Name | None = None,
    paths: list[str] | None = None,
    tables: list[str] | None = None,
    overwrite: bool = False,
    create_roles: bool = False,
    jobs: Annotated[int, Field(ge=1, le=64)] = 2,
    identity_file: Annotated[str, Field(pattern=PATH_PATTERN)] | None = None,
    trust: list[Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]] | None = None,
    server: Annotated[str, Field(pattern=SERVER_PATTERN)] | None = None,
) -> RestoreResult:
    """Restore a backup of an app.

    Args:
        app: Whose backup, such as shop.
        destination: Where the backup lies: a saved destination, such as disk, or a path.
        backup: latest, an id as `backups list` shows it, or the beginning of one.
        in_place: What has no target goes to where the app's saved source lies.
        targets: Where each source goes: a directory, a file or a database URL, by source; "" for all others.
            Such as {"shop-db": "postgresql://shop@localhost/new", "": "/srv/restored"}. None: see in_place.
        source: Only this source of it, such as shop-db. None: all.
        paths: Only these paths of a directory, and what is below them.
        tables: Only these tables of a PostgreSQL database.
        overwrite: Replace what the target holds, once the new is complete; with paths only what stands there.
        create_roles: Make PostgreSQL roles and MySQL definers that are missing, without login.
        jobs: How many tables PostgreSQL restores at once.
        identity_file: A file with the age identity, on the machine where this runs.
        trust: Ids of signing keys to believe besides our own.
        server: The machine on which all of that lies, as ssh-server/name, or local; None: their own.
    """
    keys = keyring()
    machine = server_named(server) if server else None
    place, progress = destination_from(destination), Progress(f"restore {app}")
    request = RestoreRequest(
        app=app,
        backup=backup,
        targets=targets or {},
        source=source,
        options=RestoreOptions(overwrite, create_roles, jobs, tuple(paths or ()), tuple(tables or ())),
        identity_file=Path(identity_file) if identity_file else None,
        places=places_of(app, machine) if in_place else {},
        server=machine,
    )
    with showing(progress, ""):
        return restore_backup(
            request,
            place,
            Trust(keys.trust.public_keys, frozenset(trust or ())),
            TASKS,
            lambda artifact, target: back_up_target(app, artifact, target, place, keys),
            progress,
        )
