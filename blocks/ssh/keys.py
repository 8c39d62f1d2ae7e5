"""Keys of SSH: the host key that is pinned, and the private key that logs in."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import textwrap
from collections.abc import Callable

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from vault.errors import ConfigError

HOST_KEY_TYPES = (
    *("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    "ssh-rsa",  # the type of the key; what it signs with is rsa-sha2-512 or -256
)

_HOST_KEY = re.compile(rf"(?:^|\s)({'|'.join(HOST_KEY_TYPES)})\s+(AAAA[A-Za-z0-9+/]+=*)(?:\s|$)")
_PEM = re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----(.*)-----END \1-----", re.DOTALL)
_PEM_HEADERS = re.compile(r"\s*(Proc-Type: \S+)\s+(DEK-Info: \S+)\s")
_KINDS = (
    (Ed25519PrivateKey, paramiko.Ed25519Key),
    (EllipticCurvePrivateKey, paramiko.ECDSAKey),
    (RSAPrivateKey, paramiko.RSAKey),
)
_REMEDY = "Give the right passphrase (--passphrase-file), or make a key for backups alone: ssh-keygen -t ed25519"


def host_key_line(text: str) -> str:
    """``TYPE BASE64`` in *text*, a line of ``known_hosts``, ``ssh-keyscan`` or a ``.pub`` file; or ``ValueError``."""
    found = _HOST_KEY.search(text)
    if found is None:
        raise ValueError(f"must be a public key such as 'ssh-ed25519 AAAA…', of one of: {', '.join(HOST_KEY_TYPES)}")
    kind, encoded = found[1], found[2]
    try:
        blob = base64.b64decode(encoded, validate=True)
        key = paramiko.PKey.from_type_string(kind, blob)
    except (binascii.Error, ValueError, paramiko.SSHException, IndexError) as error:
        raise ValueError("is cut or damaged: copy the whole line again") from error
    if key.asbytes() != blob or key.get_name() != kind:
        raise ValueError(f"is not a key of type {kind}: copy the whole line again")
    return line_of(key)


def line_of(key: paramiko.PKey) -> str:
    """A public key as ``TYPE BASE64``."""
    return f"{key.get_name()} {key.get_base64()}"


def fingerprint(line: str) -> str:
    """``TYPE BASE64`` as ``ssh-keygen -l`` shows it: ``TYPE SHA256:…``."""
    kind, _, encoded = line.partition(" ")
    digest = hashlib.sha256(base64.b64decode(encoded)).digest()
    return f"{kind} SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def private_key_text(text: str) -> str:
    """A private key with its lines as they have to be; ``ValueError`` where it is none.

    A field of one line turns newlines into spaces; a variable or a YAML file may leave them as ``\\n``.
    """
    found = _PEM.fullmatch(text.replace("\\n", "\n").strip())
    if found is None:
        raise ValueError("must be a private key, from '-----BEGIN … PRIVATE KEY-----' to '-----END … PRIVATE KEY-----'")
    kind, body, above = found[1], found[2], []
    headers = _PEM_HEADERS.match(body)
    if headers is not None:
        body, above = body[headers.end() :], [headers[1], headers[2], ""]
    lines = textwrap.wrap("".join(body.split()), 64)
    return "\n".join([f"-----BEGIN {kind}-----", *above, *lines, f"-----END {kind}-----", ""])


def needs_passphrase(text: str) -> bool:
    """Whether a private key is encrypted."""
    try:
        _loader(text)(text.encode(), None)
    except TypeError:
        return True
    except (ValueError, UnsupportedAlgorithm):
        pass  # what is wrong with it is told when it is used
    return False


def private_key(text: str, passphrase: str) -> paramiko.PKey:
    """The key in *text*, opened; ``ConfigError`` where it cannot be.

    paramiko reads only some formats, and ECDSA keys of some: so all are read by ``cryptography``, and given on in one.
    """
    if not needs_passphrase(text):
        passphrase = ""
    elif not passphrase:
        raise ConfigError("the private key has a passphrase, and none was given", _REMEDY)
    try:
        loaded = _loader(text)(text.encode(), passphrase.encode() or None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            "the private key cannot be read: the passphrase is wrong, or it is damaged", _REMEDY
        ) from error
    for kind, made in _KINDS:
        if isinstance(loaded, kind):
            plain = loaded.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
            return made.from_private_key(io.StringIO(plain.decode()))
    raise ConfigError("a private key of this type is not supported", "Use one of type Ed25519, ECDSA or RSA.")


def _loader(text: str) -> Callable[[bytes, bytes | None], object]:
    return load_ssh_private_key if "BEGIN OPENSSH" in text else load_pem_private_key
