"""A real Prefect API server for tests: with a database of its own, in a process of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli.api import free_port, start_server, wait_until_healthy
from tests.peers import warm


@contextmanager
def prefect_server(home: Path, environment: Mapping[str, str] | None = None, forked: bool = True) -> Iterator[str]:
    """The url of a server of its own, with an empty database in *home*, and more *environment*; ended by process id.

    Not *forked*, it imports by itself what it can import.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        if forked:
            patch.setattr("cli.api.subprocess", SimpleNamespace(Popen=warm.start_server, DEVNULL=subprocess.DEVNULL))
        server = start_server(port, {"PREFECT_UI_ENABLED": "0", **(environment or {})})
        try:
            wait_until_healthy(url, server)
        except BaseException:
            server.kill()
            raise
    try:
        yield url
    finally:
        server.kill()
        server.wait()
