"""A wire of a given speed: a TCP relay on 127.0.0.1, as a process of its own.

    python bench/wire.py PORT MEGABYTES_A_SECOND

It prints the port on which it listens, and relays to PORT, so many bytes a second in each direction, whatever the
number of connections. It ends when its standard input does.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_BLOCK = 64 * 1024


class Direction:
    """So many bytes a second, shared by all who ask."""

    def __init__(self, rate: float) -> None:
        self._rate, self._free_at, self._lock = rate, time.monotonic(), threading.Lock()

    def take(self, size: int) -> None:
        """Wait until *size* bytes may pass."""
        with self._lock:
            now = time.monotonic()
            begins = max(now, self._free_at)
            self._free_at = begins + size / self._rate
        if begins > now:
            time.sleep(begins - now)


@contextmanager
def wire(port: int, megabytes: float) -> Iterator[int]:
    """A port of 127.0.0.1 that leads to *port* through such a wire; without one (0), *port* itself."""
    if not megabytes:
        yield port
        return
    argv = [sys.executable, __file__, str(port), str(megabytes)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as relay:
        assert relay.stdout is not None
        try:
            yield int(relay.stdout.readline())
        finally:
            relay.kill()


def main() -> None:
    port, rate = int(sys.argv[1]), float(sys.argv[2]) * 1_000_000
    up, down = Direction(rate), Direction(rate)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        threading.Thread(target=_accept, args=(listener, port, up, down), daemon=True).start()
        sys.stdin.read()


def _accept(listener: socket.socket, port: int, up: Direction, down: Direction) -> None:
    while True:
        client, _ = listener.accept()
        server = socket.create_connection(("127.0.0.1", port))
        for here, there, direction in ((client, server, up), (server, client, down)):
            threading.Thread(target=_carry, args=(here, there, direction), daemon=True).start()


def _carry(here: socket.socket, there: socket.socket, direction: Direction) -> None:
    with suppress(OSError):
        while data := here.recv(_BLOCK):
            direction.take(len(data))
            there.sendall(data)
    with suppress(OSError):
        there.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    main()
