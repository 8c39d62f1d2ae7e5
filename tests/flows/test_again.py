"""What a busy server turns away is asked again soon."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prefect.client import base
from prefect.client.orchestration import PrefectClient, SyncPrefectClient, get_client
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from tasks.again import again_soon, one_client


@pytest.fixture
def busy() -> Iterator[tuple[str, list[int]]]:
    """A server's address, and the codes that it still answers, before it answers well."""
    codes: list[int] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({}).encode()
            self.send_response(codes.pop(0) if codes else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", codes
    server.shutdown()
    thread.join()
    server.server_close()


def test_one_that_is_busy_for_a_moment_is_asked_again_at_once_and_then_as_patiently_as_ever(
    busy: tuple[str, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, codes = busy
    waited: list[float] = []
    monkeypatch.setattr(base.time, "sleep", waited.append)
    client = SyncPrefectClient(address)
    again_soon(client)
    codes += [503]
    client.request("GET", "/flows/")
    assert sum(waited) < 1, "Prefect's client alone waits for two seconds"
    waited.clear()
    codes += [503] * 11
    client.request("GET", "/flows/")
    assert sum(waited) > 50, "a server that restarts is waited for as long as ever"
    waited.clear()
    codes += [429]
    client.request("GET", "/flows/")
    assert sum(waited) > 1, "what a server asks for itself is another matter"


def test_a_worker_asks_again_too(busy: tuple[str, list[int]]) -> None:
    address, codes = busy

    async def ask() -> int:
        async with PrefectClient(address) as client:
            again_soon(client)
            codes.extend([503] * 2)
            return (await client.request("GET", "/flows/")).status_code

    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        assert asyncio.run(ask()) == 200


def test_within_there_is_one_client(prefect_api: object) -> None:
    with one_client() as client:
        assert get_client(sync_client=True) is client
        assert client.hello().json() == "👋"
