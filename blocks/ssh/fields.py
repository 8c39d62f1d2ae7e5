"""The fields of every block that is a way into an SSH server."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from blocks.ssh.keys import host_key_line, private_key_text

NO_SECRET = SecretStr("")


def _host_key(text: str) -> str:
    return host_key_line(text) if text.strip() else ""


def _private_key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    return SecretStr(private_key_text(text)) if text.strip() else NO_SECRET


# A name whose parts DNS can carry, or an IPv6 address.
HOST_PATTERN = r"^([A-Za-z0-9][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_-]{1,63})*\.?|[0-9A-Fa-f.]{0,39}:[0-9A-Fa-f:.]{1,45})$"
HostName = Annotated[str, Field(description="The server's name or address.", pattern=HOST_PATTERN)]
Port = Annotated[int, Field(ge=1, le=65535, description="The port of its SSH server.")]
UserName = Annotated[str, Field(description="The account on the server.", pattern=r"^[^\s\x00-\x1f\x7f]+$")]
HostKey = Annotated[
    str,
    AfterValidator(_host_key),
    Field(
        description="The server's public host key, such as 'ssh-ed25519 AAAA…': without it, the test says what it is."
    ),
]
"""The public key of a server as ``TYPE BASE64``, or nothing."""
PrivateKey = Annotated[
    SecretStr,
    AfterValidator(_private_key),
    Field(description="A private key of type Ed25519, ECDSA or RSA that the account accepts."),
]
"""A private key, its lines as they have to be, or nothing."""
Passphrase = Annotated[SecretStr, Field(description="What opens the private key, if it is encrypted.")]
Password = Annotated[SecretStr, Field(description="The account's password, if it takes no key.")]
Agent = Annotated[bool, Field(description="Log in with the keys of the worker's SSH agent.")]
ConnectTimeout = Annotated[float, Field(gt=0, le=600, description="Seconds to wait for the server.")]
