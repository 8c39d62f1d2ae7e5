"""What every command shares that saves a way into an SSH server: what logs in, and the host key that is pinned."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Protocol

from cli.output import note
from cli.saved import read_whole, secret
from vault.errors import ConfigError
from vault.store import absolute


class Door(Protocol):
    """A block that is reached by SSH."""

    @property
    def host(self) -> str: ...

    def shown_host_key(self) -> tuple[str, str]: ...


def ways_in(
    user: str, key: Path | None, passphrase_file: str | None, password: bool, password_file: str | None
) -> dict[str, str]:
    """The secret fields of the block: read from files, or asked for."""
    given: dict[str, str] = {}
    if key is not None:
        given["private_key"] = read_whole(absolute(str(key)))
    if passphrase_file is not None or _needs_passphrase(given.get("private_key", "")):
        instead = "--passphrase-file FILE (- for standard input)"
        given["passphrase"] = secret(f"Passphrase of {key or 'the key'}", passphrase_file, instead)
    if password or password_file is not None:
        given["password"] = secret(f"Password of {user}", password_file, "--password-file FILE (- for standard input)")
    return given


def _needs_passphrase(key: str) -> bool:
    if not key.strip():
        return False
    from blocks.ssh.keys import needs_passphrase

    return needs_passphrase(key)


def refuse_without(host: str, ways: dict[str, str], agent: bool) -> None:
    """Something has to be given to log in with."""
    if not (any(ways.values()) or agent):
        raise ConfigError(f"nothing is given to log in to {host} with", "Give --key FILE, --password or --agent.")


def pinned(block: Door) -> str:
    """The server's host key, after the person at the terminal has compared it."""
    line, fingerprint = block.shown_host_key()
    note(f"The host key of {block.host} is {fingerprint}")
    note("Compare it on the server: ssh-keygen -lf /etc/ssh/ssh_host_…_key.pub")
    if sys.stdin.isatty():
        sys.stderr.write("Is it the same, and may it be pinned? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            return line
    raise ConfigError(
        f"the host key of {block.host} is not pinned, so nothing is saved", f"Pin it with --host-key '{line}'."
    )
