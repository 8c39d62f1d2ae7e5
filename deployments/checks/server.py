"""Prefect's server: its version, who reaches it, whether its history stays small."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from packaging.version import Version
from prefect.client.orchestration import get_client
from pydantic import TypeAdapter

from deployments.checks.finding import Finding, ok, warning, wrong
from vault.address import is_loopback
from vault.units import age

_PATIENCE = 5.0
_ANYWHERE = {socket.AF_INET: ("192.0.2.1", 9), socket.AF_INET6: ("2001:db8::1", 9)}
"""Addresses of documentation (RFC 5737, 3849): nothing is sent there, only the way is looked up."""
_PORTS = {"http": 80, "https": 443}
_VACUUM = "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events,flow_runs"


def version() -> Iterator[Finding]:
    """The server has a Prefect that the client here can talk to."""
    with get_client(sync_client=True) as client:
        server, own, url = Version(client.api_version()), Version(client.client_version()), client.api_url
    both = f"Prefect {server} at {url}, Prefect {own} here"
    if server.major != own.major:
        yield wrong("server", f"{both}: they do not understand each other", f"pip install 'prefect=={server}'")
    elif server < own:
        yield warning("server", f"{both}: an older server may lack what is asked of it", f"There: {_install(own)}")
    else:
        yield ok("server", both)


def _install(wanted: Version) -> str:
    return f"pip install 'prefect=={wanted}', and restart it"


def access() -> Iterator[Finding]:
    """Who is asked for no password is on this machine: the API hands out all credentials."""
    with get_client(sync_client=True) as client:
        url = client.api_url
    here = f"{url.scheme}://{_joined(str(url.host), url.port or _PORTS[url.scheme])}"
    path = url.path.rstrip("/")
    others = [f"{url.scheme}://{_joined(own, url.port or _PORTS[url.scheme])}" for own in _own_addresses()]
    for place in others if is_loopback(str(url.host)) else [here]:
        if _is_open(f"{place}{path}"):
            yield wrong(
                "access",
                f"{place} asks for no password: who reaches it reads every credential, and deletes what he likes",
                "export PREFECT_SERVER_API_AUTH_STRING=admin:PASSWORD for the server,"
                " and PREFECT_API_AUTH_STRING=admin:PASSWORD here and for each worker",
            )
            return
    if _is_open(f"{here}{path}"):
        yield ok("access", "without a password, and from this machine only: by whoever has an account here")
    else:
        yield ok("access", "a password is asked for")


def _own_addresses() -> Iterator[str]:
    """Under which others reach this machine."""
    for family, anywhere in _ANYWHERE.items():
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect(anywhere)
                own = str(probe.getsockname()[0])
        except OSError:
            continue  # no way out of this machine
        if not is_loopback(own):
            yield own


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_open(url: str) -> bool:
    """Whether the API at *url* answers who says no password."""
    try:
        with urllib.request.urlopen(f"{url}/admin/version", timeout=_PATIENCE) as answer:  # noqa: S310 - http
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False  # refused, or nobody is there


def history() -> Iterator[Finding]:
    """Old runs and events are removed from Prefect's database; the records at the destinations stay."""
    with get_client(sync_client=True) as client:
        services: dict[str, Any] = client.request("GET", "/admin/settings").json()["server"]["services"]
    vacuum = services.get("db_vacuum") or {}
    enabled = vacuum.get("enabled")
    if enabled is True or (isinstance(enabled, list) and {"events", "flow_runs"} <= {*enabled}):
        kept = TypeAdapter(timedelta).validate_python(vacuum.get("retention_period"))
        yield ok("history", f"Prefect's own history is kept for {age(kept)}")
    else:
        yield warning(
            "history",
            "old runs stay in Prefect's database for ever, and it grows (about 0.3 MB a run)",
            f"export {_VACUUM} for the server, and restart it",
        )
