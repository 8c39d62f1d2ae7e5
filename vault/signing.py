"""Ed25519 (RFC 8032) signatures over records: who wrote a record, and whom we believe."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from vault.errors import BadRecord, ConfigError, WrongKey


def key_id(public_key: str) -> str:
    """The name of a key for people: 32 hex digits of the SHA-256 of its 32 raw bytes."""
    return hashlib.sha256(bytes.fromhex(public_key)).hexdigest()[:32]


class Signer:
    """A private key. Keys are 64 hex digits, as raw as RFC 8032 has them."""

    def __init__(self, private_key: str) -> None:
        try:
            self._key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private_key))
        except ValueError as error:
            raise ConfigError("the signing key is not 64 hex digits of an Ed25519 key") from error
        self.public_key = self._key.public_key().public_bytes_raw().hex()

    @classmethod
    def generate(cls) -> Signer:
        """A new key pair."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw().hex())

    @property
    def private_key(self) -> str:
        """64 hex digits, secret."""
        return self._key.private_bytes_raw().hex()

    def sign(self, data: bytes) -> str:
        """The signature over *data*, 128 hex digits."""
        return self._key.sign(data).hex()


@dataclass(frozen=True)
class Trust:
    """The keys whose records we believe: whole public keys, and ids that the operator named (``--trust``)."""

    public_keys: frozenset[str] = frozenset()
    key_ids: frozenset[str] = frozenset()

    @classmethod
    def of(cls, public_keys: Iterable[str], key_ids: Iterable[str] = ()) -> Trust:
        """From any iterables."""
        return cls(frozenset(public_keys), frozenset(key_ids))

    def check(self, public_key: str) -> None:
        """Pass when *public_key* is trusted; else ``WrongKey``."""
        if public_key not in self.public_keys and key_id(public_key) not in self.key_ids:
            raise WrongKey(
                f"it is signed by key {key_id(public_key)}, which is not known here",
                f"If that is the key of the machine that made the backup, add --trust {key_id(public_key)};"
                f" to believe it from now on: backups keys trust {public_key}",
            )

    def verify(self, data: bytes, signature: str, public_key: str) -> None:
        """Pass when *public_key* signed *data* and is trusted; else ``BadRecord`` or ``WrongKey``."""
        verify(data, signature, public_key)
        self.check(public_key)


def verify(data: bytes, signature: str, public_key: str) -> None:
    """Pass when *public_key*, whoever's it is, signed *data*; else ``BadRecord``."""
    try:
        # libsodium: half the time of OpenSSL's, which is what a listing of many backups consists of.
        VerifyKey(bytes.fromhex(public_key)).verify(data, bytes.fromhex(signature))
    except (ValueError, BadSignatureError) as error:
        raise BadRecord("its signature does not fit its content") from error
