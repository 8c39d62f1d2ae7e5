"""``python -m console``, ``backups console``: as processes of their own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
from prefect.settings import PREFECT_API_URL

from blocks import console_accounts as kept
from tests.peers.command import TIMEOUT
from tests.peers.units import ROOT

get = partial(httpx.get, timeout=TIMEOUT)


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value()), "PYTHONPATH": str(ROOT), **more}


@contextmanager
def serving(tmp_path: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """The console, its address, and what it has said before it gave that."""
    argv = [sys.executable, "-m", "cli", "console", "--port", "0", *options]
    with subprocess.Popen(
        argv, env=environment(), cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        assert child.stderr is not None
        said: list[str] = []
        try:
            for line in child.stderr:
                said.append(line)
                if found := re.match(r"Console: (http://\S+)", line):
                    yield child, found[1], said
                    break
            else:
                pytest.fail(f"it ended: {said}")
        finally:
            child.terminate()
            child.wait(timeout=TIMEOUT)


@pytest.fixture
def token(prefect_api: object) -> Iterator[str]:
    """An account, and a token."""
    kept.add_account("ops", "correct horse battery", "admin")
    yield kept.add_token("serving", "read", None)
    kept.ConsoleAccounts.delete(kept.DOCUMENT)


def test_it_refuses_to_serve_whoever_comes_and_says_how_to_make_an_account(prefect_api: object) -> None:
    argv = [sys.executable, "-m", "console", "--port", "0", "--host", "::"]
    done = subprocess.run(argv, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 2
    assert "backups console user add NAME --scope admin" in done.stderr


def test_it_serves_this_machine_without_a_login_and_ends_when_it_is_told(prefect_api: object, tmp_path: Path) -> None:
    with serving(tmp_path) as (child, address, _):
        assert address.startswith("http://127.0.0.1:")
        answer = get(f"{address}/api/session")
        assert (answer.json()["via"], "server" in answer.headers) == ("nobody", False)
        forwarded = {"X-Forwarded-For": "10.0.0.1", "X-Forwarded-Proto": "https"}
        assert get(f"{address}/api/session", headers=forwarded).status_code == 401
        port = int(address.rpartition(":")[2])
        argv = [sys.executable, "-m", "console", "--port", str(port)]
        second = subprocess.run(argv, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT)
        assert (second.returncode, "Address already in use" in second.stderr) == (2, True)
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=TIMEOUT) == 0
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, "its child has ended too"


def test_beyond_loopback_it_asks_for_a_login_and_believes_only_its_proxy(token: str, tmp_path: Path) -> None:
    bearer, https = {"Authorization": f"Bearer {token}"}, {"X-Forwarded-Proto": "https"}
    with serving(tmp_path, "--host", "0.0.0.0") as (_, address, _):  # noqa: S104
        here = address.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        assert get(f"{here}/api/session").status_code == 401
        assert get(f"{here}/api/session", headers=bearer).status_code == 200
        shown = get(f"{here}/login", headers=https).headers
        assert "strict-transport-security" not in shown, "anybody may say that"
        assert "Secure" in shown["set-cookie"]
    with serving(tmp_path, "--proxy", "127.0.0.1") as (_, address, _):
        assert "strict-transport-security" in get(f"{address}/login", headers=https).headers
        assert "Secure" not in get(f"{address}/login").headers["set-cookie"]
