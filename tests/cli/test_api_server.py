"""Prefect's server on SQLite goes on, whatever of its garbage is collected."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_SERVER = """
import gc, sqlite3, sys, threading
from pathlib import Path
from cli.api_server import collect_beside

one, other = (sqlite3.connect(sys.argv[1], isolation_level=None, check_same_thread=False, timeout=3) for _ in range(2))
one.execute("CREATE TABLE runs (id INTEGER)")
if sys.argv[2] == "beside":
    collect_beside()

def held_by_an_exception():
    cursor = other.execute("SELECT 1 UNION ALL SELECT 2")
    cursor.fetchone()  # and no more: it is not done
    held = [cursor]
    held.append(held)

def is_waiting(thread):
    return "sleep" in Path(f"/proc/self/task/{thread.native_id}/wchan").read_text()

def write():
    try:
        other.execute("INSERT INTO runs VALUES (1)")
        print("written")
    except sqlite3.OperationalError as error:
        print(error)

gc.disable()
held_by_an_exception()
one.execute("BEGIN IMMEDIATE")
thread = threading.Thread(target=write)
thread.start()
while not is_waiting(thread):
    pass
if sys.argv[2] == "here":
    gc.enable()
kept = [[] for _ in range(100_000)]  # as an event loop does: it allocates, until Python collects
one.execute("COMMIT")
thread.join()
"""


@pytest.mark.parametrize(("where", "said"), [("beside", "written"), ("here", "database is locked")])
def test_a_collection_that_waits_for_a_connection_keeps_no_transaction_from_its_end(
    tmp_path: Path, where: str, said: str
) -> None:
    argv = [sys.executable, "-c", _SERVER, str(tmp_path / "prefect.db"), where]
    done = subprocess.run(argv, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (said, "")
