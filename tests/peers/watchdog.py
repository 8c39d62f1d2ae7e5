"""A real HTTP server on a free port of 127.0.0.1 that keeps the pings it takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Watchdog:
    """Where it listens, and what it has taken: paths and texts."""

    url: str
    answers: list[tuple[int, str]] = field(default_factory=list)
    """What it says next, once each; then 200 OK."""
    taken: list[tuple[str, str]] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """The paths below its own address, in order."""
        return [path for path, _ in self.taken]


@contextmanager
def watchdog(secret: str) -> Iterator[Watchdog]:
    """Runs one whose address ends with *secret*."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            dog.taken.append((self.path.removeprefix(f"/{secret}"), text))
            code, said = dog.answers.pop(0) if dog.answers else (200, "OK")
            self.send_response(code)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    dog = Watchdog(f"http://127.0.0.1:{server.server_port}/{secret}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield dog
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
