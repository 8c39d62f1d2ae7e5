"""What was seen at a destination the last time: backups, so that a listing that shrinks by itself is noticed; orphans.

Prefect keeps it, as variables: so all workers know it. It is no truth: where it is lost, nothing is compared, and what
has no record is seen for the first time.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prefect.client.orchestration import get_client
from prefect.types import MAX_VARIABLE_VALUE_LENGTH
from prefect.variables import Variable

from vault.errors import ConfigError
from vault.record import BackupId, BackupType, parse_utc, utc

_MOST = 140
"""Ids in one variable; fewer where its value would have more than 5 000 characters (``MAX_VARIABLE_VALUE_LENGTH``)."""
_MOST_ORPHANS = 50

_HELD, _LONGEST, _PAGE = "backups-held", 500, 200


@dataclass(frozen=True)
class Seen:
    """The newest *ids* that were left there.

    *denied*: we might delete nothing there. *waits*: some were to go and were not let go, see ``recall_waiting``.
    """

    ids: frozenset[BackupId] = frozenset()
    denied: bool = False
    waits: bool = False


@dataclass(frozen=True)
class Spot:
    """Where the backups of one app and type lie: the *destination* by name, and its *location*."""

    app: str
    type: BackupType
    destination: str
    location: str

    @property
    def name(self) -> str:
        """That of the variable."""
        return f"backups-{self.app}-{self.type}-{self.destination}"


def recall(spot: Spot) -> Seen:
    """What ``remember`` was told last; nothing where the destination has moved since. Raises where Prefect is down."""
    value = _read(spot, spot.name)
    return Seen(_ids(value), value.get("denied") is True, value.get("waits") is True)


def remember(spot: Spot, left: Iterable[BackupId], denied: bool = False, waiting: Collection[BackupId] = ()) -> None:
    """*left* are there now. *waiting* are those of them that were to go: the oldest of these are kept in mind."""
    if waiting:
        _write(spot, _waiting(spot), sorted(waiting))
    _write(spot, spot.name, sorted(left, reverse=True), denied=denied, waits=bool(waiting))


def recall_waiting(spot: Spot) -> frozenset[BackupId]:
    """The oldest of those that were to go the last time; only where ``Seen.waits`` says that there are some."""
    return _ids(_read(spot, _waiting(spot)))


@dataclass(frozen=True)
class HeldSpot:
    """Where a run deleted nothing, at what time (as in records), and why."""

    app: str
    type: BackupType
    destination: str
    at: str
    why: str


def note_held(spot: Spot, at: str, why: str) -> None:
    """A run deleted nothing there, and *why*; until ``remember`` is told of one that did what it had to."""
    before = _read(spot, spot.name)
    held = {"app": spot.app, "type": spot.type, "destination": spot.destination, "at": at, "why": why[:_LONGEST]}
    flags = {flag: before.get(flag) is True for flag in ("denied", "waits")}
    _write(spot, spot.name, sorted(_ids(before), reverse=True), held=held, **flags)


def held_spots() -> list[HeldSpot]:
    """Where the last run that was to delete something deleted nothing: a request for 200 of them."""
    found: list[HeldSpot] = []
    with get_client(sync_client=True) as client:
        for offset in itertools.count(0, _PAGE):
            wanted = {"variables": {"tags": {"all_": [_HELD]}}, "limit": _PAGE, "offset": offset}
            page = client.request("POST", "/variables/filter", json=wanted).json()
            values = (variable["value"] for variable in page)
            found += [HeldSpot(**value["held"]) for value in values if isinstance(value, dict) and "held" in value]
            if len(page) < _PAGE:
                break
    return found


def note_removed(spot: Spot, backup_id: BackupId) -> None:
    """Somebody removes *backup_id* on purpose: it will not be missed. To be said before it is done.

    It stands beside what was seen, which a run that has listed before may write once more.
    """
    before = _read(spot, _removed(spot)).get("ids")
    ids = [BackupId.parse(str(text)) for text in before] if isinstance(before, list) else []
    _write(spot, _removed(spot), [backup_id, *(other for other in ids if other != backup_id)])


def recall_removed(spot: Spot) -> frozenset[BackupId]:
    """The last of those that were removed on purpose."""
    return _ids(_read(spot, _removed(spot)))


def _removed(spot: Spot) -> str:
    return f"{spot.name}_removed"


def _waiting(spot: Spot) -> str:
    return f"{spot.name}_waiting"  # which no other spot's name is: none has a "_"


def _read(spot: Spot, name: str) -> dict[str, Any]:
    value = Variable.get(name)
    return value if isinstance(value, dict) and value.get("location") == spot.location else {}


def _ids(value: dict[str, Any]) -> frozenset[BackupId]:
    ids = value.get("ids")
    return frozenset(BackupId.parse(str(text)) for text in ids) if isinstance(ids, list) else frozenset()


def recall_orphans(spot: Spot) -> dict[BackupId, datetime]:
    """Since when each has no record, as ``remember_orphans`` was told. Raises where Prefect is down."""
    since = _read(spot, _orphans(spot)).get("since")
    try:
        return {BackupId.parse(str(one)): parse_utc(str(at)) for one, at in since.items()} if since else {}
    except (ConfigError, ValueError, AttributeError):  # somebody else's: it counts as lost
        return {}


def remember_orphans(spot: Spot, since: Mapping[BackupId, datetime]) -> None:
    """*since* is when each was first seen without a record; of many, those that were seen first."""
    first = sorted(since.items(), key=lambda seen: (seen[1], seen[0].order()))[:_MOST_ORPHANS]
    value = {"location": spot.location, "since": {str(backup_id): utc(at) for backup_id, at in first}}
    Variable.set(_orphans(spot), value, tags=["backups"], overwrite=True)


def _orphans(spot: Spot) -> str:
    return f"{spot.name}_orphans"


def _write(spot: Spot, name: str, ids: Sequence[BackupId], **more: bool | dict[str, str]) -> None:
    """As many of *ids* as fit, from the first one on."""
    value: dict[str, Any] = {
        "location": spot.location,
        "ids": [],
        **{name: said for name, said in more.items() if said},
    }
    room = MAX_VARIABLE_VALUE_LENGTH - len(json.dumps(value))
    for backup_id in ids[:_MOST]:
        room -= len(json.dumps(str(backup_id))) + len(", ")
        if room < 0:
            break
        value["ids"].append(str(backup_id))
    Variable.set(name, value, tags=["backups", *([_HELD] if "held" in value else [])], overwrite=True)
