"""Backups: listed, looked at, and begun. What is done to one that is there: ``console.changes``."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from uuid import UUID

from blocks.app import App
from blocks.destinations import DESTINATIONS, Destination
from blocks.loading import find, load
from blocks.signing_key import keyring
from console.apps import app_ref, no_app
from console.entries import Entry, Held
from console.listing import LISTING, Look
from console.models.backups import (
    Artifact,
    Backup,
    BackupDetail,
    BackupPage,
    Copy,
    Filters,
    Run,
    StartBackup,
    Started,
)
from console.models.common import Trouble
from console.problems import Problem, not_found
from console.runs import run_url, shown
from console.starting import start
from vault.catalog import Catalog
from vault.errors import BackupError, ConfigError
from vault.record import BackupId, BackupRecord, utc
from vault.store import check_name

_NEW = timedelta(days=1)
"""A backup that was begun longer ago is in the list, or is not there."""
_CURSOR = re.compile(r"[0-9TZ:-]{1,40},[0-9A-Za-z-]{1,80}")


def list_backups(filters: Filters) -> BackupPage:
    """One page of the backups that fit *filters*, the newest first; ``Problem`` 422 for a cursor that is not ours."""
    look = LISTING.look()
    entries = look.backups.by_app.get(filters.app, []) if filters.app else look.backups.entries
    fitting = [entry for entry in entries if _fits(entry, filters)] if _narrows(filters) else entries
    first = _after(fitting, filters.cursor) if filters.cursor else 0
    page = fitting[first : first + filters.limit]
    more = first + filters.limit < len(fitting)
    return BackupPage(
        items=[backup_of(entry) for entry in page],
        next=",".join(page[-1].order) if more else None,
        total=len(fitting),
        as_of=utc(look.as_of),
        troubles=list(look.troubles),
    )


def list_backups_of(app: str, filters: Filters) -> BackupPage:
    """The same of one app, be it saved or only left in its backups; ``Problem`` 404 where it is neither."""
    look = LISTING.look()
    if check_name(app, "app") not in look.apps and app not in look.backups.by_app:
        raise no_app(app)
    return list_backups(filters.model_copy(update={"app": app}))


def get_backup(id: str) -> BackupDetail:
    """A backup with what its record says, read where it lies; *id* may be ``run-UUID`` of its run too.

    ``Problem`` 404 where there is none.
    """
    entry, look = entry_of(id)
    record, troubles = _record(entry, look)
    return BackupDetail(
        **dict(backup_of(entry)),
        artifacts=[_artifact(record, number) for number in range(len(record.artifacts))] if record else [],
        warnings=list(record.warnings) if record else [],
        troubles=troubles,
    )


def start_backup(app: str, wanted: StartBackup, idempotency_key: str | None = None) -> Started:
    """A run that backs up *app*. What cannot be is found out before it begins: ``ConfigError``, or ``Problem``."""
    saved = load(app_ref(app), App)
    saved.load_sources(wanted.type)
    refs = [find(name, DESTINATIONS, "destination") for name in wanted.destinations or ()]
    if not (refs or saved.destinations):
        raise ConfigError(f"app {app} has no destination", "Say where to: destinations; or add one to the app.")
    given = {"type": wanted.type, "destinations": refs or None, "consistent": wanted.consistent}
    parameters = {"app": app, **{name: value for name, value in given.items() if value is not None}}
    return start("backup", parameters, idempotency_key)


def entry_of(id: str) -> tuple[Entry, Look]:
    """The backup, or the run, of that id; ``Problem`` 404 where there is none, 409 where two apps have it."""
    look = LISTING.look()
    found = look.backups.by_id.get(id, [])
    if not found and _may_be_new(id):  # it may have been committed since the list was read
        LISTING.changed()
        look = LISTING.look()
        found = look.backups.by_id.get(id, [])
    if len(found) > 1:
        apps = " and ".join(entry.app for entry in found)
        raise Problem(HTTPStatus.CONFLICT, f"{apps} both have a backup {id}", "Use `backups` at the command line.")
    if not found:
        unread = ", ".join(trouble.name for trouble in look.troubles)
        raise not_found(f"backup {id[:80]}", f"It was not possible to look at {unread}." if unread else "")
    return found[0], look


def _may_be_new(id: str) -> bool:
    try:
        return datetime.now(UTC) - BackupId.parse(id).created_at < _NEW
    except ConfigError:
        return False


def backup_of(entry: Entry) -> Backup:
    """The same, as the API gives it."""
    good = entry.committed
    first = good[0] if good else None
    run = entry.run
    return Backup.model_construct(  # made of what is checked already, and many of them
        id=entry.id,
        app=entry.app,
        type=entry.type,
        status=entry.status,
        created_at=entry.created_at,
        completed_at=first.completed_at if first else run.ended if run else None,
        size=first.size if first else None,
        plain_size=first.plain_size if first else None,
        encrypted=first.encrypted if first else None,
        pinned=any(copy.pinned for copy in entry.copies),
        copies=[_copy(copy) for copy in entry.copies],
        run=_run(entry),
        detail=_detail(entry),
    )


def _detail(entry: Entry) -> str:
    if future := entry.from_the_future:
        return f"{future.message}. {future.remedy}"
    if entry.run and not entry.is_live:
        return entry.run.message
    return next((copy.detail for copy in entry.copies if copy.detail), "")


def _copy(held: Held) -> Copy:
    return Copy.model_construct(
        destination=held.destination,
        status=held.status,
        verified=held.verified,
        pinned=held.pinned,
        size=held.size,
        detail=held.detail,
        remedy=held.remedy,
    )


def _run(entry: Entry) -> Run | None:
    if entry.run:
        run = entry.run
        return Run(id=run.id, state=run.state, url=run_url(run.id), progress=shown(run.progress))
    made_by = next((copy.run for copy in entry.copies if copy.run), "")
    try:
        made_by = str(UUID(made_by))  # a record is data from outside
    except ValueError:
        return None
    return Run(id=made_by, state=None, url=run_url(made_by))


def _record(entry: Entry, look: Look) -> tuple[BackupRecord | None, list[Trouble]]:
    """The record where it can be read first, and what is wrong with the places before."""
    troubles: list[Trouble] = []
    for copy in entry.committed:
        try:
            store = load(look.destinations[copy.destination], Destination)  # type: ignore[type-abstract]
            return Catalog(store, entry.app, keyring().trust).read(BackupId.parse(entry.id)), troubles
        except BackupError as error:
            troubles.append(Trouble.of(copy.destination, error))
    return None, troubles


def _artifact(record: BackupRecord, number: int) -> Artifact:
    one = record.artifacts[number]
    return Artifact(
        source=one.source,
        kind=one.kind,
        key=one.key,
        size=one.size,
        plain_size=one.plain_size,
        sha256=one.sha256,
        tool=one.tool,
        recipients=list(one.recipients),
        warnings=list(one.warnings),
        facts=one.facts,
        restore_with=one.restore_with,
    )


def _narrows(filters: Filters) -> bool:
    return bool(filters.type or filters.status or filters.destination or filters.since or filters.q)


def _fits(entry: Entry, filters: Filters) -> bool:
    if filters.type and entry.type != filters.type:
        return False
    if filters.status and entry.status not in filters.status:
        return False
    if filters.since and entry.created_at < utc(filters.since):
        return False
    if filters.destination and filters.destination not in _places(entry):
        return False
    return not filters.q or filters.q.casefold() in _text(entry)


def _places(entry: Entry) -> Iterable[str]:
    meant = entry.run.destinations or () if entry.run else ()
    return {*(copy.destination for copy in entry.copies), *meant}


def _text(entry: Entry) -> str:
    return " ".join([entry.id, entry.app, entry.status, *_places(entry), _detail(entry)]).casefold()


def _after(entries: list[Entry], cursor: str) -> int:
    """Where the page after *cursor* begins, also when what it names is gone meanwhile."""
    if not _CURSOR.fullmatch(cursor):
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "this cursor is not one of ours",
            "Give the `next` of the page before.",
            errors=[{"field": "cursor", "message": "not a cursor"}],
        )
    created_at, _, id = cursor.partition(",")
    # The newest come first: counted from the end, the order rises.
    rising = bisect_left(range(len(entries)), (created_at, id), key=lambda back: entries[-1 - back].order)
    return len(entries) - rising
