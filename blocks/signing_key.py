"""The key pair that signs records, kept in a Block, made on first use."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, Self

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, SecretStr

from blocks.loading import load, missing
from blocks.look import DOCUMENTATION_URL, LOGO_URL
from vault import known_signers
from vault.errors import ConfigError
from vault.signing import Signer, Trust

DOCUMENT = "records"


@dataclass(frozen=True)
class Keyring:
    """What signs new records, and whose records are believed."""

    signer: Signer
    trust: Trust


class SigningKey(Block):
    """Signs the records of this installation's backups, and names the other signers that it trusts.

    Attributes:
        private_key: The Ed25519 key, as 64 hex digits.
        trusted: Public keys of other installations whose backups count here.

    Example:
        Load the signing key:
        ```python
        from blocks import SigningKey

        signing_key = SigningKey.load("BLOCK_NAME")
        ```
    """

    _block_type_name: ClassVar[str | None] = "Backup Signing Key"
    _block_type_slug: ClassVar[str | None] = "backup-signing-key"
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL

    private_key: SecretStr = Field(description="The Ed25519 key that signs records, as 64 hex digits.")
    trusted: list[str] = Field(
        default_factory=list, description="Public keys of other installations whose backups count here."
    )

    @classmethod
    def make(cls) -> Self:
        """A new key pair, not saved yet."""
        return cls(private_key=SecretStr(Signer.generate().private_key))

    def keyring(self) -> Keyring:
        """The signer, and trust in it, in ``trusted`` and in the signers that this machine knows."""
        signer = Signer(self.private_key.get_secret_value())
        known = known_signers.read(known_signers.default_path())
        return Keyring(signer, Trust.of({signer.public_key, *self.trusted, *known}))


def keyring() -> Keyring:
    """This installation's keys from Prefect; a new pair is made and saved on first use."""
    reference = f"{SigningKey.get_block_type_slug()}/{DOCUMENT}"
    try:
        block = load(reference, SigningKey)
    except ConfigError:
        if not missing(reference):
            raise
        with suppress(ValueError):  # another run saved its own in the meantime: that one counts
            SigningKey.make().save(DOCUMENT)
        block = load(reference, SigningKey)
    found = block.keyring()
    known_signers.add(known_signers.default_path(), found.signer.public_key)
    return found


def known_trust(key_ids: tuple[str, ...] = ()) -> Trust:
    """Whom we believe where no Prefect API is to be had: the signers this machine knows, and *key_ids*."""
    return Trust.of(known_signers.read(known_signers.default_path()), key_ids)
