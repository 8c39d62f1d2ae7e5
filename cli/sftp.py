"""``backups destination add | update sftp``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from cli.api import prefect_api
from cli.limits import NO_LIMITS, Limits
from cli.output import note
from cli.saved import Flag, SecretFile, made, save, update
from cli.ssh import pinned, refuse_without, ways_in
from vault.errors import BackupError
from vault.store import check_name

if TYPE_CHECKING:
    from blocks.destinations import SftpDestination


def add_sftp(
    name: str,
    /,
    *,
    host: str,
    user: str,
    root: str,
    port: int = 22,
    key: Path | None = None,
    passphrase_file: SecretFile = None,
    password: Annotated[bool, Flag] = False,
    password_file: SecretFile = None,
    agent: Annotated[bool, Flag] = False,
    host_key: str = "",
    limits: Limits = NO_LIMITS,
    no_test: Annotated[bool, Flag] = False,
) -> None:
    """Save a directory of a server that is reached by SFTP, and mark it. The server's host key is pinned.

    Example: backups destination add sftp office --host nas.lan --user me --key ~/.ssh/id_ed25519 --root /backups

    Parameters
    ----------
    name
        The name of the destination.
    host
        The server.
    user
        The account on the server.
    root
        The directory on the server, as an absolute path; made when it does not exist.
    port
        The port of its SSH server.
    key
        A file with a private key. Its passphrase is asked for when it has one.
    passphrase_file
        A file with the passphrase, or - for standard input.
    password
        Log in with a password, which is asked for.
    password_file
        A file with that password, or - for standard input.
    agent
        Log in with the keys of the SSH agent.
    host_key
        The server's public key, such as 'ssh-ed25519 AAAA…': pinned without asking.
    no_test
        Save it without a test.
    """
    check_name(name, "destination")
    given = ways_in(user, key, passphrase_file, password, password_file)
    refuse_without(host, given, agent)
    with prefect_api():
        from blocks.destinations import SftpDestination

        fields = {"host": host, "port": port, "user": user, "root": root, "agent": agent, **given, **limits.given}
        block = made(SftpDestination, **fields, host_key=host_key)
        if not block.host_key:
            block = made(SftpDestination, **fields, host_key=pinned(block))
        _prepare(block, name, no_test)
        save("destination", name, block, no_test)


def update_sftp(
    name: str,
    /,
    *,
    host: str | None = None,
    port: int | None = None,
    user: str | None = None,
    root: str | None = None,
    key: Path | None = None,
    passphrase_file: SecretFile = None,
    password: Annotated[bool, Flag] = False,
    password_file: SecretFile = None,
    agent: Annotated[bool | None, Parameter(negative="--no-agent")] = None,
    host_key: str | None = None,
    limits: Limits = NO_LIMITS,
    no_test: Annotated[bool, Flag] = False,
) -> None:
    """Change how a server is reached and logged in to, or pin its new host key.

    Example: backups destination update sftp office --host-key 'ssh-ed25519 AAAA…'

    Parameters
    ----------
    name
        The name of the destination.
    host
        The server.
    port
        The port of its SSH server.
    user
        The account on the server.
    root
        The path where the directory with its backups is now. Another directory is a destination of its own.
    key
        A file with a new private key.
    passphrase_file
        A file with the key's passphrase, or - for standard input.
    password
        Log in with a new password, which is asked for.
    password_file
        A file with that password, or - for standard input.
    agent
        Log in with the keys of the SSH agent, or not.
    host_key
        The server's public key, such as 'ssh-ed25519 AAAA…'.
    no_test
        Save it without a test.
    """
    changes: dict[str, Any] = {
        **{"host": host, "port": port, "user": user, "root": root, "agent": agent, "host_key": host_key},
        **ways_in(user or name, key, passphrase_file, password, password_file),
        **limits.given,
    }
    with prefect_api():
        from blocks.destinations import SftpDestination
        from blocks.loading import load

        before = load(f"sftp-destination/{check_name(name, 'destination')}", SftpDestination)
        given = {field: value for field, value in changes.items() if value is not None}
        if given and not before.marker:  # it could not be prepared when it was added
            block = made(SftpDestination, **{**{f: getattr(before, f) for f in SftpDestination.model_fields}, **given})
            _prepare(block, name, no_test)
            changes["marker"] = block.marker or None
        update("destination", name, SftpDestination, changes, no_test)


def _prepare(block: SftpDestination, name: str, no_test: bool) -> None:
    """Claim the directory; where nobody wants to know whether it works, it may also be done later."""
    try:
        block.prepare()
    except BackupError as error:
        if not no_test:
            raise
        note(f"It could not be prepared: {error.message}")
        note(f"When it can be, do it with: backups destination update {name} --root {block.root}")
