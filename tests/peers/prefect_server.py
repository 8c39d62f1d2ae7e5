"""A real Prefect API server for tests that run the command in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.api import free_port, start_server, wait_until_healthy


@contextmanager
def prefect_server(home: Path) -> Iterator[str]:
    """The url of a server of its own, with an empty database in *home*; ended by process id."""
    before = os.environ.get("PREFECT_HOME")
    os.environ["PREFECT_HOME"] = str(home)
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    server = start_server(port, {"PREFECT_UI_ENABLED": "0"})
    try:
        wait_until_healthy(url, server)
        yield url
    finally:
        server.kill()
        server.wait()
        if before is None:
            del os.environ["PREFECT_HOME"]
        else:
            os.environ["PREFECT_HOME"] = before
