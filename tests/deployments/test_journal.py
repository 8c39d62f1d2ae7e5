"""Log records with fields, and the way to the system's journal, here a socket of the test's."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path

import pytest

from deployments.journal import Journal
from vault.log import Lines, about, also, fields


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.Logger("test", logging.INFO)
    yield logger
    for handler in logger.handlers:
        handler.close()


def journal(path: Path) -> Journal:
    handler = Journal(address=str(path))
    handler.setFormatter(Lines())
    return handler


def listening(path: Path) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    peer.bind(str(path))
    peer.settimeout(60)
    return peer


def test_what_a_record_is_about_ends_with_its_context_and_reaches_tasks_begun_within() -> None:
    with about(app="shop"):
        also(id="1")
        with about(source="db"):
            within = copy_context()
        assert fields() == {"app": "shop", "id": "1"}
    assert fields() == {}
    assert within.run(fields) == {"app": "shop", "id": "1", "source": "db"}


def test_a_record_is_one_line_of_json_with_its_fields(logger: logging.Logger, tmp_path: Path) -> None:
    with listening(tmp_path / "log") as peer:
        logger.addHandler(journal(tmp_path / "log"))
        with about(app="shop", source="db"):
            logger.info("two\nlines, %s", "é", extra={"destination": "disk", "flow_run_id": "1-2", "task_run_id": None})
        try:
            raise KeyError("lost")
        except KeyError:
            logger.exception("failed")
        first, second = (peer.recv(65536).decode() for _ in range(2))
    head, _, line = first.partition("backups: ")
    assert head == "<14>"
    assert "\n" not in line
    found = json.loads(line)
    assert found.pop("time").endswith("+00:00")
    assert found == {
        **{"level": "info", "logger": "test", "message": "two\nlines, é"},
        **{"app": "shop", "source": "db", "destination": "disk", "flow_run_id": "1-2"},
    }
    found = json.loads(second.partition("backups: ")[2])
    assert "KeyError: 'lost'" in found["error"]
    assert found["level"] == "error"


@pytest.mark.fault("O10")
def test_a_journal_that_is_down_or_takes_nothing_holds_nobody_up(
    logger: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.addHandler(journal(tmp_path / "log"))
    logger.info("lost")
    with listening(tmp_path / "log") as peer:
        logger.info("taken")
        assert b"taken" in peer.recv(65536)
        for number in range(5000):  # nobody reads, and its buffer is full long before
            logger.info("number %d: %s", number, "x" * 1000)
        logger.info("x" * 10_000_000)
    logger.info("lost too")
    assert capsys.readouterr().err == ""
