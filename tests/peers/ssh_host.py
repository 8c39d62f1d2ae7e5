"""A server behind SSH, as a source sees it: this machine, through an OpenSSH of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from blocks.ssh_server import SshServer
from tests.peers.sshd import SshServer as Sshd
from tests.peers.sshd import running_sshd


@contextmanager
def ssh_host(*settings: str, within: Sequence[str] = (), address: str = "127.0.0.1") -> Iterator[Sshd]:
    """OpenSSH for an account with a home of its own: what lies in that of the developer says nothing.

    *within*: what stands before the command of each session, so that it runs in another network.
    """
    with running_sshd("shell", *settings, address=address) as server:
        server.within = within
        home = server.place / "home"
        home.mkdir(mode=0o700)
        config = server.place / "config"
        config.write_text(f"{config.read_text()}\nSetEnv HOME={home} TMPDIR={home}\n")
        server.served = home
        yield server


def over(server: Sshd, **fields: Any) -> SshServer:
    """A door to *server*, with a key of its own; connected already, so that a test sees what it itself begins."""
    given = {"host": server.host, "port": server.port, "user": server.user, "host_key": server.host_key, **fields}
    if "private_key" not in given:
        given["private_key"] = SecretStr(server.key())
    found = SshServer(compress_at=given.pop("compress_at", "worker"), **given)
    found.check()
    return found


def left_on(server: Sshd) -> list[Path]:
    """Private directories that are still there."""
    return sorted(server.served.glob("prefect-backups.*"))
