"""A TCP proxy on 127.0.0.1 that breaks connections on demand: cut, silent, or one byte at a time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_BLOCK = 64 * 1024
_DRIP_SECONDS = 0.05


@dataclass
class Wire:
    """What the proxy does to each direction: ``up`` is to the server, ``down`` from it. None: nothing."""

    cut_up: int | None = None
    cut_down: int | None = None
    """Reset every connection when so many further bytes have passed; and so each that comes, but for ``once``."""
    once: bool = False
    drip_up: int | None = None
    drip_down: int | None = None
    """After so many further bytes, one byte at a time. ``0``: from now on."""
    silent: bool = False
    """Nothing passes any more, in both directions, and nothing is closed."""


@dataclass
class Proxy:
    """Listens on ``port``; ``wire`` may be changed at any time; ``connections`` counts those that came."""

    port: int
    target: int
    wire: Wire = field(default_factory=Wire)
    connections: int = 0
    up: int = 0
    down: int = 0
    _pairs: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def cut(self) -> None:
        """Reset every connection now."""
        pairs, self._pairs = self._pairs, []  # who connects anew at once is not meant
        for pair in pairs:
            for end in pair:
                _reset(end)

    def ended(self, seconds: float) -> bool:
        """Wait for the proxy to end, for so long."""
        return self._ended.wait(seconds)

    def _carry(self, here: socket.socket, there: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while data := here.recv(_BLOCK):
                if not self._pass(data, there, up):
                    if self.wire.once:
                        self.wire.cut_up = self.wire.cut_down = None
                    self.cut()
                    return
            there.shutdown(socket.SHUT_WR)

    def _pass(self, data: bytes, there: socket.socket, up: bool) -> bool:
        """Pass *data* on as the wire says; False when it is to be cut here."""
        while self.wire.silent:
            if self._ended.wait(_DRIP_SECONDS):
                return False
        while data:
            cut, drip = (self.wire.cut_up, self.wire.drip_up) if up else (self.wire.cut_down, self.wire.drip_down)
            if cut == 0:
                return False
            size = min(size for size in (len(data), cut, drip or None) if size is not None)
            if drip == 0:
                size = 1
                if self._ended.wait(_DRIP_SECONDS):
                    return False
            there.sendall(data[:size])
            data = data[size:]
            self._passed(size, up)
        return True

    def _passed(self, size: int, up: bool) -> None:
        def less(left: int | None) -> int | None:
            return None if left is None else max(0, left - size)

        if up:
            self.up += size
            self.wire.cut_up, self.wire.drip_up = less(self.wire.cut_up), less(self.wire.drip_up)
        else:
            self.down += size
            self.wire.cut_down, self.wire.drip_down = less(self.wire.cut_down), less(self.wire.drip_down)


@contextmanager
def proxy(target: int) -> Iterator[Proxy]:
    """A proxy before *target*, a port of 127.0.0.1, until the end of the context."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Proxy(listener.getsockname()[1], target)
        accepting = threading.Thread(target=_accept, args=(listener, made), daemon=True)
        accepting.start()
        try:
            yield made
        finally:
            made._ended.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            made.cut()
            accepting.join()


def _accept(listener: socket.socket, made: Proxy) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # closed: the end
            return
        made.connections += 1
        server = socket.create_connection(("127.0.0.1", made.target))
        made._pairs.append((client, server))
        for here, there, up in ((client, server, True), (server, client, False)):
            threading.Thread(target=made._carry, args=(here, there, up), daemon=True).start()


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        end.shutdown(socket.SHUT_RDWR)
        end.close()
