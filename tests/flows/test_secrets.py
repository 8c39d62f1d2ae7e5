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
from tests.peers.smtp import PASSWORD, USER, mail_server
from tests.peers.watched import Watched

CANARY, WRONG = "canary-Pa55w0rd", "wr0ng-canary-Pa55w0rd"


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
    needles = spellings(CANARY) | spellings(WRONG) | spellings(PASSWORD)
    postgres_server.sql(f"CREATE ROLE canary LOGIN SUPERUSER PASSWORD '{CANARY}'")
    for name in ("home", "server", "disk"):
        (tmp_path / name).mkdir()
    secret = tmp_path / "secret"
    secret.write_text(CANARY)
    with (
        postgres_server.database("CREATE TABLE t AS SELECT 1 AS x") as database,
        mail_server(auth=True) as inbox,
        prefect_server(tmp_path / "server") as url,
        Watched(needles) as watched,
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
        ran = machine.start("run", "c")
        assert ran.wait(timeout=TIMEOUT) == 0
        secret.write_text(WRONG)
        wrong = machine.run(*add[:3], "c-wrong", *add[4:], "--password-file", str(secret), ok=False)
        secret.unlink()
        assert (wrong.returncode, "password authentication failed" in wrong.stderr) == (1, True)
        secret.write_text(PASSWORD)
        mail = ("--host", "127.0.0.1", "--port", str(inbox.port), "--security", "none", "--user", USER)
        whom = ("--sender", "backups@example.org", "--to", "ops@example.org", "--password-file", str(secret))
        machine.run("notify", "add", "email", "ops", *mail, *whom)
        secret.unlink()
        postgres_server.sql("ALTER ROLE canary PASSWORD 'another'")
        failed = machine.run("run", "c", ok=False)
        assert (failed.returncode, "password authentication failed" in failed.stderr) == (1, True)
        told = inbox.find("backup failed: c", "password authentication failed")
        questions = (("source", "show", "c-db"), ("list", "c"), ("app", "show", "c"))
        said = [*(machine.run(*words).stdout for words in questions), wrong.stdout, wrong.stderr]
        said += [failed.stdout, failed.stderr, told.as_string(), told.get_content()]
        assert not [text for text in said for needle in needles if needle.decode() in text]
        assert files_with(tmp_path, needles | {identity["identity"].encode()}) == []
    assert {"pg_dump", "psql", "python"} <= {name.rstrip("0123456789.") for name in watched.seen}, watched.seen
    assert watched.found == set()
    postgres_server.sql("DROP ROLE canary")
