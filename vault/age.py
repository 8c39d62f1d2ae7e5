"""age, the format (age-encryption.org/v1): its keys, and the streams that encrypt and decrypt, by ``pyrage``."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator, Sequence
from threading import Thread

import pyrage  # type: ignore[import-untyped]

from vault.errors import BackupError, ConfigError, Corrupt, WrongKey
from vault.spool import MIB, Buffer
from vault.streams import ChunkStream, Handover, Sink


def generate_identity() -> tuple[str, str]:
    """A new age key pair: the identity (secret, to be kept off this machine) and its recipient (public)."""
    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def parse_identities(text: str) -> tuple[str, ...]:
    """The identities of an age key file (`#` begins a comment line); at least one, all valid."""
    lines = (line.strip() for line in text.splitlines())
    identities = tuple(line for line in lines if line and not line.startswith("#"))
    if not identities:
        raise ConfigError("the key file holds no identity", "It needs a line AGE-SECRET-KEY-1….")
    for identity in identities:
        _identity(identity)
    return identities


def _identity(text: str) -> pyrage.x25519.Identity:
    try:
        return pyrage.x25519.Identity.from_str(text)
    except pyrage.IdentityError:  # its words are not repeated: this is about a secret
        raise ConfigError("an identity is not an age secret key (AGE-SECRET-KEY-1…)") from None


def _recipient(number: int, text: str) -> pyrage.x25519.Recipient:
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        shown = repr(text) if text.startswith("age1") else "what it holds"  # might be a secret key
        message = f"recipient {number}: {shown} is not an age recipient"
        raise ConfigError(message, "Give the public key that begins with age1.") from None


def parse_recipients(texts: Sequence[str]) -> list[pyrage.x25519.Recipient]:
    """The recipients that *texts* are (``age1…``); ``ConfigError`` where one is none."""
    return [_recipient(number, text) for number, text in enumerate(texts, 1)]


def encrypt(chunks: Iterator[Buffer], sink: Sink, recipients: Sequence[str]) -> None:
    """Pass all *chunks* to *sink*, encrypted to *recipients*. An error of either comes out as it was raised."""
    source, failure = ChunkStream(chunks), None
    try:
        # pyrage reads 8 KiB at a time: the buffer in between answers that in C.
        pyrage.encrypt_io(io.BufferedReader(source, MIB), sink, parse_recipients(recipients))
    except Exception as error:  # noqa: BLE001  pyrage rewords what its callbacks raise, or swallows it
        failure = error
    if original := source.error or sink.error:
        raise original
    if failure:
        raise BackupError("age could not encrypt the stream") from failure


def decrypted(chunks: Iterator[Buffer], identities: Sequence[str], recipients: Sequence[str]) -> Generator[Buffer]:
    """*chunks*, decrypted by a thread that is a few MiB ahead; an identity that is none is refused at once.

    age releases no byte before its 64 KiB chunk is authentic. Raises ``WrongKey`` and ``Corrupt``.
    """
    return _handed_over(chunks, [_identity(text) for text in identities], recipients)


def _handed_over(
    chunks: Iterator[Buffer], keys: list[pyrage.x25519.Identity], recipients: Sequence[str]
) -> Generator[Buffer]:
    handover = Handover()
    thread = Thread(target=_decrypt, args=(chunks, handover, keys, recipients), name="age", daemon=True)
    thread.start()
    try:
        yield from handover
    finally:
        handover.leave()
        thread.join()


def _decrypt(
    chunks: Iterator[Buffer], handover: Handover, keys: list[pyrage.x25519.Identity], recipients: Sequence[str]
) -> None:
    source = ChunkStream(chunks)
    failure: BaseException | None = None
    try:
        pyrage.decrypt_io(io.BufferedReader(source, MIB), handover, keys)
    except (pyrage.DecryptError, OSError) as error:
        failure = _failure(error, recipients)
    except BaseException as error:  # noqa: BLE001  whatever it is, the reader raises it
        failure = error
    handover.end(source.error or failure)


def _failure(error: Exception, recipients: Sequence[str]) -> BackupError:
    failure: BackupError
    if "No matching keys" in str(error):
        failure = WrongKey(
            f"no identity that was given decrypts this; it is encrypted to {', '.join(recipients)}",
            "Give the identity (AGE-SECRET-KEY-1…) that belongs to one of these recipients.",
        )
    else:
        cut = any(words in str(error) for words in ("fill whole buffer", "Incomplete", "truncated"))
        failure = Corrupt(f"the encrypted artifact {'is' if cut else 'was altered or'} truncated: {error}")
    failure.__cause__ = error
    return failure
