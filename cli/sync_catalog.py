"""``backups sync-catalog``: what destinations hold that was made elsewhere, and what to type next."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from cli.api import prefect_api
from cli.output import note, show_json, show_table
from cli.saved import Flag
from vault.errors import BackupError

if TYPE_CHECKING:
    from blocks.destinations import Destination
    from blocks.signing_key import Keyring
    from vault.record import BackupRecord

_HEADS = ("DESTINATION", "APP", "BACKUPS", "NEWEST", "SIGNED BY", "TRUSTED", "SAVED HERE")


@dataclass(frozen=True)
class Found:
    """The backups of one app at one destination that one signer has made."""

    destination: str
    app: str
    backups: int
    newest: str
    public_key: str
    signer: str
    ours: bool
    trusted: bool
    saved: bool

    @property
    def next(self) -> list[str]:
        """What to type to get at them."""
        restore = f"backups restore {self.app} {self.newest} --from {self.destination} --to DIRECTORY"
        return [restore] if self.trusted else [f"backups keys trust {self.public_key}", restore]

    def cells(self) -> tuple[str, ...]:
        """For the table."""
        signer = f"{self.signer} (this one)" if self.ours else self.signer
        yes = ("no", "yes")
        return (
            *(self.destination, self.app, str(self.backups), self.newest, signer),
            *(yes[self.trusted], yes[self.saved]),
        )

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**vars(self), "next": self.next}


def sync_catalog(
    *, from_: Annotated[str | None, Parameter(name="--from")] = None, json: Annotated[bool, Flag] = False
) -> int:
    """List what destinations hold that was made elsewhere: by another installation, or of apps not saved here.

    Example: backups sync-catalog --from offsite

    For who takes over a destination: each line says who signed the backups, whether that key is trusted, and what to
    type next. Nothing is changed.

    Parameters
    ----------
    from_
        Only this destination: a saved one, or a path; default: all saved ones.
    json
        Print one JSON array.
    """
    failed, rows = 0, list[Found]()
    with prefect_api():
        from blocks.app import App
        from blocks.loading import block_name, saved
        from blocks.signing_key import keyring
        from tasks.listing import destinations_at

        keys = keyring()
        apps = {block_name(ref) for ref in saved([App.get_block_type_slug()])}
        for name, door in destinations_at(from_).items():
            try:
                rows += _elsewhere(name, door, keys, apps)
            except BackupError as error:
                failed += 1
                note(f"backups: destination {name}: {error.message}")
    if json:
        show_json([row.as_json() for row in rows])
    else:
        _tell(rows)
    if failed:
        raise BackupError(f"{failed} destinations could not be looked at")
    return 0


def _elsewhere(name: str, door: Destination, keys: Keyring, apps: set[str]) -> list[Found]:
    from vault.catalog import Damaged, signed_records
    from vault.signing import key_id

    groups: dict[tuple[str, str], list[BackupRecord]] = defaultdict(list)
    damaged = 0
    for found in signed_records(door):
        if isinstance(found, Damaged):
            damaged += 1
        else:
            record, public_key = found
            groups[record.app, public_key].append(record)
    if damaged:
        note(f"{damaged} records at {name} cannot be read: see `backups list --from {name}`.")
    ours = keys.signer.public_key
    return [
        Found(
            destination=name,
            app=app,
            backups=len(records),
            newest=max(records, key=lambda record: record.backup_id).id,
            public_key=signer,
            signer=key_id(signer),
            ours=signer == ours,
            trusted=signer in keys.trust.public_keys,
            saved=app in apps,
        )
        for (app, signer), records in sorted(groups.items())
        if signer != ours or app not in apps
    ]


def _tell(rows: list[Found]) -> None:
    if not rows:
        note("Everything that lies there was made here.")
        return
    show_table(_HEADS, [row.cells() for row in rows])
    print("\nNext:")
    for line in dict.fromkeys(line for row in rows for line in row.next):
        print(f"  {line}")
    if not all(row.trusted for row in rows):
        note("Before you trust a key, compare its id with what `backups keys show` prints where the backups were made.")
