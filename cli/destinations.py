"""``backups destination``: where backups go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from cli.api import api_for, prefect_api
from cli.google_drive import add_google_drive, update_google_drive
from cli.limits import NO_LIMITS, Limits
from cli.output import show_json, show_table
from cli.saved import Flag, SecretFile, add_verbs, made, new_secret, save, secret, update, update_any
from cli.sftp import add_sftp, update_sftp
from vault.store import absolute, check_name

# Spelled out: blocks, which have it too, take a second to import.
Provider = Literal["auto", "b2", "aws", "r2", "minio", "wasabi", "other"]
_SECRET_FILE = "--secret-file FILE (- for standard input)"  # noqa: S105 - an option's name

destination_app = App(name="destination", help="Where backups go.", version_flags=[])
_add_destination = App(name="add", help="Save a destination, after a test of it.", version_flags=[])
_update_destination = App(
    name="update",
    help="""Change a saved destination, after a test of it. What is not given stays as it was, secrets too.

Example: backups destination update NAME --OPTION VALUE

The options are those of its kind: see `backups destination update KIND --help`.""",
    help_format="plaintext",
    version_flags=[],
)
destination_app.command(_add_destination)
destination_app.command(_update_destination)
add_verbs(destination_app, "destination")
_add_destination.command(add_google_drive, name="google-drive")
_update_destination.command(update_google_drive, name="google-drive")
_add_destination.command(add_sftp, name="sftp")
_update_destination.command(update_sftp, name="sftp")


@destination_app.command(name="test")
def probe_one(name: str, /, *, json: Annotated[bool, Flag] = False) -> None:
    """Test a destination: really write, list, read back, compare and delete a probe.

    Example: backups destination test disk

    Parameters
    ----------
    name
        A saved destination, or a path.
    json
        Print one JSON object.
    """
    with api_for(name):
        from blocks.destinations import destination_from
        from blocks.destinations.probe import failure, probe

        destination = destination_from(name)
        steps = probe(destination)
        error = failure(steps)
    rows = [step.as_row() for step in steps]
    if json:
        show_json({"name": name, "location": destination.location, "works": error is None, "steps": rows})
    else:
        show_table(("STEP", "TIME", "RESULT"), [(r["step"], f"{r['seconds']:.3f} s", r["result"]) for r in rows])
    if error is not None:
        raise error
    if not json:
        print(f"{name} works: {destination.location}")


@_update_destination.default
def update_by_name(name: str, /, *options: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]) -> None:
    """Change a saved destination: its kind is looked up.

    Example: backups destination update disk --root /mnt/elsewhere

    Parameters
    ----------
    name
        The name of the destination.
    options
        Options of its kind.
    """
    update_any("destination", _update_destination, name, options)


@_add_destination.command(name="local")
def add_local(name: str, root: Path, /, *, limits: Limits = NO_LIMITS, no_test: Annotated[bool, Flag] = False) -> None:
    """Save a local directory as a destination, and mark it, so that a missing disk is noticed.

    Example: backups destination add local disk /mnt/backups

    Parameters
    ----------
    name
        The name of the destination.
    root
        The directory; made when it does not exist.
    no_test
        Save it without a test.
    """
    with prefect_api():
        from blocks.destinations import LocalDestination

        check_name(name, "destination")
        block = made(LocalDestination, root=absolute(str(root)), **limits.given)
        block.prepare()
        save("destination", name, block, no_test)


@_update_destination.command(name="local")
def update_local(
    name: str,
    /,
    *,
    root: Path | None = None,
    limits: Limits = NO_LIMITS,
    no_test: Annotated[bool, Flag] = False,
) -> None:
    """Change where a local directory is found: the same one, with its marker file, at another path; or its limits.

    Example: backups destination update local disk --root /mnt/elsewhere

    Parameters
    ----------
    name
        The name of the destination.
    root
        The path where the directory with its backups is now. Another directory is a destination of its own.
    no_test
        Save it without a test.
    """
    with prefect_api():
        from blocks.destinations import LocalDestination

        changes = {"root": Path(absolute(str(root))) if root else None, **limits.given}
        update("destination", name, LocalDestination, changes, no_test)


@_add_destination.command(name="b2")
def add_b2(
    name: str,
    /,
    *,
    bucket: str,
    key_id: str,
    endpoint: str = "",
    secret_file: SecretFile = None,
    prefix: str = "",
    provider: Provider = "auto",
    region: str = "",
    parallel_parts: int = 4,
    object_lock_days: int = 0,
    ca_file: Path | None = None,
    limits: Limits = NO_LIMITS,
    no_test: Annotated[bool, Flag] = False,
) -> None:
    """Save a bucket at Backblaze B2, or at any other store that speaks S3. Its secret key is asked for.

    Example: backups destination add b2 offsite --bucket B --endpoint https://s3.us-west-000.backblazeb2.com --key-id ID

    Parameters
    ----------
    name
        The name of the destination.
    bucket
        The bucket; it has to exist.
    key_id
        The id of the key: B2's keyID, or AWS's access key id.
    endpoint
        The store's URL; left out for AWS.
    secret_file
        A file with the secret key, or - for standard input.
    prefix
        Where in the bucket the backups are, such as backups/office.
    provider
        Whose store it is, where the endpoint does not say it.
    region
        The bucket's region, where the endpoint does not name it.
    parallel_parts
        How many parts of an object are sent at once.
    object_lock_days
        For so many days nobody, not even the account's owner, can delete a backup. The bucket needs object lock.
    ca_file
        The certificate of the authority behind the endpoint's, where that is your own.
    no_test
        Save it without a test.
    """
    key = secret(f"Secret key of {key_id}", secret_file, _SECRET_FILE)
    with prefect_api():
        from pydantic import SecretStr

        from blocks.destinations import B2Destination

        block = made(
            B2Destination,
            bucket=bucket,
            endpoint=endpoint,
            key_id=key_id,
            secret_key=SecretStr(key),
            prefix=prefix,
            provider=provider,
            region=region,
            parallel_parts=parallel_parts,
            object_lock_days=object_lock_days,
            ca_file=absolute(str(ca_file)) if ca_file else "",
            **limits.given,
        )
        save("destination", name, block, no_test)


@_update_destination.command(name="b2")
def update_b2(
    name: str,
    /,
    *,
    key_id: str | None = None,
    secret_file: SecretFile = None,
    endpoint: str | None = None,
    provider: Provider | None = None,
    region: str | None = None,
    parallel_parts: int | None = None,
    object_lock_days: int | None = None,
    ca_file: Path | None = None,
    limits: Limits = NO_LIMITS,
    no_test: Annotated[bool, Flag] = False,
) -> None:
    """Change how a bucket is reached, or its key. Another bucket or prefix is a destination of its own.

    Example: backups destination update b2 offsite --key-id ID --secret-file -

    Parameters
    ----------
    name
        The name of the destination.
    key_id
        The id of the new key.
    secret_file
        A file with the new secret key; - to be asked for it, or for standard input.
    endpoint
        The store's URL.
    provider
        Whose store it is.
    region
        The bucket's region.
    parallel_parts
        How many parts of an object are sent at once.
    object_lock_days
        For how many days nobody can delete what is written from now on.
    ca_file
        The certificate of the authority behind the endpoint's.
    no_test
        Save it without a test.
    """
    with prefect_api():
        from blocks.destinations import B2Destination

        changes = {
            "key_id": key_id,
            "secret_key": new_secret(f"Secret key of {key_id or name}", secret_file),
            "endpoint": endpoint,
            "provider": provider,
            "region": region,
            "parallel_parts": parallel_parts,
            "object_lock_days": object_lock_days,
            "ca_file": absolute(str(ca_file)) if ca_file else None,
            **limits.given,
        }
        update("destination", name, B2Destination, changes, no_test)
