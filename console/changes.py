"""What is done to backups that are there: pin, unpin, delete; at each destination, from what lies there now."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus

from blocks.destinations import Destination
from blocks.loading import load
from blocks.signing_key import Keyring, keyring
from console.backups import entry_of
from console.entries import Entry
from console.listing import LISTING, Look
from console.models.backups import Changed, Outcome
from console.problems import Problem, not_found
from tasks.seen import Spot, note_removed
from vault.catalog import Catalog
from vault.errors import BackupError, IntegrityError, KeptByLock, NotFound
from vault.marks import marked, put, take_back
from vault.record import BackupId, backup_of, record_key

_AT_ONCE = 8


@dataclass(frozen=True)
class There:
    """A backup at one destination."""

    destination: str
    catalog: Catalog
    id: BackupId
    keys: Keyring


@dataclass(frozen=True)
class Done:
    """What happened there: neither *absent* nor *error* where what was asked for is done."""

    destination: str
    absent: bool = False
    error: BackupError | None = None
    reason: str = ""

    def shown(self) -> Outcome:
        """As the API gives it."""
        if self.error:
            return Outcome(
                destination=self.destination,
                result="failed",
                detail=self.error.message,
                remedy=self.error.remedy,
            )
        return Outcome(destination=self.destination, result="absent" if self.absent else "done")


def pin(id: str, pinned: bool, destination: str | None = None) -> Changed:
    """Have a backup stay whatever any policy says, or not any more: wherever it lies, or at *destination*.

    Where one of them fails, ``Problem`` says what happened at each; it is done at the others all the same.
    """

    def mark(there: There) -> Done:
        if pinned:
            put(there.catalog.store, there.catalog.app, there.id, "pinned", there.keys.signer)
        else:
            there.catalog.store.stat(record_key(there.catalog.app, there.id))
            take_back(there.catalog.store, there.catalog.app, there.id, "pinned")
        return Done(there.destination)

    entry, look = entry_of(id)
    names = _names(entry, look, destination)
    return _told(entry, names, _each(entry, look, names, mark))


def remove_backup(id: str, confirm: str | None, force: bool = False, destination: str | None = None) -> Changed:
    """Delete a backup wherever it lies, or at *destination*: its record first, then its artifacts (law 3).

    *confirm* has to be its id, else ``Problem`` 422. 409 where it is pinned, or the last valid one of its app and type
    at a destination, and *force* is not given: then nothing is deleted anywhere; or while its run goes on.
    """
    entry, look = entry_of(id)
    if confirm not in (id, entry.id):
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, "nothing was deleted: it was not confirmed", f"Send ?confirm={entry.id}"
        )
    if entry.is_live:
        raise Problem(HTTPStatus.CONFLICT, f"the run of backup {id} goes on", "Cancel it in Prefect, or wait.")
    names = _names(entry, look, destination)
    judged = _each(entry, look, names, _judge)
    reasons = {one.destination: one.reason for one in judged if one.reason}
    if reasons and not force:
        said = "; ".join(f"at {name}: {reason}" for name, reason in reasons.items())
        raise Problem(
            HTTPStatus.CONFLICT,
            f"nothing was deleted: {said}",
            "Send force=true to delete it all the same.",
            needs_force=[{"destination": name, "detail": reason} for name, reason in reasons.items()],
        )
    certain = [one.destination for one in judged if not (one.absent or one.error)]
    removed = {one.destination: one for one in _each(entry, look, certain, _remove)}
    return _told(entry, names, [removed.get(one.destination, one) for one in judged])


def _judge(there: There) -> Done:
    """Whether it is there, and what speaks against deleting it."""
    store, app = there.catalog.store, there.catalog.app
    keys = [stored.key for stored in store.list(f"{app}/")]
    own = [key for key in keys if backup_of(key) == there.id]
    if record_key(app, there.id) not in own:
        return Done(there.destination, absent=True)
    if marked(store, own, there.keys.trust)[0]:
        return Done(there.destination, reason="it is pinned")
    others = sorted({other for key in keys if (other := backup_of(key)) and other.type == there.id.type} - {there.id})
    if _is_valid(there.catalog, there.id) and not any(_is_valid(there.catalog, one) for one in reversed(others)):
        return Done(there.destination, reason=f"it is the last valid backup of {app} of type {there.id.type} there")
    return Done(there.destination)


def _is_valid(catalog: Catalog, id: BackupId) -> bool:
    try:
        catalog.read(id)
    except (IntegrityError, NotFound):
        return False
    return True


def _remove(there: There) -> Done:
    app, store = there.catalog.app, there.catalog.store
    try:
        note_removed(Spot(app, there.id.type, there.destination, store.location), there.id)
        there.catalog.remove(there.id)
    except KeptByLock as error:
        return Done(there.destination, error=error)
    return Done(there.destination)


def _names(entry: Entry, look: Look, destination: str | None) -> list[str]:
    """The destinations that are meant: where it lies, and where nobody could look."""
    if destination is not None and destination not in look.destinations:
        raise not_found(f"destination {destination[:80]}")
    unread = {trouble.name for trouble in look.troubles} & {*look.destinations}
    names = sorted({*(copy.destination for copy in entry.copies), *unread})
    no_id_yet = entry.run is not None and entry.run.backup is None
    chosen = [name for name in names if destination in (None, name) and not no_id_yet]
    if not chosen:
        raise Problem(HTTPStatus.CONFLICT, f"backup {entry.id} lies at no destination{destination and ' of that name'}")
    return chosen


def _each(entry: Entry, look: Look, names: list[str], do: Callable[[There], Done]) -> list[Done]:
    id, keys = BackupId.parse(entry.id), keyring()

    def at(name: str) -> Done:
        try:
            store = load(look.destinations[name], Destination)  # type: ignore[type-abstract]
            return do(There(name, Catalog(store, entry.app, keys.trust), id, keys))
        except NotFound:
            return Done(name, absent=True)
        except BackupError as error:
            return Done(name, error=error)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(at, names))


def _told(entry: Entry, names: list[str], done: list[Done]) -> Changed:
    """What happened, once the list knows of it too; ``Problem`` where it failed anywhere."""
    LISTING.changed(*names)
    outcomes = [one.shown() for one in done]
    errors = {one.destination: one.error for one in done if one.error}
    if not errors:
        return Changed(id=entry.id, app=entry.app, destinations=outcomes)
    first = next(iter(errors.values()))
    status = HTTPStatus.CONFLICT if isinstance(first, KeptByLock) else Problem.of(first).status
    said = "; ".join(f"{name}: {error.message}" for name, error in errors.items())
    raise Problem(
        status,
        f"this failed at {len(errors)} of {len(done)} destinations: {said}",
        first.remedy,
        destinations=[outcome.model_dump() for outcome in outcomes],
    )
