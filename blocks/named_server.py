"""A server by its name, as flows and apps have it: one that is saved, or this machine."""

from __future__ import annotations

from blocks.loading import load
from blocks.servers import SERVERS, LocalServer
from blocks.ssh_server import SshServer
from vault.store import NAME_PATTERN

LOCAL = "local"
"""What stands for this machine."""
SERVER_PATTERN = f"^({LOCAL}|({'|'.join(SERVERS)})/{NAME_PATTERN[1:-1]})$"
Server = LocalServer | SshServer


def server_named(ref: str) -> Server:
    """The server saved as *ref*, or this machine for ``local``."""
    return LocalServer() if ref == LOCAL else load(ref, SshServer)
