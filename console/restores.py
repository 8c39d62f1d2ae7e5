"""Restores: what one would do, and begun."""

from __future__ import annotations

import posixpath
import re
from http import HTTPStatus
from pathlib import Path
from typing import Any

from blocks.destinations import Destination
from blocks.loading import find, load
from blocks.named_server import LOCAL, server_named
from blocks.servers import SERVERS
from blocks.signing_key import keyring
from blocks.sources.base import RestoreOptions
from console.apps import app_ref
from console.backups import entry_of
from console.entries import Entry
from console.listing import Look
from console.models.backups import Started
from console.models.restores import Outlook, RestorePreview, StartRestore
from console.problems import Problem, not_found
from console.starting import start
from tasks.resolve import RestoreRequest, outlook, places_of
from vault.errors import BackupError
from vault.store import refuse_password

_VOLUME = "docker-volume:"


def preview(id: str, wanted: StartRestore) -> RestorePreview:
    """What such a restore would do, in order. Nothing is changed by looking. See ``start_restore`` for the errors."""
    entry, look = entry_of(id)
    place = _place(entry, look, wanted.destination)
    server = _server(wanted)
    machine = server_named(server) if server else None
    targets = _targets(wanted)
    if _in_place(wanted):
        app_ref(entry.app)
    request = RestoreRequest(
        app=entry.app,
        backup=entry.id,
        targets=targets,
        source=wanted.source,
        options=RestoreOptions(
            overwrite=wanted.overwrite,
            create_roles=wanted.create_roles,
            paths=tuple(wanted.paths),
            tables=tuple(wanted.tables),
        ),
        identity_file=Path(wanted.identity_file) if wanted.identity_file else None,
        places=places_of(entry.app, machine) if _in_place(wanted) else {},
        server=machine,
        elsewhere=True,
    )
    store = load(look.destinations[place], Destination)  # type: ignore[type-abstract]
    plan, found = outlook(request, store, keyring().trust)
    return RestorePreview(
        id=entry.id,
        app=entry.app,
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
    """A run that restores the backup.

    ``Problem`` 404 where there is no such backup, 409 where nothing of it can be restored, 422 where it is not
    confirmed, or where a target cannot be meant.
    """
    entry, look = entry_of(id)
    place = _place(entry, look, wanted.destination)
    in_place = _in_place(wanted)
    if in_place:
        app_ref(entry.app)
    targets, server = _targets(wanted), _server(wanted)
    _refuse_unconfirmed(entry.app, wanted, in_place)
    parameters: dict[str, Any] = {
        "app": entry.app,
        "destination": look.destinations[place],
        "backup": entry.id,
        "in_place": in_place,
        "targets": targets,
        "source": wanted.source,
        "paths": wanted.paths or None,
        "tables": wanted.tables or None,
        "overwrite": wanted.overwrite,
        "create_roles": wanted.create_roles,
        "identity_file": wanted.identity_file,
        "server": server,
    }
    return start("restore", parameters, idempotency_key)


def _refuse_unconfirmed(app: str, wanted: StartRestore, in_place: bool) -> None:
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
        refuse_password(text)
    except BackupError as error:
        raise _unfit(field, error.message, error.remedy) from None
    if "\0" in text:
        raise _unfit(field, "a path has no zero byte in it")
    if re.match(r"[a-z]+://", text) or text.startswith(_VOLUME):
        return text
    if not text.startswith("/"):
        raise _unfit(
            field,
            f"the target {text[:200]!r} is neither a whole path, a URL nor {_VOLUME}NAME",
            "Write it from the root on: /srv/restored",
        )
    return "/" + posixpath.normpath(text).lstrip("/") + ("/" if text.endswith("/") else "")


def _unfit(field: str, detail: str, remedy: str = "") -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, remedy, errors=[{"field": field, "message": detail}])
