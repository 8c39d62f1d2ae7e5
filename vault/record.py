"""The record of a backup, and the keys under which a backup lies at a destination.

A record is data from outside: whatever does not fit this file exactly is refused. How it is signed: ``vault.sealing``.
"""

from __future__ import annotations

import operator
import re
import secrets
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from vault.errors import ConfigError, printable
from vault.store import NAME_PATTERN, REFERENCE_PATTERN, check_key, check_name

BackupType = Literal["database", "files", "full"]
Verification = Literal["server-digest", "read-back"]

_ID = re.compile(
    r"([1-9][0-9]{3})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z-(database|files|full)-([0-9a-f]{6})"
)

Size = Annotated[int, Field(ge=0, lt=2**63)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Texts = Annotated[tuple[str, ...], Field(strict=False)]
"""Texts; a list of them fits too, since that is what JSON has."""
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Reference = Annotated[str, Field(pattern=REFERENCE_PATTERN, description="The id of a backup, or a part of it.")]


_numbers: dict[datetime, int] = {}  # the number of the newest id, by its second: one entry
_numbering = threading.Lock()


def _number(second: datetime) -> int:
    """24 bits: random, and larger than the last one of the same second."""
    with _numbering:
        latest = _numbers.get(second)
        number = secrets.randbelow(0xF00000) if latest is None else latest + 1 + secrets.randbelow(4096)
        _numbers.clear()
        _numbers[second] = number % 2**24
        return _numbers[second]


@dataclass(frozen=True, order=True)
class BackupId:
    """When (UTC, whole seconds), what type, and 6 random hex digits: unique, sortable, path-safe."""

    created_at: datetime
    type: BackupType
    random: str

    def __post_init__(self) -> None:
        if self.created_at.utcoffset() != timedelta(0) or self.created_at.microsecond:
            raise ConfigError("the time of a backup's id must be in UTC and whole seconds")
        if not _ID.fullmatch(str(self)):
            raise ConfigError(f"{printable(str(self))[:80]!r} is not the id of a backup")

    @classmethod
    def new(cls, now: datetime, type: BackupType) -> Self:
        """A new id for a backup that begins *now* (aware; else ``ConfigError``, Z05).

        Those that a process makes within one second are in the order in which they were made (Z07).
        """
        if now.tzinfo is None:
            raise ConfigError("a backup's time needs a time zone")
        second = now.astimezone(UTC).replace(microsecond=0)
        return cls(second, type, f"{_number(second):06x}")

    @staticmethod
    def parse(text: str) -> BackupId:
        """The id that *text* spells; ``ConfigError`` where it is none."""
        return _parsed(text)

    def order(self) -> tuple[datetime, str, str]:
        """What ids are ordered by: as a key it sorts many of them in a third of the time."""
        return self.created_at, self.type, self.random

    def __hash__(self) -> int:
        return hash(self.random)  # which Python remembers; a plan asks for it some hundred thousand times

    def __str__(self) -> str:
        at = self.created_at  # strftime takes four times as long, and a listing makes these by the ten thousand
        time = f"{at.year}{at.month:02}{at.day:02}T{at.hour:02}{at.minute:02}{at.second:02}Z"
        return f"{time}-{self.type}-{self.random}"


@lru_cache(maxsize=2**18)  # a listing parses each id several times
def _parsed(text: str) -> BackupId:
    match = _ID.fullmatch(text)
    try:
        if match is None:
            raise ValueError(text)
        year, month, day, hour, minute, second = map(int, match.groups()[:6])
        created_at = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise ConfigError(
            f"{printable(text)[:80]!r} is not the id of a backup",
            "An id looks like 20261123T030000Z-full-3f9a2c; see `backups list`.",
        ) from error
    return BackupId(created_at, match[7], match[8])  # type: ignore[arg-type]


def record_key(app: str, backup_id: BackupId) -> str:
    """Where the record of a backup lies."""
    return check_key(f"{check_name(app, 'app')}/{backup_id}.json")


def artifact_key(app: str, backup_id: BackupId, source: str, extension: str) -> str:
    """Where an artifact lies: ``app/<id>.<source>.<extension>``."""
    name = f"{backup_id}.{check_name(source, 'source')}.{extension}"
    return check_key(f"{check_name(app, 'app')}/{name}")


def backup_of(key: str) -> BackupId | None:
    """The backup to which the object *key* belongs by its name; None for foreign objects."""
    name = key.partition("/")[2].partition(".")[0]
    try:
        return BackupId.parse(name)
    except ConfigError:
        return None


def _is_none(value: object) -> bool:
    return value is None


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Reading(_Strict):
    """When a source was read: seconds since the backup began, by a clock that nobody sets."""

    began: float
    ended: float


class Artifact(_Strict):
    """One source's part of a backup. Sizes in bytes; ``plain_*`` are those of the stream before the codec."""

    source: Name
    kind: str
    key: str
    size: Size
    sha256: Sha256
    plain_size: Size
    plain_sha256: Sha256
    compression: Literal["zstd", "gzip", "none"]
    recipients: Texts = ()
    tool: str
    warnings: Texts = ()
    facts: dict[str, JsonValue] = {}
    seconds: dict[str, float] = {}
    verified: Verification
    """How this destination's copy was proven."""
    restore_with: str
    """A shell line with standard tools that restores this artifact without us."""
    read: Reading | None = Field(default=None, exclude_if=_is_none)
    """None in records that were made before this was noted."""


class BackupRecord(_Strict):
    """One backup at one destination, format 1."""

    format: Literal[1] = 1
    id: str
    app: Name
    type: BackupType
    created_at: str
    completed_at: str
    producer: dict[str, str]
    """What made it: our version, host, flow run."""
    artifacts: Annotated[tuple[Artifact, ...], Field(min_length=1, strict=False)]
    offset: float | None = Field(default=None, exclude_if=_is_none)
    """Seconds from the moment when the last database began to be read, which is before its snapshot, to that when
    the first files did; None where the backup has not both."""
    warnings: Annotated[Texts, Field(exclude_if=operator.not_)] = ()
    """Of the backup as a whole, beyond those of its artifacts."""
    held: Annotated[Texts, Field(exclude_if=operator.not_)] = ()
    """The containers that were stopped or paused from before the first source was read until after the last one."""

    @property
    def backup_id(self) -> BackupId:
        """The id as a value."""
        return BackupId.parse(self.id)

    @property
    def key(self) -> str:
        """Where this record lies."""
        return record_key(self.app, self.backup_id)

    @property
    def size(self) -> int:
        """Bytes of all artifacts at the destination."""
        return sum(artifact.size for artifact in self.artifacts)

    @property
    def verified(self) -> str:
        """How the copy was proven, over all artifacts."""
        return ", ".join(sorted({artifact.verified for artifact in self.artifacts}))

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        backup_id = BackupId.parse(self.id)
        if self.type != backup_id.type or self.created_at != utc(backup_id.created_at):
            raise ValueError("type and created_at must be those of the id")
        if parse_utc(self.completed_at) < backup_id.created_at:
            raise ValueError("completed_at lies before created_at")
        for artifact in self.artifacts:
            prefix = artifact_key(self.app, backup_id, artifact.source, "")
            if not check_key(artifact.key).startswith(prefix):
                raise ValueError(f"artifact {artifact.key} is not named after its app, id and source")
        if len({artifact.source for artifact in self.artifacts}) < len(self.artifacts):
            raise ValueError("two artifacts of one source")
        return self

    def artifact(self, source: str) -> Artifact:
        """The artifact of *source*; ``ConfigError`` that names those there are."""
        for artifact in self.artifacts:
            if artifact.source == source:
                return artifact
        names = ", ".join(artifact.source for artifact in self.artifacts)
        raise ConfigError(f"backup {self.id} has no source {printable(source)[:80]!r}", f"It has: {names}")


def utc(moment: datetime) -> str:
    """RFC 3339 in UTC with ``Z``, whole seconds: the one form of a time in records."""
    if moment.tzinfo is None:
        raise ConfigError("a time in a record needs a time zone")
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def parse_utc(text: str) -> datetime:
    """The inverse of :func:`utc`; any other form is a ``ValueError`` (Z05)."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None and utc(moment) == text:  # ISO 8601 has many other forms
            return moment
    except ValueError:
        pass
    raise ValueError(f"{text!r} is not a time of the form 2026-11-23T03:00:00Z")
