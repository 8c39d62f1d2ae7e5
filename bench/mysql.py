"""The whole pipeline against raw mariadb-dump, and a restore against the client, in paired rounds.

    .venv/bin/python bench/mysql.py --megabytes 1000 --rounds 3

Starts a MariaDB and a Prefect server of its own, makes a database of about that size, and prints for each candidate its
wall time as a multiple of raw `mariadb-dump >/dev/null` with the same options in the same round, CPU seconds and
peak memory. "raw again" is the control: the same command as "raw". Needs the tools of bin/test.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measure import Cost, measure, report, rounds, shell
from blocks.servers import LocalServer
from blocks.sources.mysql_client import option_file
from blocks.sources.mysql_tools import find_installations, parse_server
from tests.peers.command import Machine
from tests.peers.mariadb import MariaDBServer, running_mariadb
from tests.peers.prefect_server import prefect_server
from vault.age import generate_identity

_ROWS_PER_MB = 6_300
_TABLES = 4
_FILL = """
CREATE TABLE t{n} (id bigint PRIMARY KEY, customer varchar(40), email varchar(80), note text, amount decimal(12,2),
    at datetime, KEY (customer));
INSERT INTO t{n} SELECT seq, CONCAT('customer ', seq % 50000), CONCAT(MD5(CONCAT('{n}', seq)), '@example.org'),
    CONCAT(MD5(seq % 1000), MD5(CONCAT('{n}', seq, 'x')), ' order ', seq), (seq % 100000) / 7.0,
    '2020-01-01' + INTERVAL seq SECOND FROM seq_1_to_{rows};
ANALYZE TABLE t{n};
"""


@dataclass
class Bench:
    """What the candidates share."""

    server: MariaDBServer
    machine: Machine
    place: Path
    identity: Path

    @property
    def login(self) -> str:
        s = self.server
        return f"--defaults-file={self.place}/my.cnf --protocol=tcp --host={s.host} --port={s.port} --user={s.admin}"

    def tool(self, line: str) -> Cost:
        return measure(shell(line), dict(os.environ))

    def ours(self, *command: str, **env: str) -> Cost:
        return measure([sys.executable, "-m", "cli", *command], self.machine.environment(**env))

    def dump(self) -> str:
        """The same tool with the same options as ours."""
        server = parse_server(self.server.sql("SELECT VERSION()"))
        (tool, *_) = find_installations(LocalServer())
        return f"{tool.dump} {self.login} {' '.join(tool.dump_options(server))} bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--restore-rounds", type=int, default=3)
    parser.add_argument("--spool-limit", type=int, default=1024**3)
    parser.add_argument("--only", choices=["backup", "restore"])
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_DIR", "/tmp")))  # noqa: S108
    try:
        memory = ("innodb-buffer-pool-size=512M", "innodb-log-file-size=512M")
        with running_mariadb(*memory) as server, prefect_server(place / "server") as url:
            bench = _prepare(server, url, place, options.megabytes, options.spool_limit)
            if options.only != "restore":
                _backup(bench, options.rounds)
            if options.only != "backup":
                _restore(bench, options.restore_rounds)
    finally:
        shutil.rmtree(place)


def _prepare(server: MariaDBServer, url: str, place: Path, megabytes: int, spool_limit: int) -> Bench:
    server.sql("CREATE DATABASE bench; CREATE DATABASE small")
    rows = megabytes * _ROWS_PER_MB // _TABLES
    for number in range(_TABLES):
        server.sql(_FILL.format(n=number, rows=rows), "bench")
    (place / "home").mkdir()
    (place / "password").write_text(server.password + "\n")
    (place / "my.cnf").write_text(option_file(server.password))
    identity, recipient = generate_identity()
    (place / "key").write_text(identity)
    machine = Machine(place / "home", url, {"BACKUPS_SPOOL_LIMIT": str(spool_limit)})
    bench = Bench(server, machine, place, place / "key")
    bench.tool(f"{bench.dump()} > {place}/plain.sql")
    print(f"script: {(place / 'plain.sql').stat().st_size / 1e6:.0f} MB, {_TABLES} tables of {rows} rows")
    for name in ("bench", "small"):
        machine.run(
            *("source", "add", "mysql", f"{name}-db", "--database", name, "--user", server.admin),
            *("--host", server.host, "--port", str(server.port), "--password-file", str(place / "password")),
        )
    for app, source, *more in (
        ("plain", "bench-db"),
        ("sealed", "bench-db", "--encrypt-to", recipient),
        ("fixed", "small-db"),
    ):
        to = ("--to", str(place / "backups"), "--keep-last", "1")
        machine.run("app", "add", app, "--source", source, *to, *more)
    return bench


def _backup(bench: Bench, count: int) -> None:
    costs = rounds(
        {
            "raw": lambda: bench.tool(f"{bench.dump()} > /dev/null"),
            "raw again": lambda: bench.tool(f"{bench.dump()} > /dev/null"),
            "ours: fixed cost": lambda: bench.ours("run", "fixed"),
            "ours: zstd": lambda: bench.ours("run", "plain"),
            "ours: zstd, age": lambda: bench.ours("run", "sealed"),
        },
        count,
    )
    fixed = statistics.median(cost.wall for cost in costs["ours: fixed cost"])
    print(f"\nfixed cost of a run from the command line, server running: {fixed:.2f} s (taken off of ours below)")
    report(costs, "raw", less={"ours: zstd": fixed, "ours: zstd, age": fixed})
    print(json.dumps(bench.machine.json("list", "sealed", "--from", str(bench.place / "backups"))[-1]))


def _restore(bench: Bench, count: int) -> None:
    server = bench.server
    url = f"mysql://{server.admin}@{server.host}:{server.port}/restored"
    client = f"mariadb {bench.login} --binary-mode --max-allowed-packet=1G restored"
    for app in ("fixed", "sealed"):
        bench.ours("run", app)

    def raw() -> Cost:
        server.sql("CREATE DATABASE restored")
        return bench.tool(f"{client} < {bench.place}/plain.sql")

    def ours(app: str) -> Cost:
        where = ("--from", str(bench.place / "backups"), "--to", url, "--identity", str(bench.identity))
        return bench.ours("restore", app, "latest", *where, PREFECT_API_URL="", MYSQL_PWD=server.password)

    costs = rounds(
        {
            "mariadb < script": raw,
            "mariadb < script again": raw,
            "ours: fixed cost": lambda: ours("fixed"),
            "ours: restore": lambda: ours("sealed"),
        },
        count,
        between=lambda: server.drop("restored"),
    )
    fixed = statistics.median(cost.wall for cost in costs["ours: fixed cost"])
    print(f"\nfixed cost of a restore from the command line, without Prefect: {fixed:.2f} s (taken off of ours below)")
    report(costs, "mariadb < script", less={"ours: restore": fixed})


if __name__ == "__main__":
    main()
