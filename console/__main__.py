"""``python -m console``: serve the console at an address, and refuse where everybody could come in."""

from __future__ import annotations

import argparse
import os
import socket
import sys

import uvicorn
from prefect.settings import PREFECT_API_URL

from blocks import console_accounts
from console.api import create
from console.keeper import is_loopback
from console.listing import LISTING
from vault.errors import BackupError, ConfigError

_FAREWELL = 5  # seconds for requests that go on


def serve(host: str, port: int, proxies: list[str], login: bool) -> None:
    """Serve it at *host* and *port* (0: a free one) until SIGTERM or SIGINT.

    What is said of who asks, and how, in X-Forwarded-For and -Proto is believed of *proxies* alone. With *login* nobody
    gets in without an account or a token, nor on loopback. ``ConfigError`` where the address cannot be used, and where
    others than this machine reach it and there is no account.
    """
    if not PREFECT_API_URL.value():
        raise ConfigError(
            "the console has no Prefect API to ask", "Run it as `backups console`, or set PREFECT_API_URL."
        )
    accounts = console_accounts.read()[1].accounts
    if not is_loopback(host) and not accounts:
        raise ConfigError(
            f"the console would be open to whoever reaches {host}: there is no account",
            "Make one: backups console user add NAME --scope admin",
        )
    listener = _listener(host, port)
    name, used = f"[{host}]" if ":" in host else host, listener.getsockname()[1]
    _say(f"Console: http://{name}:{used}")
    if not accounts:
        what = (
            "Nobody can log in yet"
            if login
            else "Login is off: whoever has an account on this machine may do everything"
        )
        _say(f"  {what}. Make an account: backups console user add NAME --scope admin")
    elif not is_loopback(host):
        _say("  Browsers log in over HTTPS only: see docs/console.md for what stands before it.")
    config = uvicorn.Config(
        create(host, login),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies or None,
        timeout_graceful_shutdown=_FAREWELL,
    )
    LISTING.warm()
    uvicorn.Server(config).run(sockets=[listener])


def main(arguments: list[str] | None = None) -> int:
    """Serve, as *arguments* say; 2 where that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m console", description="Serve the console of the backups.")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=4280, help="the port; 0 takes a free one")
    parser.add_argument("--proxy", action="append", default=[], help="the address of a proxy before it; repeatable")
    parser.add_argument("--login", action="store_true", help="ask for a login on loopback too")
    given = parser.parse_args(arguments)
    try:
        serve(given.host, given.port, given.proxy, given.login)
    except BackupError as error:
        _say(f"console: {error.message}")
        for line in error.remedy.splitlines():
            _say(f"  {line}")
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def _listener(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{host}, port {port}, cannot be listened on: {reason}", "Give another: --port N.") from None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("DO_NOT_TRACK", "1")
    sys.exit(main())
