"""What the log of a run holds: what its tools said, and what each record is about."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_MAX_LOG_SIZE, temporary_settings

from flows.backup import backup
from tests.flows.conftest import Sample
from tests.peers.command import Machine

LOGGING = Path(__file__).parents[2] / "deployments/logging.yml"


@pytest.fixture
def talking(sample: Sample, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sample:
    """A sample app whose tar has something to say, and a secret that is not one of its."""
    real = "/usr/bin/tar"
    script = f"""#!/bin/sh
case "$*" in *--create*) echo "{sample.name} says: careful" >&2 ;; esac
exec {real} "$@"
"""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tar").write_text(script)
    (tmp_path / "bin/tar").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return sample


def logged(flow_run: str) -> list[str]:
    """What Prefect's API has in the log of that run."""
    APILogWorker.drain_all(timeout=60, at_exit=False)
    with get_client(sync_client=True) as client:
        found = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[UUID(flow_run)])), limit=200)
    return [entry.message for entry in found]


@contextmanager
def journal(path: Path) -> Iterator[list[dict[str, str]]]:
    """What a journal at *path* is sent."""
    lines: list[dict[str, str]] = []
    taken: list[bytes] = []

    def take() -> None:
        while data := peer.recv(1 << 20):
            taken.append(data)  # no more than that: whoever sends does not wait, and few wait here

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(str(path))
        taking = threading.Thread(target=take)
        taking.start()
        try:
            yield lines
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.sendto(b"", str(path))
            taking.join()
            lines += [json.loads(data.partition(b"backups: ")[2]) for data in taken]


def test_what_a_tool_says_is_in_prefects_log_of_the_run_and_knows_what_it_is_about(
    talking: Sample, caplog: pytest.LogCaptureFixture
) -> None:
    result = backup(app=talking.name)
    about = {"app": talking.name, "id": result.id, "source": f"{talking.name}-files"}
    (said,) = [record for record in caplog.records if record.getMessage() == f"tar: {talking.name} says: careful"]
    assert {name: said.__dict__[name] for name in about} == about
    (landed,) = [record for record in caplog.records if "verified by read-back" in record.getMessage()]
    assert (landed.__dict__["destination"], landed.__dict__["id"]) == (f"{talking.name}-backups", result.id)
    assert logged(str(said.__dict__["flow_run_id"])).count(f"tar: {talking.name} says: careful") == 1


@pytest.mark.fault("O10")
def test_a_log_that_is_down_or_too_small_for_a_line_is_nothing_to_a_backup(
    talking: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[int] = []

    async def down(self: PrefectClient, logs: list[Any]) -> None:
        refused.append(len(logs))
        raise httpx.ConnectError("the log is down")

    monkeypatch.setattr(PrefectClient, "create_logs", down)
    with temporary_settings({PREFECT_LOGGING_TO_API_MAX_LOG_SIZE: 300}):
        backup(app=talking.name)
        APILogWorker.drain_all(timeout=60, at_exit=False)
    assert refused
    assert len(talking.history().records) == 1


def test_the_shipped_logging_tells_the_journal_what_each_line_is_about(talking: Sample, tmp_path: Path) -> None:
    with journal(tmp_path / "log") as lines:
        Machine(tmp_path, str(PREFECT_API_URL.value())).run(
            *("run", talking.name),
            PREFECT_LOGGING_SETTINGS_PATH=str(LOGGING),
            PREFECT_LOGGING_HANDLERS_JOURNAL_ADDRESS=str(tmp_path / "log"),
        )
    (said,) = [line for line in lines if line["message"] == f"tar: {talking.name} says: careful"]
    (record,) = talking.history().records
    assert (said["app"], said["id"], said["source"]) == (talking.name, record.id, f"{talking.name}-files")
    assert said["flow_run_id"]
    (landed,) = [line for line in lines if "verified by read-back" in line["message"]]
    assert (landed["destination"], landed["level"]) == (f"{talking.name}-backups", "info")
