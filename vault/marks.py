"""What a person has said of a backup, beside its record: that it is to stay, or that it is small for good reason.

A mark is a small object ``app/<id>.pinned`` or ``app/<id>.confirmed``. It goes with its backup. That a pin is there is
enough: at worst, more is kept. A confirmation lets retention go on, so it counts only when we, or one whom we
trust, signed it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Literal

from vault.errors import AlreadyExists, BadRecord, NotFound, WrongKey
from vault.record import BackupId, backup_of, record_key
from vault.signing import Signer, Trust
from vault.spool import Segment
from vault.store import Store, check_key

Mark = Literal["pinned", "confirmed"]
_MARKS: tuple[Mark, ...] = ("pinned", "confirmed")
_MOST = 4096  # bytes of one


def put(store: Store, app: str, backup_id: BackupId, mark: Mark, signer: Signer) -> None:
    """Note *mark* beside the backup's record, which must be there (``NotFound``). Idempotent."""
    store.stat(record_key(app, backup_id))
    key = _key(app, backup_id, mark)
    upload = store.upload(key)
    try:
        upload.append(Segment.of(_written(key, signer)))
        upload.commit()
    except AlreadyExists:
        if mark == "confirmed" and not _is_genuine(store, key, Trust.of([signer.public_key])):
            store.remove(key)  # it does not count: somebody else's
            put(store, app, backup_id, mark, signer)
    finally:
        upload.abort()


def take_back(store: Store, app: str, backup_id: BackupId, mark: Mark) -> None:
    """Remove it. Idempotent."""
    store.remove(_key(app, backup_id, mark))


def marked(store: Store, keys: Iterable[str], trust: Trust) -> tuple[frozenset[BackupId], frozenset[BackupId]]:
    """The backups that are pinned, and those that are confirmed, by the marks among *keys*."""
    found: dict[Mark, set[BackupId]] = {"pinned": set(), "confirmed": set()}
    for key in keys:
        mark, backup_id = key.partition(".")[2], backup_of(key)
        if mark in _MARKS and backup_id and (mark == "pinned" or _is_genuine(store, key, trust)):
            found[mark].add(backup_id)
    return frozenset(found["pinned"]), frozenset(found["confirmed"])


def _key(app: str, backup_id: BackupId, mark: Mark) -> str:
    return check_key(record_key(app, backup_id).removesuffix("json") + mark)


def _written(key: str, signer: Signer) -> bytes:
    signed = {"mark": key, "signer": signer.public_key, "signature": signer.sign(_signed(key))}
    return (json.dumps(signed, indent=2) + "\n").encode()


def _is_genuine(store: Store, key: str, trust: Trust) -> bool:
    """Whether what lies under *key* is that very mark, by a signer that is trusted."""
    try:
        with store.open(key) as stream:
            said = json.loads(stream.read(_MOST))
        trust.verify(_signed(key), said["signature"], said["signer"])
    except (NotFound, ValueError, KeyError, TypeError, BadRecord, WrongKey):
        return False
    return True


def _signed(key: str) -> bytes:
    return f"prefect-backups mark: {key}".encode()
