"""``backups destination add | update google-drive``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cli.api import prefect_api
from cli.limits import NO_LIMITS, Limits
from cli.saved import Flag, made, read_whole, save, update
from vault.errors import ConfigError
from vault.store import check_name

Scope = Literal["drive.file", "drive"]


def add_google_drive(
    name: str,
    /,
    *,
    folder_id: str = "",
    shared_drive: str = "",
    service_account: str | None = None,
    impersonate: str = "",
    oauth: Annotated[bool, Flag] = False,
    client_secrets: str | None = None,
    scope: Scope = "drive.file",
    limits: Limits = NO_LIMITS,
    no_test: Annotated[bool, Flag] = False,
) -> None:
    """Save a folder in Google Drive as a destination: in a Shared Drive, or in somebody's My Drive.

    Example: backups destination add google-drive drive --shared-drive 0AxyzPVA --service-account key.json

    Parameters
    ----------
    name
        The name of the destination.
    folder_id
        The folder's id or address. Without it a folder prefect-backups is made, or found again.
    shared_drive
        The id of the Shared Drive in which that is made. The account has to be a Manager of it.
    service_account
        The key file of a service account, or - for standard input.
    impersonate
        The user as whom the service account acts (domain-wide delegation).
    oauth
        Authorise an OAuth client in a browser, instead of a service account.
    client_secrets
        The file of an OAuth client of type "Desktop app", or - for standard input.
    scope
        What the account may see: what this app made or was given (drive.file), or all (drive).
    no_test
        Save it without a test.
    """
    if oauth == (service_account is not None) or oauth != (client_secrets is not None):
        raise ConfigError("give either --service-account FILE, or --oauth --client-secrets FILE")
    check_name(name, "destination")
    with prefect_api():
        from blocks.destinations import GoogleDriveDestination

        if service_account is not None:
            account = {"service_account_key": read_whole(service_account), "impersonate": impersonate}
        else:
            account = _authorised(client_secrets, None, scope)
        place = {"folder_id": folder_id, "shared_drive": shared_drive, "scope": scope}
        block = made(GoogleDriveDestination, **place, **account, **limits.given)
        block.prepare()
        save("destination", name, block, no_test)


def update_google_drive(
    name: str,
    /,
    *,
    service_account: str | None = None,
    impersonate: str | None = None,
    oauth: Annotated[bool, Flag] = False,
    client_secrets: str | None = None,
    scope: Scope | None = None,
    limits: Limits = NO_LIMITS,
    no_test: Annotated[bool, Flag] = False,
) -> None:
    """Change the account that writes into a folder in Google Drive; another folder is a destination of its own.

    Example: backups destination update google-drive drive --oauth

    Parameters
    ----------
    name
        The name of the destination.
    service_account
        The key file of a service account, or - for standard input: used from now on.
    impersonate
        The user as whom the service account acts.
    oauth
        Authorise an OAuth client in a browser: the saved one, or that of --client-secrets.
    client_secrets
        The file of an OAuth client of type "Desktop app", or - for standard input.
    scope
        What the account may see; with OAuth it has to be authorised for it.
    no_test
        Save it without a test.
    """
    if (oauth and service_account is not None) or (client_secrets is not None and not oauth):
        raise ConfigError("give either --service-account FILE, or --oauth, perhaps with --client-secrets FILE")
    with prefect_api():
        from blocks.destinations import GoogleDriveDestination
        from blocks.loading import load

        changes: dict[str, Any] = {"impersonate": impersonate, "scope": scope, **limits.given}
        if service_account is not None:
            changes |= {"service_account_key": read_whole(service_account), **_NO_PERSON}
        if oauth:
            saved = load(f"google-drive-destination/{check_name(name, 'destination')}", GoogleDriveDestination)
            known = (saved.client_id, saved.client_secret.get_secret_value())
            changes |= {**_NO_SERVICE, **_authorised(client_secrets, known, scope or saved.scope)}
        update("destination", name, GoogleDriveDestination, changes, no_test)


_NO_PERSON = {"client_id": "", "client_secret": "", "refresh_token": ""}
_NO_SERVICE = {"service_account_key": "", "impersonate": ""}


def _authorised(file: str | None, known: tuple[str, str] | None, scope: str) -> dict[str, str]:
    """The fields of an OAuth client, that of *file* or the *known* one, after a person has let it in."""
    from cli.google_oauth import Client, authorise

    if file is not None:
        client = Client.read(file)
    elif known is not None and all(known):
        client = Client(*known)
    else:
        raise ConfigError("no OAuth client is saved with it", "Give its file: --client-secrets FILE.")
    return {"client_id": client.id, "client_secret": client.secret, "refresh_token": authorise(client, scope)}
