"""``backups console user`` and ``backups console token``: who may use the console."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

from cyclopts import App

from cli.api import prefect_api
from cli.output import note, show_json, show_table
from cli.saved import Flag, SecretFile, secret
from vault.errors import ConfigError
from vault.store import check_name

_Scope = Literal["read", "operate", "admin"]
_FILE = "--password-file FILE (- for standard input)"

user_app = App(name="user", help="Who may log in.", version_flags=[])
token_app = App(name="token", help="What scripts may ask the REST API with.", version_flags=[])


@user_app.command(name="add")
def add_user(name: str, /, *, scope: _Scope = "admin", password_file: SecretFile = None) -> None:
    """Add an account. With the first one, whoever opens the console has to log in.

    Example: backups console user add anna --scope operate

    Parameters
    ----------
    name
        Its name.
    scope
        read: look; operate: also back up, restore and delete; admin: everything.
    password_file
        A file with the password, or - for standard input; without it you are asked.
    """
    check_name(name, "account")
    password = _new_password(password_file)
    with prefect_api():
        from blocks.console_accounts import add_account

        add_account(name, password, scope)
    note(f"Added the account {name} ({scope}). A console that runs knows it at once.")


@user_app.command(name="list")
def list_users(*, json: Annotated[bool, Flag] = False) -> None:
    """List the accounts.

    Example: backups console user list

    Parameters
    ----------
    json
        Print one JSON array.
    """
    with prefect_api():
        from blocks.console_accounts import read

        found = sorted(read()[1].accounts.values(), key=lambda one: one.name)
        rows = [(one.name, one.scope, f"{one.created:%Y-%m-%dT%H:%M:%SZ}") for one in found]
    _show(("NAME", "SCOPE", "CREATED"), rows, json, "There is no account: login is off, on this machine only.")


@user_app.command(name="password")
def change_password(name: str, /, *, password_file: SecretFile = None) -> None:
    """Give an account another password. Its sessions end.

    Example: backups console user password anna

    Parameters
    ----------
    name
        Its name.
    password_file
        A file with the password, or - for standard input; without it you are asked.
    """
    password = _new_password(password_file)
    with prefect_api():
        from blocks.console_accounts import change_password as change

        change(name, password)
    note(f"{name} has another password; the sessions with the old one have ended.")


@user_app.command(name="remove")
def remove_user(name: str, /) -> None:
    """Remove an account. Its sessions end.

    Example: backups console user remove anna

    Parameters
    ----------
    name
        Its name.
    """
    with prefect_api():
        from blocks.console_accounts import read, remove_account

        remove_account(name)
        left = read()[1].accounts
    note(f"Removed the account {name}, and ended its sessions.")
    if not left:
        note("It was the last one: a console that listens on this machine only has no login any more.")


@token_app.command(name="add")
def add_token(
    name: str, /, *, scope: _Scope = "read", expires: str = "90d", json: Annotated[bool, Flag] = False
) -> None:
    """Make a token. It is shown once and stored nowhere.

    Example: backups console token add monitoring --scope read --expires 365d

    Parameters
    ----------
    name
        A name for it.
    scope
        read: look; operate: also back up, restore and delete; admin: everything.
    expires
        After how long it counts no more: such as 36h, 90d, 8w; or never.
    json
        Print one JSON object.
    """
    with prefect_api():
        from blocks.console_accounts import add_token as add

        until = _until(expires)
        token = add(name, scope, until)
    if json:
        show_json({"name": name, "token": token, "expires_at": f"{until:%Y-%m-%dT%H:%M:%SZ}" if until else None})
        return
    print(token)
    note(f"This is the token {name}. Send it as: Authorization: Bearer TOKEN. Nobody can show it again.")


@token_app.command(name="list")
def list_tokens(*, json: Annotated[bool, Flag] = False) -> None:
    """List the tokens, without themselves.

    Example: backups console token list

    Parameters
    ----------
    json
        Print one JSON array.
    """
    with prefect_api():
        from blocks.console_accounts import read

        now, found = datetime.now(UTC), sorted(read()[1].tokens.values(), key=lambda one: one.name)
        rows = [
            (
                one.name,
                one.scope,
                f"{one.created:%Y-%m-%dT%H:%M:%SZ}",
                f"{one.expires:%Y-%m-%dT%H:%M:%SZ}" if one.expires else "never",
                "valid" if one.valid(now) else "expired",
            )
            for one in found
        ]
    _show(("NAME", "SCOPE", "CREATED", "EXPIRES", "STATE"), rows, json, "There is no token.")


@token_app.command(name="revoke")
def revoke_token(name: str, /) -> None:
    """Take a token away.

    Example: backups console token revoke monitoring

    Parameters
    ----------
    name
        Its name.
    """
    with prefect_api():
        from blocks.console_accounts import revoke_token as revoke

        revoke(name)
    note(f"Revoked the token {name}: a running console refuses it within 2 s.")


def _show(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], json: bool, none: str) -> None:
    if json:
        show_json([dict(zip(map(str.lower, heads), row, strict=True)) for row in rows])
    elif rows:
        show_table(heads, rows)
    else:
        note(none)


def _new_password(file: str | None) -> str:
    password = secret("Password", file, _FILE)
    if file is None and secret("Once more", None, _FILE) != password:
        raise ConfigError("these were two different passwords", "Nothing was changed. Try again.")
    return password


def _until(expires: str) -> datetime | None:
    from pydantic import TypeAdapter, ValidationError

    from vault.retention import Within

    if expires == "never":
        return None
    try:
        return datetime.now(UTC) + TypeAdapter(Within).validate_python(expires)
    except (ValidationError, OverflowError):
        raise ConfigError(f"{expires!r} is not how long a token may count", "Such as 36h, 90d, 8w, or never.") from None
