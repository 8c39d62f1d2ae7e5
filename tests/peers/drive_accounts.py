"""Who may come in: service accounts, OAuth clients, refresh and access tokens, as Google's token endpoint has them.

Follows https://developers.google.com/identity/protocols/oauth2/service-account and .../oauth2/native-app.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from functools import cache

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

SCOPES = "https://www.googleapis.com/auth/"


@dataclass(frozen=True)
class Account:
    """In whose name a request comes, through which application, and what it may see."""

    user: str
    application: str
    scope: str
    is_service: bool = False


@dataclass
class ServiceAccount:
    """A service account; *delegates*: the users as whom it may act, by domain-wide delegation."""

    email: str
    key: str = field(repr=False)
    public: bytes
    delegates: set[str] = field(default_factory=set)


@dataclass
class TokenRefused(Exception):
    """What the token endpoint says no with."""

    error: str
    description: str
    status: int = 400

    @property
    def body(self) -> bytes:
        return json.dumps({"error": self.error, "error_description": self.description}).encode()


@cache
def _key_pair() -> tuple[str, bytes]:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem.decode(), public


class Accounts:
    """Every account, client and token."""

    def __init__(self) -> None:
        self.services: dict[str, ServiceAccount] = {}
        self.clients: dict[str, str] = {}
        self.granted: dict[str, tuple[str, Account]] = {}
        """Refresh tokens: the client and the account."""
        self.codes: dict[str, tuple[str, str, str, Account]] = {}
        """Authorisation codes: client, redirect address, code challenge, account."""
        self.tokens: dict[str, Account] = {}
        self.revoked: str = ""
        """Where set, why every grant is refused."""

    def service_account(self, name: str, canary: str) -> ServiceAccount:
        """A new one; its key holds *canary*."""
        pem, public = _key_pair()
        email = f"{name}@project.iam.gserviceaccount.com"
        document = {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": canary,
            "private_key": pem,
            "client_email": email,
            "client_id": "1234567890",
            "token_uri": "https://token.invalid/",
        }
        self.services[email] = ServiceAccount(email, json.dumps(document), public)
        return self.services[email]

    def client(self, canary: str) -> tuple[str, str]:
        """A new OAuth client's id and secret."""
        name = f"{secrets.token_hex(6)}.apps.googleusercontent.com"
        self.clients[name] = f"GOCSPX-{canary}"
        return name, self.clients[name]

    def authorise(self, client: str, user: str, scope: str = "drive.file", canary: str = "") -> str:
        """The refresh token of *user*'s for *client*."""
        token = f"1//{canary}{secrets.token_hex(8)}"
        self.granted[token] = client, Account(user, client, scope)
        return token

    def consent(self, query: dict[str, str], user: str) -> str:
        """What the consent screen does when *user* agrees: returns the code for the redirect."""
        wanted = {"response_type": "code", "code_challenge_method": "S256", "access_type": "offline"}
        assert {name: query.get(name) for name in wanted} == wanted
        assert query["client_id"] in self.clients
        assert query["redirect_uri"].startswith("http://127.0.0.1:")
        assert len(query["state"]) >= 16
        code = secrets.token_hex(16)
        scope = query["scope"].removeprefix(SCOPES)
        account = Account(user, query["client_id"], scope)
        self.codes[code] = query["client_id"], query["redirect_uri"], query["code_challenge"], account
        return code

    def token(self, form: dict[str, str]) -> dict[str, object]:
        """The token endpoint's answer to *form*."""
        if self.revoked:
            raise TokenRefused("invalid_grant", self.revoked)
        grants = {
            "urn:ietf:params:oauth:grant-type:jwt-bearer": lambda: self._by_assertion(form),
            "refresh_token": lambda: self._by_refresh_token(form),
            "authorization_code": lambda: self._by_code(form),
        }
        if form.get("grant_type") not in grants:
            raise TokenRefused("unsupported_grant_type", "Invalid grant_type")
        account, more = grants[form["grant_type"]]()
        token = f"ya29.{secrets.token_hex(16)}"
        self.tokens[token] = account
        return {"access_token": token, "expires_in": 3599, "token_type": "Bearer", "scope": _full(account), **more}

    def _by_assertion(self, form: dict[str, str]) -> tuple[Account, dict[str, object]]:
        claims = jwt.decode(form["assertion"], verify=False)
        service = self.services.get(claims["iss"])
        if service is None:
            raise TokenRefused("invalid_grant", "Invalid grant: account not found")
        try:
            jwt.decode(form["assertion"], certs=service.public, audience="https://oauth2.googleapis.com/token")
        except ValueError as error:
            raise TokenRefused("invalid_grant", f"Invalid JWT Signature. {error}") from error
        scope = str(claims["scope"]).removeprefix(SCOPES)
        user = claims.get("sub", service.email)
        if user != service.email and user not in service.delegates:
            raise TokenRefused(
                "unauthorized_client",
                "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any"
                " of the scopes requested.",
                401,
            )
        return Account(user, service.email, scope, is_service=user == service.email), {}

    def _by_refresh_token(self, form: dict[str, str]) -> tuple[Account, dict[str, object]]:
        self._check_client(form)
        client, account = self.granted.get(form["refresh_token"], ("", None))
        if account is None or client != form["client_id"]:
            raise TokenRefused("invalid_grant", "Token has been expired or revoked.")
        if form.get("scope", _full(account)) != _full(account):
            raise TokenRefused("invalid_scope", "Some requested scopes were invalid.")
        return account, {}

    def _by_code(self, form: dict[str, str]) -> tuple[Account, dict[str, object]]:
        self._check_client(form)
        client, address, challenge, account = self.codes.pop(form["code"], ("", "", "", None))
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        proof = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if account is None or (client, address, challenge) != (form["client_id"], form["redirect_uri"], proof):
            raise TokenRefused("invalid_grant", "Bad Request")
        return account, {"refresh_token": self.authorise(client, account.user, account.scope)}

    def _check_client(self, form: dict[str, str]) -> None:
        if self.clients.get(form.get("client_id", "")) != form.get("client_secret"):
            raise TokenRefused("invalid_client", "The OAuth client was not found.", 401)


def _full(account: Account) -> str:
    return SCOPES + account.scope
