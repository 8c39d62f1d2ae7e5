"""Destinations: shown, tested, added, changed and removed. A secret goes in, and never comes out."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from threading import Lock
from typing import Any

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from blocks.destinations import DESTINATIONS, B2Destination, SftpDestination
from blocks.destinations import Destination as Door
from blocks.destinations.probe import Step
from blocks.loading import block_name, load, saved
from console import destination_tests as tests
from console import destination_use as use
from console.destination_kinds import class_of, kind_of, refuse, refuse_moved, secrets_of, sent, shown
from console.etags import etag, refuse_stale
from console.fields import confirmed
from console.listing import LISTING
from console.models.common import Trouble
from console.models.destinations import (
    AddDestination,
    ChangeDestination,
    Destination,
    HostKeyShown,
    ProbeResult,
    TryDestination,
)
from console.problems import Problem, not_found
from deployments.saved import InUse, Taken, Unfit, User, changed, made, public, refuse_taken, remove, store, users_of
from vault.errors import BackupError
from vault.store import check_name

_WHAT = "destination"
_changing = Lock()
"""What is compared with If-Match is what is changed: nobody comes in between, at least not through this console."""


def list_destinations() -> list[Destination]:
    """Every saved destination, by name."""
    refs = saved(DESTINATIONS)
    using, unread = _using(refs)
    documents = {ref: _document(ref) for ref in refs}
    tested = tests.last_tests({block_name(ref): documents[ref].since for ref in refs})
    free = use.free_space(refs)
    holds = use.known([*map(block_name, refs)])

    def shown_as(ref: str) -> Destination:
        name = block_name(ref)
        return _shown(ref, documents[ref], using[ref], tested.get(name), free[ref], unread, holds.get(name))

    found = [*map(shown_as, refs)]
    return sorted(found, key=lambda one: one.name)


def get_destination(name: str) -> Destination:
    """The saved destination *name*, with its free space as of now; ``Problem`` 404 where there is none."""
    ref = _ref(name)
    document = _document(ref)
    tested = tests.last_test(name, document.since)
    using, unread = _using([ref])
    return _shown(ref, document, using[ref], tested, use.free_space([ref])[ref], unread, use.known([name]).get(name))


def add_destination(given: AddDestination) -> Destination:
    """Save a destination after a test of it; ``Problem`` 422 with the step that failed, 409 where the name is taken."""
    own = class_of(given.kind)
    check_name(given.name, _WHAT)
    taken = [ref for ref in saved(DESTINATIONS) if block_name(ref) == given.name]
    if taken:
        raise _taken(given.name)
    block = _made(own, sent(given.kind, given.fields))
    steps = _tried(block, given.test)
    with _changing:
        try:
            refuse_taken(_WHAT, given.name, block)
        except Taken:
            raise _taken(given.name) from None
        store(_WHAT, given.name, block, overwrite=False)
    LISTING.saved(given.name)
    if steps:
        tests.remember(given.name, block, steps)
    return get_destination(given.name)


def change_destination(name: str, given: ChangeDestination, if_match: str | None = None) -> Destination:
    """Save changes, after a test: what is not sent stays, secrets too. ``Problem`` 412 where *if_match* is outdated."""
    ref = _ref(name)
    refuse_stale(if_match, _document(ref).etag)
    before, block = _changed(ref, given.fields)
    refuse_moved(before, block)
    tests.refuse_unpinned(block)
    unmarked = isinstance(block, SftpDestination) and not block.marker
    steps = tests.run(block, prepare=unmarked) if given.test else ()
    tests.passed(steps)
    with _changing:
        refuse_stale(if_match, _document(ref).etag)
        store(_WHAT, name, block, overwrite=True)
    use.forget(ref)
    LISTING.saved(name)
    if steps:
        tests.remember(name, block, steps)
    return get_destination(name)


def remove_destination(name: str, confirm: str | None, force: bool = False) -> None:
    """Forget a destination. ``Problem`` 409 while an app, a schedule or a backup there needs it, and says which.

    Where it cannot be listed, nobody can tell, and that is refused too. With *force* nobody looks at what lies there.
    """
    ref = _ref(name)
    confirmed(name, confirm)
    if not force:
        _refuse_holding(name, ref)
    try:
        with _changing:
            remove(_WHAT, ref)
        LISTING.saved(name)
    except InUse as error:
        used_by = [*map(str, error.users)]
        raise Problem(HTTPStatus.CONFLICT, error.message, error.remedy, used_by=used_by) from None


def _refuse_holding(name: str, ref: str) -> None:
    leave = f"To forget the destination, and leave there what lies there: force=true with confirm={name}."
    try:
        held = use.held_at(ref)
    except BackupError as error:
        found = Problem.of(error)
        detail = f"nobody can tell what lies at destination {name}: {found.detail}"
        raise Problem(found.status, detail, f"{found.remedy} {leave}".strip()) from error
    if held.backups:
        used_by = [*map(str, users_of([ref])[ref]), str(held)]
        detail = f"destination {name} is used by {held}"
        raise Problem(HTTPStatus.CONFLICT, detail, f"Delete those first. {leave}", used_by=used_by)


def test_destination(name: str) -> ProbeResult:
    """Test a saved destination; what came of it is remembered, also where it failed."""
    block = load(_ref(name), Door)  # type: ignore[type-abstract]
    steps = tests.run(block, prepare=False)
    tests.remember(name, block, steps)
    return tests.result(steps)


def try_destination(given: TryDestination) -> ProbeResult:
    """Test what is not saved. As saving does, this makes a directory that is missing, and marks it."""
    own = class_of(given.kind)
    fields = sent(given.kind, given.fields)
    if given.of is None:
        block = _made(own, fields)
    else:
        ref = _ref(given.of)
        if not isinstance(load(ref, Door), own):  # type: ignore[type-abstract]
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{given.of} is of kind {kind_of(ref)}, not {given.kind}")
        before, block = _changed(ref, fields)
        refuse_moved(before, block)
    tests.refuse_unpinned(block)
    return tests.result(tests.run(block, prepare=given.of is None or not getattr(block, "marker", "-")))


def host_key(host: str, port: int) -> HostKeyShown:
    """The key that an SSH server shows now, and its fingerprint; only keys are agreed, nobody logs in."""
    asked = made(SftpDestination, host=host, port=port, user="nobody", root="/backups", connect_timeout=10)
    return tests.shown_host_key(asked)


@dataclass(frozen=True)
class _Document:
    """What Prefect says of a saved block besides what is in it."""

    since: datetime | None
    etag: str


def _document(ref: str) -> _Document:
    slug, _, name = ref.partition("/")
    with get_client(sync_client=True) as client:
        try:
            found = client.read_block_document_by_name(name, slug, include_secrets=False)
        except ObjectNotFound:
            raise not_found(f"destination {name}") from None
    since = datetime.fromisoformat(found.created.isoformat()) if found.created else None
    return _Document(since, etag(str(found.id), str(found.updated), found.data))


def _ref(name: str) -> str:
    check_name(name, _WHAT)
    found = [ref for ref in saved(DESTINATIONS) if block_name(ref) == name]
    if not found:
        raise not_found(f"destination {name}", "See GET /api/backup-destinations.")
    if len(found) > 1:
        detail = f"destination {name} is saved {len(found)} times: {', '.join(found)}"
        raise Problem(HTTPStatus.CONFLICT, detail, "Remove one of them: backups destination remove KIND/NAME")
    return found[0]


def _using(refs: list[str]) -> tuple[Mapping[str, tuple[User, ...]], Trouble | None]:
    """What uses each; where an app or a schedule cannot be read, nobody can tell, and why is said instead."""
    try:
        return users_of(refs), None
    except BackupError as error:
        trouble = Trouble.of("used by", error)
        return dict.fromkeys(refs, ()), trouble


def _shown(
    ref: str,
    document: _Document,
    using: tuple[User, ...],
    tested: ProbeResult | None,
    free: int | None,
    unread: Trouble | None,
    held: use.Held | None,
) -> Destination:
    """What cannot be loaded is shown with the reason."""
    common: Mapping[str, Any] = {
        "name": block_name(ref),
        "kind": kind_of(ref),
        "last_test": tested,
        "used_by": [*map(str, using)],
        "etag": document.etag,
    }
    try:
        block = load(ref, Door)  # type: ignore[type-abstract]
    except BackupError as error:
        trouble = Trouble.of(block_name(ref), error)
        return Destination(**common, location="", fields={}, trouble=trouble)
    return Destination(
        **common,
        location=block.location,
        fields=shown(public(block), type(block)),
        secrets={name: bool(getattr(block, name).get_secret_value()) for name in sorted(secrets_of(type(block)))},
        free_space=free,
        backups=held.backups if held else None,
        stored=held.size if held else None,
        trouble=unread,
    )


def _made(own: type[Door], fields: dict[str, Any]) -> Door:
    try:
        block: Door = made(own, **fields)
    except Unfit as error:
        raise _unfit(error) from None
    tests.refuse_unpinned(block)
    return block


def _changed(ref: str, fields: dict[str, Any]) -> tuple[Door, Door]:
    """The saved block, and the one with what was sent."""
    before = load(ref, Door)  # type: ignore[type-abstract]
    given = sent(kind_of(ref), fields)
    try:
        return before, changed(_WHAT, block_name(ref), type(before), given)
    except Unfit as error:
        raise _unfit(error) from None


def _unfit(error: Unfit) -> Problem:
    wrong = {name: message.removeprefix("Value error, ") for name, message in error.fields}
    try:
        refuse(wrong)
    except Problem as problem:
        return problem
    return Problem.of(error)


def _tried(block: Door, test: bool) -> tuple[Step, ...]:
    """The steps of its test. Without one a directory or folder is claimed all the same; that of a server, if it can."""
    if test:
        steps = tests.run(block, prepare=True)
        tests.passed(steps)
        return steps
    if not isinstance(block, B2Destination):  # a bucket has nothing to claim
        with suppress(BackupError) if isinstance(block, SftpDestination) else nullcontext():
            block.prepare()
    return ()


def _taken(name: str) -> Problem:
    remedy = f"Change it: PUT /api/backup-destinations/{name}; or give another name."
    return Problem(HTTPStatus.CONFLICT, f"destination {name} is saved already", remedy)
