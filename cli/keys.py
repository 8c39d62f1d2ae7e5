"""``backups keys``: age identities for encryption, the keys that sign records, and the key of Prefect's blocks."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from cli.api import prefect_api
from cli.home import own_files
from cli.output import note, show_json
from vault.errors import ConfigError

keys_app = App(
    name="keys",
    help="Keys: age identities, the key that signs records, and the one that encrypts what is saved.",
    version_flags=[],
)
Flag = Parameter(negative="")


@keys_app.command
def generate(*, output: Path | None = None, json: Annotated[bool, Flag] = False) -> None:
    """Make an age identity. It is shown once and stored nowhere: keep it where this machine is not.

    Example: backups keys generate --output shop.key

    Parameters
    ----------
    output
        Write the identity to this new file (0600) instead of showing it.
    json
        Print one JSON object.
    """
    from vault.age import generate_identity

    identity, recipient = generate_identity()
    if output is not None:
        _write_new(output, f"# recipient: {recipient}\n{identity}\n")
    if json:
        show_json({"recipient": recipient, **({"file": str(output)} if output else {"identity": identity})})
        return
    if output is None:
        print(f"# recipient: {recipient}\n{identity}")
        note("Store these two lines in a file off this machine. Without it nobody can restore what is encrypted to it.")
    else:
        print(recipient)
        note(f"The identity lies in {output}. Move it off this machine: without it nobody can restore.")
    note(f"Encrypt with: backups run APP --encrypt-to {recipient}")


def shown_file() -> Path:
    """Where it is kept that a person has been shown the id of the signing key, and which one that was."""
    return own_files() / "shown-key"


def _write_new(path: Path, text: str) -> None:
    try:
        with open(path, "x", opener=_private) as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{path} exists; a key is never overwritten", "Name another file.") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@keys_app.command
def show(*, json: Annotated[bool, Flag] = False) -> None:
    """Show the id of the key that signs this installation's records. Note it down: a new machine asks for it.

    Example: backups keys show

    Parameters
    ----------
    json
        Print one JSON object.
    """
    with prefect_api():
        from blocks.signing_key import keyring
        from vault.signing import key_id

        public_key = keyring().signer.public_key
    shown_file().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    shown_file().write_text(f"{key_id(public_key)}\n")
    if json:
        show_json({"id": key_id(public_key), "public_key": public_key})
    else:
        print(key_id(public_key))


@keys_app.command
def rotate(
    *,
    new_key_file: Path | None = None,
    old_key_file: Path | None = None,
    server_env: Path | None = None,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Encrypt every saved block, with all credentials in them, under a new key. Backups are not touched.

    Example: backups keys rotate
             backups keys rotate --server-env /etc/prefect-backups/server.env --new-key-file /root/new.key

    No Prefect server may run meanwhile on that database. Whoever kills it loses nothing: the same command finishes it.
    Where you keep the key yourself (PREFECT_SERVER_ENCRYPTION_KEY), and on PostgreSQL, name a file for the new one:
    it then says what has to be told the new key. No key and no password is ever an argument.

    Parameters
    ----------
    new_key_file
        Where you keep the key yourself: the file with the new one (0600). It is made when it does not exist.
    old_key_file
        The file with the old key (0600). Default: PREFECT_SERVER_ENCRYPTION_KEY.
    server_env
        The file with the environment of Prefect's servers (0600), which has the address of the database and the old
        key. Default: the environment of this command.
    json
        Print one JSON object.
    """
    if new_key_file is not None:
        _rotate_kept(new_key_file, old_key_file, server_env, json)
        return
    if old_key_file or server_env:
        raise ConfigError("the new key needs a file of its own", "Name it: --new-key-file FILE; it is made.")
    from cli.api import refuse_running_server
    from cli.encryption_key import key_file
    from cli.encryption_key import rotate as rotate_key
    from cli.home import prefect_database

    refuse_running_server()
    count = rotate_key()
    if json:
        show_json({"blocks": count, "database": str(prefect_database()), "key_file": str(key_file())})
    else:
        print(f"{count} blocks in {prefect_database()} are encrypted with a new key.")
        print(f"It lies in {key_file()}, and nowhere else.")


def _rotate_kept(new: Path, old: Path | None, server_env: Path | None, json: bool) -> None:
    from cli.kept_key import rotate_kept, server_environment, what_next

    environment = server_environment(server_env) if server_env else None
    if environment:
        environment.use()
    done = rotate_kept(new, old)
    if json:
        shown = {"blocks": done.blocks, "database": done.database, "key_file": str(new)}
        show_json({**shown, "old_key_needed": not done.told})
    else:
        print(f"{done.blocks} blocks in {done.database} are encrypted with the key in {new}.")
        print(what_next(done, environment))


@keys_app.command
def trust(public_key: str, /) -> None:
    """Believe the records that another installation signed, for good.

    Example: backups keys trust PUBLIC_KEY

    Parameters
    ----------
    public_key
        Its public key, 64 hex digits, as `backups keys show --json` prints it there.
    """
    from vault import known_signers

    if not re.fullmatch(r"[0-9a-f]{64}", public_key):
        raise ConfigError("that is no public key", "It has 64 hex digits; see `backups keys show --json`.")
    known_signers.add(known_signers.default_path(), public_key)
    note("Trusted on this machine.")
