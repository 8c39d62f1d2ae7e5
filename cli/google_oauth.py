"""A person lets us into Google Drive: the browser's answer comes to a port of this machine that only it can reach.

As RFC 8252 and Google's guide for installed apps have it: loopback redirect, state, PKCE (S256).
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import selectors
import sys
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from cli.output import note
from cli.saved import read_whole
from vault.errors import AccessDenied, ConfigError, printable

CONSENT = "https://accounts.google.com/o/oauth2/v2/auth"
PATIENCE = 600.0
"""Seconds for the person to agree."""


@dataclass(frozen=True)
class Client:
    """An OAuth client of type "Desktop app", as its file from the Google Cloud console describes it."""

    id: str
    secret: str = field(repr=False)

    @classmethod
    def read(cls, path: str) -> Client:
        """The client that the file *path* (``-``: standard input) describes."""
        try:
            installed = json.loads(read_whole(path))["installed"]
            return cls(str(installed["client_id"]), str(installed["client_secret"]))
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{path} does not describe an OAuth client for an installed app",
                'In the Google Cloud console make an OAuth client of type "Desktop app", and download its JSON.',
            ) from None


def authorise(client: Client, scope: str) -> str:
    """The refresh token of the person who agrees in a browser."""
    from blocks.destinations.google_drive_auth import SCOPES, refresh_token_for

    verifier, state = secrets.token_urlsafe(64), secrets.token_urlsafe(24)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    with _Answer(("127.0.0.1", 0), _Handler) as answer:
        redirect = f"http://127.0.0.1:{answer.server_port}"
        query = {
            "client_id": client.id,
            "redirect_uri": redirect,
            "response_type": "code",
            "scope": SCOPES + scope,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "access_type": "offline",
            "prompt": "consent",  # else Google gives no refresh token at a second time
        }
        note(f"Open this address in a browser, and agree:\n\n  {CONSENT}?{urlencode(query)}\n")
        note("A browser on another machine ends at an address that it cannot open: paste that one here.")
        code = answer.wait_for(state)
    return refresh_token_for(code, verifier, redirect, client.id, client.secret, scope)


class _Answer(HTTPServer):
    """Takes what the browser brings back; from the terminal too, for a browser that cannot reach us."""

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.state = self.code = self.refusal = ""

    def wait_for(self, state: str) -> str:
        """The code that comes with *state*; anything else that comes is ignored."""
        self.state = state
        deadline = time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as ready:
            ready.register(self, selectors.EVENT_READ)
            if sys.stdin.isatty():
                ready.register(sys.stdin, selectors.EVENT_READ)
            while not self.code and not self.refusal:
                if time.monotonic() > deadline:
                    raise AccessDenied("nobody agreed within 10 minutes", "Run the same command again.")
                for key, _ in ready.select(1.0):
                    if key.fileobj is self:
                        self.handle_request()
                    elif line := sys.stdin.readline():
                        self.take(line.strip())
                    else:
                        ready.unregister(sys.stdin)
        if self.refusal:
            raise AccessDenied(f"Google gave no access: {self.refusal}", "Run the same command again, and agree.")
        return self.code

    def take(self, address: str) -> bool:
        """Whether *address* is the answer that is waited for."""
        try:
            query = parse_qs(urlsplit(address).query)
        except ValueError:
            return False
        if not secrets.compare_digest(query.get("state", [""])[0].encode(), self.state.encode()):
            return False
        self.code = query.get("code", [""])[0]
        self.refusal = "" if self.code else printable(query.get("error", ["no code came"])[0])[:100]
        return True


class _Handler(BaseHTTPRequestHandler):
    server: _Answer
    timeout = 5  # a connection over which nothing comes must not block the one that is waited for

    def do_GET(self) -> None:
        taken = self.server.take(self.path)
        text = b"Done: look at the terminal.\n" if taken else b"This is not what is waited for.\n"
        self.send_response(200 if taken else 404)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the address holds the code."""
