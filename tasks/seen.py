"""Which backups were left at a destination the last time, so that a listing that shrinks by itself is noticed.

Prefect keeps it, as a variable: so all workers know it. It is no truth: where it is lost, nothing is compared.
"""

from __future__ import annotations

from collections.abc import Iterable

from prefect.variables import Variable

from vault.record import BackupId, BackupType

_MOST = 140
"""Of the newest: a variable's value has 5 000 characters at most (Prefect's ``MAX_VARIABLE_VALUE_LENGTH``)."""


def recall(app: str, backup_type: BackupType, destination: str, location: str) -> frozenset[BackupId]:
    """What ``remember`` was told last; nothing where the destination has moved since. Raises where Prefect is down."""
    value = Variable.get(_name(app, backup_type, destination))
    if not isinstance(value, dict) or value.get("location") != location:
        return frozenset()
    ids = value.get("ids")
    return frozenset(BackupId.parse(str(text)) for text in ids) if isinstance(ids, list) else frozenset()


def remember(app: str, backup_type: BackupType, destination: str, location: str, left: Iterable[BackupId]) -> None:
    """*left* are there now."""
    newest = sorted(left, reverse=True)[:_MOST]
    value = {"location": location, "ids": [str(backup_id) for backup_id in newest]}
    Variable.set(_name(app, backup_type, destination), value, tags=["backups"], overwrite=True)


def _name(app: str, backup_type: BackupType, destination: str) -> str:
    return f"backups-{app}-{backup_type}-{destination}"
