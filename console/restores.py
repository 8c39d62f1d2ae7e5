"""Restores: what one would do, and begun."""

from __future__ import annotations

import posixpath
from http import HTTPStatus
from pathlib import Path
from typing import Any

from blocks.destinations import Destination
from blocks.loading import find, load
from blocks.named_server import LOCAL, server_named
from blocks.servers import SERVERS
from blocks.signing_key import keyring
from blocks.sources import VOLUME, check_target
from blocks.sources.base import RestoreOptions
from console.apps import app_ref
from console.backups import entry_of
from console.entries import Entry
from console.listing import Look
from console.models.backups import Started
from console.models.restores import Outlook, RestorePreview, StartRestore
from console.problems import Problem, not_found
from console.starting import start
from tasks.resolve import RestoreRequest, chosen_of, outlook, places_of
from vault.catalog import Catalog
from vault.errors import BackupError
from vault.record import BackupId
from vault.urls import scheme_of


def preview(id: str, wanted: StartRestore) -> RestorePreview:
    """What such a restore would do, in order. Nothing is changed by looking. See ``start_restore`` for the errors."""
    request, place, ref = _request(id, wanted)
    store = load(ref, Destination)  # type: ignore[type-abstract]
    plan, found = outlook(request, store, keyring().trust)
    return RestorePreview(
        id=request.backup,
        app=request.app,
        destination=place,
        sources=[
            Outlook(
                source=one.artifact.source,
                kind=one.artifact.kind,
                size=one.artifact.plain_size,
                target=one.target.location,
                there=one.there,
                what_happens=one.what_happens,
                refused=one.refused.message if one.refused else None,
                remedy=one.refused.remedy if one.refused else "",
            )
            for one in found
        ],
        warnings=list(plan.warnings),
    )


def start_restore(id: str, wanted: StartRestore, idempotency_key: str | None = None) -> Started:
    """A run that restores the backup, once all that was typed is found to fit its record: parameters are stored.

    ``Problem`` 404 where there is no such backup, 409 where nothing of it can be restored, 422 where it is not
    confirmed, or where a target cannot be meant.
    """
    request, _place, ref = _request(id, wanted)
    _refuse_unconfirmed(request.app, wanted)
    store = load(ref, Destination)  # type: ignore[type-abstract]
    chosen_of(request, Catalog(store, request.app, keyring().trust).read(BackupId.parse(request.backup)))
    parameters: dict[str, Any] = {
        "app": request.app,
        "destination": ref,
        "backup": request.backup,
        "in_place": _in_place(wanted),
        "targets": request.targets,
        "source": wanted.source,
        "paths": wanted.paths or None,
        "tables": wanted.tables or None,
        "overwrite": wanted.overwrite,
        "create_roles": wanted.create_roles,
        "identity_file": wanted.identity_file,
        "server": _server(wanted),
    }
    return start("restore", parameters, idempotency_key)


def _request(id: str, wanted: StartRestore) -> tuple[RestoreRequest, str, str]:
    """What is wanted, the name of the destination that it is read from, and that as Prefect has it."""
    entry, look = entry_of(id)
    place = _place(entry, look, wanted.destination)
    in_place, server = _in_place(wanted), _server(wanted)
    if in_place:
        app_ref(entry.app)
    machine = server_named(server) if server else None
    request = RestoreRequest(
        app=entry.app,
        backup=entry.id,
        targets=_targets(wanted),
        source=wanted.source,
        options=RestoreOptions(
            overwrite=wanted.overwrite,
            create_roles=wanted.create_roles,
            paths=tuple(wanted.paths),
            tables=tuple(wanted.tables),
        ),
        identity_file=Path(wanted.identity_file) if wanted.identity_file else None,
        places=places_of(entry.app, machine) if in_place else {},
        server=machine,
        elsewhere=True,
    )
    return request, place, look.destinations[place]


def _refuse_unconfirmed(app: str, wanted: StartRestore) -> None:
    in_place = _in_place(wanted)
    if (in_place or wanted.overwrite) and wanted.confirm != app:
        why = "goes to where the app lives" if in_place else "may replace what its target holds"
        said = f"nothing was restored: this {why}, and it was not confirmed"
        raise _unfit("confirm", said, f'Send "confirm": "{app}".')


def _in_place(wanted: StartRestore) -> bool:
    """Whether what has no target goes to where the app's saved source lies; as at the command line."""
    return wanted.target is None and (not wanted.targets or wanted.server is not None)


def _place(entry: Entry, look: Look, wanted: str | None) -> str:
    """The destination to read from: the one that is wanted, else the app's first that has it, else any."""
    good = [copy.destination for copy in entry.committed]
    if wanted is not None:
        if wanted not in look.destinations:
            raise not_found(f"destination {wanted}")
        good = [name for name in good if name == wanted]
    if not good:
        damaged = next((copy for copy in entry.copies if copy.detail), None)
        why = f": {damaged.detail}" if damaged else ""
        at = f" at {wanted}" if wanted else ""
        raise Problem(HTTPStatus.CONFLICT, f"there is nothing to restore of backup {entry.id}{at}{why}")
    usual = look.apps[entry.app].destinations if entry.app in look.apps else ()
    return next((name for name in usual if name in good), good[0])


def _server(wanted: StartRestore) -> str | None:
    return wanted.server if wanted.server in (None, LOCAL) else find(wanted.server, SERVERS, "server")


def _targets(wanted: StartRestore) -> dict[str, str]:
    """By source, the key ``""`` for all others; each one whole, for the worker is somewhere else."""
    if wanted.identity_file is not None and not wanted.identity_file.startswith("/"):
        raise _unfit("identity_file", "the identity file has to be a whole path, on the machine of the worker")
    targets = {name: _target(f"targets.{name}", text) for name, text in wanted.targets.items()}
    return {"": _target("target", wanted.target), **targets} if wanted.target is not None else targets


def _target(field: str, text: str) -> str:
    try:
        check_target(text)
    except BackupError as error:
        raise _unfit(field, error.message, error.remedy) from None
    if scheme_of(text) or text.startswith(VOLUME):
        return text
    if not text.startswith("/"):
        raise _unfit(field, f"the target {text[:200]!r} is no whole path", "Write it from the root on: /srv/restored")
    return "/" + posixpath.normpath(text).lstrip("/") + ("/" if text.endswith("/") else "")


def _unfit(field: str, detail: str, remedy: str = "") -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, remedy, errors=[{"field": field, "message": detail}])
