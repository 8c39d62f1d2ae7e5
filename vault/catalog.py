"""The commit protocol over a store: the only writer and reader of records.

A backup exists at a store if and only if its record does (law 1); records are written last and deleted first
(law 3). Whatever does not parse, is not signed by a key we trust, or whose artifacts do not fit is shown as
damaged, never counted and never deleted (law 4).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime

from vault.errors import BadRecord, ConfigError, Corrupt, DestinationError, IntegrityError, NotFound, printable
from vault.garbage import is_ours
from vault.history import Damaged as Damaged
from vault.history import FromTheFuture, Latest, from_the_future, means
from vault.history import History as History
from vault.marks import marked
from vault.parallel import ordered
from vault.record import BackupId, BackupRecord, backup_of, record_key
from vault.record_cache import RecordCache
from vault.sealing import MAX_RECORD_BYTES, seal, unseal, unseal_any
from vault.signing import Signer, Trust
from vault.spool import Segment
from vault.store import Store, StoredObject, check_name, is_key

_Found = BackupRecord | IntegrityError | DestinationError


class Catalog:
    """The backups of *app* at *store*, as far as *trust* goes."""

    def __init__(self, store: Store, app: str, trust: Trust) -> None:
        self.store = store
        self.app = check_name(app, "app")
        self.trust = trust

    def history(self, cache: RecordCache | None = None) -> History:
        """Everything that lies there. Raises when the listing fails: a part is never taken for the whole.

        With a *cache* only records that are new to it are read: for a person to look at, not to decide on.
        """
        objects = list(self.store.list(f"{self.app}/"))
        return _history(self.store, self.app, objects, self.trust, cache)

    def newest(self, backup_type: str, now: datetime) -> Latest:
        """The newest valid backup of that type whose artifacts are there, reading no more records than that takes.

        Beside it, what claims to be newer: damaged ones, and those from the future of *now*, which are not read.
        """
        objects = {stored.key: stored for stored in self.store.list(f"{self.app}/")}
        damaged, future = list[Damaged](), list[FromTheFuture]()
        for key in sorted(objects, reverse=True):
            backup_id = backup_of(key)
            if backup_id is None or backup_id.type != backup_type or key != _record_of(key):
                continue
            if passed_over := from_the_future(backup_id, now):
                future.append(passed_over)
                continue
            (found,) = _records(self.store, self.app, [objects[key]], self.trust, None)
            problem = _missing(self.store, found, objects) if isinstance(found, BackupRecord) else found
            if isinstance(found, BackupRecord) and problem is None:
                return Latest(found, tuple(damaged), tuple(future))
            if problem is not None and not isinstance(problem, NotFound):  # deleted since it was listed: no damage
                damaged.append(Damaged(key, problem))
        return Latest(None, tuple(damaged), tuple(future))

    def read(self, backup_id: BackupId) -> BackupRecord:
        """That one backup, its artifacts there in full size. Raises ``NotFound``, or what is wrong with it."""
        key = record_key(self.app, backup_id)
        found = next(_records(self.store, self.app, [self.store.stat(key)], self.trust, None))
        if not isinstance(found, BackupRecord):
            raise found
        problem = _missing(self.store, found, {})
        if problem is not None:
            raise problem
        return found

    def commit(self, record: BackupRecord, signer: Signer) -> StoredObject:
        """Write *record*: from here on the backup exists. Its artifacts must lie there in full size (X06)."""
        for artifact in record.artifacts:
            stored = self.store.stat(artifact.key)
            if stored.size != artifact.size:
                raise Corrupt(f"{artifact.key} has {stored.size} bytes at {self.store.location}, not {artifact.size}")
        upload = self.store.upload(record.key)
        try:
            upload.append(Segment.of(seal(record, signer)))
            return upload.commit()
        finally:
            upload.abort()

    def remove(self, backup_id: BackupId) -> None:
        """Delete a backup: the record first, then the artifacts (law 3). Idempotent. What is not ours stays (D08)."""
        self.store.remove(record_key(self.app, backup_id))
        for stored in list(self.store.list(f"{self.app}/")):
            if backup_of(stored.key) == backup_id and is_ours(stored.key):
                self.store.remove(stored.key)


def find_backup(store: Store, reference: str, trust: Trust) -> BackupRecord:
    """The backup, of whichever app, that *reference* means: an id, or the beginning or the random end of one.

    One listing, and no more records than that one are read.
    """
    found = [
        (stored.key.partition("/")[0], backup_id)
        for stored in store.list("")
        if (backup_id := backup_of(stored.key)) and stored.key == _record_of(stored.key)
        if means(reference, str(backup_id))
    ]
    if len(found) == 1:
        app, backup_id = found[0]
        return Catalog(store, app, trust).read(backup_id)
    shown = printable(reference)[:80]
    if not found:
        raise ConfigError(f"{store.location} has no backup {shown!r}", "See `backups list --from DEST`.")
    names = ", ".join(sorted(f"{backup_id} of {app}" for app, backup_id in found)[:5])
    raise ConfigError(f"{shown!r} fits {len(found)} backups there", f"Give more of the id: {names}")


def read_all(store: Store, trust: Trust, cache: RecordCache | None = None) -> dict[str, History]:
    """The histories of all apps at *store*, from one listing; *cache* as in :meth:`Catalog.history`."""
    apps: dict[str, list[StoredObject]] = defaultdict(list)
    for stored in store.list(""):
        apps[stored.key.partition("/")[0]].append(stored)
    return {app: _history(store, app, objects, trust, cache) for app, objects in sorted(apps.items())}


def signed_records(store: Store) -> Iterator[tuple[BackupRecord, str] | Damaged]:
    """Every genuine record at *store*, with the key that signed it, whoever's: trust and artifacts do not count."""
    keys = sorted(s.key for s in store.list("") if backup_of(s.key) and s.key == _record_of(s.key))
    for key, data in zip(keys, _contents(store, keys), strict=True):
        if isinstance(data, NotFound):  # deleted since it was listed
            continue
        try:
            if isinstance(data, DestinationError):
                raise data
            yield unseal_any(key, data)
        except (IntegrityError, DestinationError) as error:
            yield Damaged(key, error)


