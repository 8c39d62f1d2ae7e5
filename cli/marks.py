"""``backups pin``, ``unpin`` and ``confirm``: what a person says of a backup, where it lies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cli.api import prefect_api
from cli.output import note
from vault.errors import BackupError, ConfigError

if TYPE_CHECKING:
    from blocks.destinations import Destination
    from vault.marks import Mark
    from vault.record import BackupRecord
    from vault.signing import Signer

Id = Annotated[str, Parameter(name="ID")]
At = Annotated[list[str] | None, Parameter(name="--at", negative="", consume_multiple=False)]


def pin(id: Id, /, *, at: At = None) -> None:
    """Keep a backup whatever any policy says, until it is unpinned.

    Example: backups pin 20261123T030000Z-full-3f9a2c

    Parameters
    ----------
    id
        The backup's id, or the beginning or the last six digits of one: see `backups list`.
    at
        Only at this saved destination; at first wherever it lies. Repeatable.
    """
    _each(id, at, _putting("pinned"), "Pinned")


def unpin(id: Id, /, *, at: At = None) -> None:
    """Have the policy say again whether a backup stays.

    Example: backups unpin 20261123T030000Z-full-3f9a2c

    Parameters
    ----------
    id
        The backup's id, or the beginning or the last six digits of one.
    at
        Only at this saved destination; at first wherever it lies. Repeatable.
    """
    from vault.marks import take_back

    def unpinned(store: Destination, record: BackupRecord, _signer: Signer) -> None:
        take_back(store, record.app, record.backup_id, "pinned")

    _each(id, at, unpinned, "Unpinned")


def confirm(id: Id, /, *, at: At = None) -> None:
    """Say that a backup is small for good reason, so that old ones are deleted again.

    Example: backups confirm 20261123T030000Z-full-3f9a2c

    While the newest backup is less than half as large as the last ones were, none is deleted: data may have been lost.

    Parameters
    ----------
    id
        The backup's id, or the beginning or the last six digits of one.
    at
        Only at this saved destination; at first wherever it lies. Repeatable.
    """
    _each(id, at, _putting("confirmed"), "Confirmed")


def _putting(mark: Mark) -> Callable[[Destination, BackupRecord, Signer], None]:
    from vault.marks import put

    return lambda store, record, signer: put(store, record.app, record.backup_id, mark, signer)


def _each(
    reference: str, at: list[str] | None, do: Callable[[Destination, BackupRecord, Signer], None], done: str
) -> None:
    """*do* it at each destination where the backup lies. Where it fails, it is done at the others all the same."""
    with prefect_api():
        from blocks.destinations import DESTINATIONS, Destination
        from blocks.loading import block_name, find, load, saved
        from blocks.signing_key import keyring
        from vault.catalog import find_backup

        refs = [find(name, DESTINATIONS, "destination") for name in at] if at else saved(DESTINATIONS)
        keys, failed, count = keyring(), dict[str, BackupError](), 0
        for ref in refs:
            name = block_name(ref)
            try:
                store = load(ref, Destination)  # type: ignore[type-abstract]
                record = find_backup(store, reference, keys.trust)
                do(store, record, keys.signer)
                count += 1
                note(f"{done} {record.id} of {record.app} at {name}.")
            except BackupError as error:
                failed[name] = error
        _tell(reference, failed, count)


def _tell(reference: str, failed: dict[str, BackupError], count: int) -> None:
    """That it lies at some destinations only is no failure; that one cannot be read, or holds it damaged, is."""
    wrong = {name: error for name, error in failed.items() if not isinstance(error, ConfigError)}
    if wrong:
        lines = [f"{name}: {error}" for name, error in wrong.items()]
        raise BackupError(f"{len(wrong)} destinations could not be told", "\n".join(lines))
    if not count:
        raise next(iter(failed.values()), ConfigError(f"no destination is saved: where is {reference}?"))
