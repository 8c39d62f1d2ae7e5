"""Whose account it is: a service account's key, or what a person authorised."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from blocks.destinations.google_drive_errors import TIMEOUT, translated
from vault.errors import AccessDenied, ConfigError, printable

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

TOKEN_ENDPOINT = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
SCOPES = "https://www.googleapis.com/auth/"


def key_document(text: str) -> dict[str, Any]:
    """The key file of a service account; ``ValueError``, without any of its text, where it is none."""
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("type") != "service_account":
        raise ValueError("this is no JSON key of a service account")
    if missing := [name for name in ("client_email", "private_key", "private_key_id") if not document.get(name)]:
        raise ValueError(f"the key of the service account has no {', '.join(missing)}")
    return document


def key_credentials(text: str, subject: str, scope: str) -> Credentials:
    """Of a service account, acting as user *subject* if there is one. The address in the key file is not used."""
    from google.oauth2.service_account import Credentials

    known = ("type", "client_email", "private_key", "private_key_id")
    document = {name: value for name, value in key_document(text).items() if name in known}
    document["token_uri"] = TOKEN_ENDPOINT
    try:
        made: Credentials = Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            document, scopes=[SCOPES + scope], subject=subject or None
        )
    except ValueError:  # it may quote the key
        raise ConfigError(
            f"the private key of {document['client_email']} cannot be read",
            "Make a new key in the Google Cloud console.",
        ) from None
    return made


def oauth_credentials(client_id: str, secret: str, refresh_token: str, scope: str) -> Credentials:
    """Of a person who authorised an OAuth client."""
    from google.oauth2.credentials import Credentials

    return Credentials(  # type: ignore[no-untyped-call]
        None,
        refresh_token=refresh_token,
        token_uri=TOKEN_ENDPOINT,
        client_id=client_id,
        client_secret=secret,
        scopes=[SCOPES + scope],
    )


def refresh_token_for(code: str, verifier: str, redirect: str, client_id: str, secret: str, scope: str) -> str:
    """What *code*, which a person brought back from Google's consent screen, is exchanged for."""
    import requests

    form = {
        "grant_type": "authorization_code",
        "code": code,
        "code_verifier": verifier,
        "redirect_uri": redirect,
        "client_id": client_id,
        "client_secret": secret,
    }
    with (
        translated("Google's token server"),
        requests.post(TOKEN_ENDPOINT, data=form, timeout=TIMEOUT, allow_redirects=False) as response,
    ):
        answer = response.json()
    if response.status_code != 200 or "refresh_token" not in answer:
        said = f"{answer.get('error', 'no refresh token came')}: {answer.get('error_description', '')}"
        raise AccessDenied(f"Google gives no access: {printable(said)[:200]}", "Run the same command again, and agree.")
    if SCOPES + scope not in str(answer.get("scope", "")).split():
        raise AccessDenied(
            "the access to Google Drive was not granted", "Run the same command again, and tick its box on the screen."
        )
    return str(answer["refresh_token"])