def _history(
    store: Store, app: str, objects: Iterable[StoredObject], trust: Trust, cache: RecordCache | None
) -> History:
    ours = {stored.key: stored for stored in objects if is_key(stored.key) and backup_of(stored.key)}
    keys = sorted(key for key in ours if key == _record_of(key))
    records: list[BackupRecord] = []
    damaged: list[Damaged] = []
    for key, found in zip(keys, _records(store, app, [ours[key] for key in keys], trust, cache), strict=True):
        if isinstance(found, BackupRecord):
            problem = _missing(store, found, ours)
            if problem is None:
                records.append(found)
            else:
                damaged.append(Damaged(key, problem))
        elif not isinstance(found, NotFound):  # deleted since it was listed: that is no damage
            damaged.append(Damaged(key, found))
    with_record = set(keys)
    orphans = tuple(stored for key, stored in ours.items() if _record_of(key) not in with_record)
    pinned, confirmed = marked(store, ours, trust)
    return History(app, tuple(records), tuple(damaged), orphans, pinned, confirmed)


def _record_of(key: str) -> str:
    return key.partition(".")[0] + ".json"


def _missing(store: Store, record: BackupRecord, ours: dict[str, StoredObject]) -> IntegrityError | None:
    for artifact in record.artifacts:
        try:  # a listing that ran while the backup was committed may have missed it: ask by key (T14)
            stored = ours.get(artifact.key) or store.stat(artifact.key)
        except NotFound:
            return Corrupt(f"{artifact.key} is missing, although its record is there")
        if stored.size != artifact.size:
            kind = "truncated" if stored.size < artifact.size else "too long"
            return Corrupt(f"{artifact.key} is {kind}: {stored.size} bytes, not {artifact.size}")
    return None


def _records(
    store: Store, app: str, listed: list[StoredObject], trust: Trust, cache: RecordCache | None
) -> Iterator[_Found]:
    """Each record, or what is wrong with it: one that cannot be read does not hide the others."""
    known = cache.load(store, app, listed) if cache else {}
    new: dict[StoredObject, bytes] = {}
    with closing(_contents(store, [stored.key for stored in listed if stored.key not in known])) as contents:
        for stored in listed:
            if stored.key in known:
                yield _judge(stored.key, known[stored.key], trust, proven=True)
                continue
            data = next(contents)
            found = data if isinstance(data, DestinationError) else _judge(stored.key, data, trust)
            if isinstance(found, BackupRecord) and isinstance(data, bytes):
                new[stored] = data
            yield found
    if cache:
        cache.save(store, app, new, {stored.key for stored in listed})


def _judge(key: str, data: bytes, trust: Trust, *, proven: bool = False) -> _Found:
    try:
        if len(data) > MAX_RECORD_BYTES:
            raise BadRecord(f"record {key} is longer than {MAX_RECORD_BYTES} bytes")
        return unseal(key, data, trust, proven=proven)
    except IntegrityError as error:
        return error


def _contents(store: Store, keys: list[str]) -> Generator[bytes | DestinationError]:
    def read(key: str) -> bytes | DestinationError:
        try:
            with store.open(key) as stream:
                return stream.read(MAX_RECORD_BYTES + 1)
        except DestinationError as error:
            return error

    if store.readers == 1:
        yield from map(read, keys)
        return
    with ThreadPoolExecutor(store.readers) as pool, closing(ordered(pool, read, keys, 4 * store.readers)) as contents:
        yield from contents
