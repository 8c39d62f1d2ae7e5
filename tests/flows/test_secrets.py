"""Canary secrets: a whole run and restore, then a search of everything that it wrote and showed (law 10)."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.peers.command import TIMEOUT, Machine
from tests.peers.postgres import PostgresServer
from tests.peers.prefect_server import prefect_server
from tests.peers.processes import descendants_of

CANARY = "canary-Pa55w0rd"


def spellings(secret: str) -> set[bytes]:
    """A secret as it may stand in text, JSON, a url or a pgpass file."""
    texts = {secret, json.dumps(secret)[1:-1], quote(secret), repr(secret)[1:-1]}
    return {text.encode() for text in texts}


def files_with(root: Path, needles: set[bytes]) -> list[Path]:
    return [
        path for path in root.rglob("*") if path.is_file() and any(needle in path.read_bytes() for needle in needles)
    ]


def shown_by_processes(needles: set[bytes]) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                argv = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if any(needle in argv for needle in needles):
                found.append(entry.name)
    return found


@pytest.mark.law(10)
@pytest.mark.fault("O12", "S12", "N08")
def test_no_secret_is_found_in_anything_that_a_run_and_a_restore_leave_or_show(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    needles = spellings(CANARY)
    postgres_server.sql(f"CREATE ROLE canary LOGIN SUPERUSER PASSWORD '{CANARY}'")
    for name in ("home", "server", "disk"):
        (tmp_path / name).mkdir()
    secret = tmp_path / "secret"
    secret.write_text(CANARY)
    with (
        postgres_server.database("CREATE TABLE t AS SELECT 1 AS x") as database,
        prefect_server(tmp_path / "server") as url,
    ):
        machine = Machine(tmp_path / "home", url)
        where = ("--host", postgres_server.host, "--port", str(postgres_server.port), "--user", "canary")
        add = ("source", "add", "postgres", "c-db", "--database", database, *where)
        machine.run(*add, "--password-file", str(secret))
        secret.unlink()
        machine.run("app", "add", "c", "--source", "c-db", "--to", str(tmp_path / "disk/backups"))
        identity = machine.json("keys", "generate")
        run = machine.stop_at("dump:begun", "run", "c", "--encrypt-to", identity["recipient"])
        assert descendants_of(run.pid), "the dump tool runs now, and is looked at"
        assert shown_by_processes(needles) == []
        run.send_signal(signal.SIGCONT)
        assert run.wait(timeout=TIMEOUT) == 0
        machine.run("run", "c")
        (tmp_path / "home/wrong").write_text("wrong")
        wrong = machine.run(
            *add[:3], "c-wrong", *add[4:-1], "nobody", "--password-file", str(tmp_path / "home/wrong"), ok=False
        )
        assert wrong.returncode == 1
        questions = (("source", "show", "c-db"), ("list", "c"), ("app", "show", "c"))
        said = [*(machine.run(*words).stdout for words in questions), wrong.stdout, wrong.stderr]
        assert not [text for text in said for needle in needles if needle.decode() in text]
        assert files_with(tmp_path, needles | {identity["identity"].encode()}) == []
    postgres_server.sql("DROP ROLE canary")
