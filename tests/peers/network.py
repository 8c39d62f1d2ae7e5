"""Network namespaces: what runs in one has a loopback, and servers on localhost, of its own; and cables between two."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.peers.postgres import MissingPeer

INSTALL = "apt-get install -y iproute2"
_CLONE_NEWNET = 0x40000000
_NOBODY = "02:00:00:00:00:01"  # the hardware address of nobody
_ADDRESSES = ("10.0.0.1", "10.0.0.2")


@dataclass(frozen=True)
class Network:
    """One that exists as long as the process *holder*. Files, and so Unix sockets, are the same in all."""

    holder: int

    @property
    def within(self) -> Sequence[str]:
        """What to put before a command, so that it runs there."""
        return ("nsenter", f"--net=/proc/{self.holder}/ns/net", "--")

    def run(self, *argv: str) -> str:
        """What a command says that runs there."""
        return subprocess.run([*self.within, *argv], check=True, capture_output=True, text=True).stdout

    @contextmanager
    def entered(self) -> Iterator[None]:
        """What this thread opens, connects and starts in the context belongs to it."""
        own, its = (os.open(f"/proc/{one}/ns/net", os.O_RDONLY) for one in ("thread-self", self.holder))
        try:
            _set_network(its)
            try:
                yield
            finally:
                _set_network(own)
        finally:
            os.close(own)
            os.close(its)


@dataclass(frozen=True)
class Cable:
    """Two networks, and a cable between them: ``there`` is at ``address``, as seen from ``here``."""

    here: Network
    there: Network
    address: str = _ADDRESSES[1]

    def pull(self) -> None:
        """From now on nothing arrives at either end, and neither is told."""
        for network, device, other in self._ends():
            network.run("ip", "neigh", "replace", other, "lladdr", _NOBODY, "dev", device, "nud", "permanent")

    def plug(self) -> None:
        """All arrives again."""
        for (network, device, other), (far, its, _) in zip(self._ends(), self._ends()[::-1], strict=True):
            found = re.search(r"link/ether (\S+)", far.run("ip", "link", "show", "dev", its))
            assert found
            network.run("ip", "neigh", "replace", other, "lladdr", found[1], "dev", device, "nud", "permanent")

    def _ends(self) -> list[tuple[Network, str, str]]:
        return [(self.here, "here", _ADDRESSES[1]), (self.there, "there", _ADDRESSES[0])]


@contextmanager
def network() -> Iterator[Network]:
    """A new one, until the end of the context."""
    if shutil.which("ip") is None:
        raise MissingPeer(f"the tests need networks of their own: {INSTALL}")
    if os.getuid() != 0:
        raise MissingPeer("only root can make a network namespace: run the tests as root")
    argv = ["unshare", "--net", "--", "sh", "-c", "ip link set lo up && echo up && cat"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        yield Network(holder.pid)
        holder.stdin.close()


@contextmanager
def cable() -> Iterator[Cable]:
    """Two new networks with a cable between them."""
    with network() as here, network() as there:
        pair = ("type", "veth", "peer", "name", "there", "netns", str(there.holder))
        here.run("ip", "link", "add", "here", *pair)
        for one, device, address in ((here, "here", _ADDRESSES[0]), (there, "there", _ADDRESSES[1])):
            one.run("ip", "address", "add", f"{address}/30", "dev", device)
            one.run("ip", "link", "set", device, "up")
        yield Cable(here, there)


def _set_network(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
