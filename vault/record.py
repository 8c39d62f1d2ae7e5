"""The record of a backup: strict JSON, signed; and the keys under which a backup lies at a destination.

A record is data from outside: whatever does not fit this file exactly is a ``BadRecord``. The signature
covers the bytes of the file as they lie there, from the first byte up to the signature itself.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from vault.errors import BadRecord, ConfigError, WrongKey, printable
from vault.signing import Signer, Trust, verify
from vault.store import NAME_PATTERN, check_key, check_name

BackupType = Literal["database", "files", "full"]
Verification = Literal["server-digest", "read-back"]

MAX_RECORD_BYTES = 16 * 1024 * 1024
_ID = re.compile(
    r"([1-9][0-9]{3})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z-(database|files|full)-([0-9a-f]{6})"
)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SEAL = b',\n  "signature": "'

Size = Annotated[int, Field(ge=0, lt=2**63)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Texts = Annotated[tuple[str, ...], Field(strict=False)]
"""Texts; a list of them fits too, since that is what JSON has."""
Name = Annotated[str, Field(pattern=NAME_PATTERN)]


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
        """A new id for a backup that begins *now* (aware; else ``ConfigError``, Z05)."""
        if now.tzinfo is None:
            raise ConfigError("a backup's time needs a time zone")
        return cls(now.astimezone(UTC).replace(microsecond=0), type, secrets.token_hex(3))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The id that *text* spells; ``ConfigError`` where it is none."""
        return cls(*_id_parts(text))

    def __str__(self) -> str:
        at = self.created_at  # strftime takes four times as long, and a listing makes these by the ten thousand
        time = f"{at.year}{at.month:02}{at.day:02}T{at.hour:02}{at.minute:02}{at.second:02}Z"
        return f"{time}-{self.type}-{self.random}"


@lru_cache(maxsize=65536)  # a listing parses each id several times
def _id_parts(text: str) -> tuple[datetime, BackupType, str]:
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
    return created_at, match[7], match[8]  # type: ignore[return-value]


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


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


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


def seal(record: BackupRecord, signer: Signer) -> bytes:
    """The file of *record*: JSON for people and programs, signed.

    ``BadRecord`` where we could not read it ourselves: lone surrogates in a text, NaN, or too long.
    """
    document = {**record.model_dump(mode="json"), "signer": signer.public_key}
    body = json.dumps(document, indent=2).encode().removesuffix(b"\n}")
    data = body + _SEAL + signer.sign(body).encode() + b'"\n}\n'
    if len(data) > MAX_RECORD_BYTES:
        raise BadRecord(f"record {record.key} would be longer than {MAX_RECORD_BYTES} bytes")
    if unseal(record.key, data, Trust.of([signer.public_key])) != record:
        raise BadRecord(f"record {record.key} would not be read as it was written")
    return data


def unseal(key: str, data: bytes, trust: Trust, *, proven: bool = False) -> BackupRecord:
    """The record that lies under *key*. Raises ``BadRecord``, or ``WrongKey`` for a signer that we do not trust.

    *proven*: these very bytes were found to be signed before, so that only the trust in their signer is looked at.
    """

    def judge(body: bytes, signature: str, signer: str) -> None:
        if proven:
            trust.check(signer)
        else:
            trust.verify(body, signature, signer)

    return _unseal(key, data, judge)[0]


def unseal_any(key: str, data: bytes) -> tuple[BackupRecord, str]:
    """The record that lies under *key*, and the public key that signed it, whoever's that is: to look at, no more."""
    return _unseal(key, data, verify)


def _unseal(key: str, data: bytes, judge: Callable[[bytes, str, str], None]) -> tuple[BackupRecord, str]:
    try:
        body, seal_mark, tail = data.rpartition(_SEAL)
        signature = re.fullmatch(rb'([0-9a-f]{128})"\n}\n', tail)
        if not seal_mark or signature is None:
            raise ValueError("it is truncated, or not signed")
        text = data.decode()
        document = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_constant)
        if _SURROGATE.search(text):
            json.dumps(document, ensure_ascii=False).encode()  # raises unless each is half of a pair
        signer = document.pop("signer", None)
        del document["signature"]
        if not (isinstance(signer, str) and re.fullmatch(r"[0-9a-f]{64}", signer)):
            raise ValueError("it names no signer")
        if type(document.get("format")) is not int or document["format"] != 1:
            raise ValueError(f"its format is {document.get('format')!r:.40}; this version reads format 1")
        judge(body, signature[1].decode(), signer)
        record = BackupRecord.model_validate(document)
        if record.key != key:
            raise ValueError(f"it is the record of {record.key}")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadRecord(f"record {key} cannot be trusted: {printable(place)[:80] or 'it'}: {first['msg']}") from error
    except (ValueError, AttributeError, RecursionError, ConfigError) as error:
        raise BadRecord(f"record {key} cannot be trusted: {printable(str(error))[:300]}") from error
    except (BadRecord, WrongKey) as error:
        message = f"record {key} cannot be trusted: {error.message}"
        raise type(error)(message, error.remedy) from error
    return record, signer


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a JSON key stands there twice")
    return found


def _constant(name: str) -> float:
    """What Python writes for infinite facts is read again; NaN, which equals nothing, is refused."""
    if name == "NaN":
        raise ValueError("NaN is no number")
    return float(name)
