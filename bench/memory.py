"""Peak memory of the flow's process, by the size of the database: it has to be the same at any size.

.venv/bin/python bench/memory.py --gigabytes 2 10
.venv/bin/python bench/memory.py --gigabytes 1 --sources 3
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measure import measure
from tests.peers.command import Machine
from tests.peers.postgres import PostgresServer, running_server
from tests.peers.prefect_server import prefect_server
from vault.age import generate_identity

_ROW = 2000
_FILL = """
CREATE TABLE t (id bigint, note text);
ALTER TABLE t ALTER note SET STORAGE EXTERNAL;
INSERT INTO t SELECT i, {noise} || {filler} FROM generate_series(1, {rows}) i;
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[2, 10])
    parser.add_argument("--sources", type=int, default=1, help="so many of that size, read at once")
    parser.add_argument("--spool-limit", type=int, default=1024**3)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_DIR", "/tmp")))  # noqa: S108
    try:
        settings = ("fsync=off", "wal_level=minimal", "max_wal_senders=0")
        with running_server(*settings) as server, prefect_server(place / "server") as url:
            (place / "home").mkdir()
            machine = Machine(place / "home", url, {"BACKUPS_SPOOL_LIMIT": str(options.spool_limit)})
            for size in options.gigabytes:
                _measure(server, machine, place, size, options.sources)
    finally:
        shutil.rmtree(place)


def _measure(server: PostgresServer, machine: Machine, place: Path, gigabytes: float, sources: int) -> None:
    name = f"m{gigabytes:g}".replace(".", "-")
    server.sql(f'CREATE DATABASE "{name}"')
    noise = " || ".join(f"md5(i || '{number}')" for number in range(_ROW // 200))  # a sixth, of which half stays
    filler = f"repeat('{os.urandom(100).hex()}', {_ROW // 200 - 2})"
    server.sql(_FILL.format(rows=int(gigabytes * 1e9 / _ROW), noise=noise, filler=filler), name)
    (place / "password").write_text(server.password + "\n")
    named: list[str] = []
    for number in range(sources):
        machine.run(
            *("source", "add", "postgres", f"{name}-{number}", "--database", name, "--user", server.admin),
            *("--host", server.host, "--port", str(server.port), "--password-file", str(place / "password")),
        )
        named += ["--source", f"{name}-{number}"]
    backups = str(place / "backups")
    machine.run(
        *("app", "add", name, *named, "--to", backups, "--encrypt-to", generate_identity()[1]),
        *("--parallel", str(sources)),
    )
    cost = measure([sys.executable, "-m", "cli", "run", name], machine.environment())
    artifacts = machine.json("show", machine.json("list", name, "--from", backups)[0]["id"])["artifacts"]
    plain, size = (sum(artifact[what] for artifact in artifacts) / 1e9 for what in ("plain_size", "size"))
    print(f"{plain:5.1f} GB -> {size:.2f} GB  {cost.wall:6.1f} s  {cost.cpu:6.1f} CPU s  peak {cost.peak_mib:.0f} MiB")
    print(json.dumps([artifact["seconds"] for artifact in artifacts]), flush=True)
    server.sql(f'DROP DATABASE "{name}"')


if __name__ == "__main__":
    main()
