"""The file of a record: JSON for people and programs, signed; and the way back, which believes nothing.

The signature covers the bytes of the file as they lie there, from the first byte up to the signature itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from vault.errors import BadRecord, ConfigError, WrongKey, printable
from vault.record import BackupRecord
from vault.signing import Signer, Trust, verify

MAX_RECORD_BYTES = 16 * 1024 * 1024
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SEAL = b',\n  "signature": "'


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
        raise _misfit(key, error) from error
    except (ValueError, AttributeError, RecursionError, ConfigError) as error:
        raise BadRecord(f"record {key} cannot be trusted: {printable(str(error))[:300]}") from error
    except (BadRecord, WrongKey) as error:
        message = f"record {key} cannot be trusted: {error.message}"
        raise type(error)(message, error.remedy) from error
    return record, signer


def _misfit(key: str, error: ValidationError) -> BadRecord:
    first = error.errors()[0]
    place = printable(".".join(str(part) for part in first["loc"]))[:80] or "it"
    if first["type"] == "extra_forbidden":  # signed by somebody we trust: written by a later version
        return BadRecord(
            f"record {key} cannot be trusted: {place} is not known to this version", "Update prefect-backups."
        )
    return BadRecord(f"record {key} cannot be trusted: {place}: {first['msg']}")


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
