"""The whole pipeline against raw pg_dump, pg_dump | gzip, restic, and pg_restore, in paired rounds.

    .venv/bin/python bench/pipeline.py --megabytes 2000 --rounds 7

Starts a PostgreSQL and a Prefect server of its own, makes a database of about that size, and prints for each
candidate its wall time as a multiple of raw `pg_dump >/dev/null` in the same round, CPU seconds and peak memory.
"raw again" is the control: the same command as "raw". Needs the tools of bin/test, and restic.
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

from bench.measure import Cost, between_two, measure, report, rounds, shell
from tests.peers.command import Machine
from tests.peers.postgres import PostgresServer, running_server
from tests.peers.prefect_server import prefect_server
from vault.age import generate_identity

_ROWS_PER_MB = 5_500
_TABLES = 4
_FILL = """
CREATE TABLE t{n} (id bigint PRIMARY KEY, customer text, email text, note text, amount numeric(12,2), at timestamptz);
INSERT INTO t{n} SELECT i, 'customer ' || (i % 50000), md5('{n}' || i::text) || '@example.org',
    md5((i % 1000)::text) || md5('{n}' || i::text || 'x') || ' order ' || i, (i % 100000) / 7.0,
    timestamptz '2020-01-01' + i * interval '1 second' FROM generate_series(1, {rows}) i;
CREATE INDEX ON t{n} (customer);
ANALYZE t{n};
"""


@dataclass
class Bench:
    """What the candidates share."""

    server: PostgresServer
    database: str
    machine: Machine
    place: Path
    recipient: str
    identity: Path

    @property
    def connection(self) -> str:
        s = self.server
        return f"-h {s.host} -p {s.port} -U {s.admin}"

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PGPASSWORD": self.server.password,
            "RESTIC_PASSWORD": "bench",
            "RESTIC_REPOSITORY": str(self.place / "restic"),
            "RESTIC_CACHE_DIR": str(self.place / "restic-cache"),
        }

    def tool(self, line: str) -> Cost:
        return measure(shell(line), self.environment())

    def ours(self, app: str) -> Cost:
        return measure([sys.executable, "-m", "cli", "run", app], self.machine.environment())

    def dump(self) -> str:
        return f"{self.server.bin}/pg_dump -w {self.connection} -d {self.database}"

    def save(self, app: str, source: str, *more: str) -> None:
        self.machine.run(
            "app", "add", app, "--source", source, "--to", str(self.place / "backups"), "--keep-last", "1", *more
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--restore-rounds", type=int, default=3)
    parser.add_argument("--spool-limit", type=int, default=1024**3)
    parser.add_argument("--only", choices=["backup", "restore"])
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_DIR", "/tmp")))  # noqa: S108
    try:
        with running_server("fsync=off") as server, prefect_server(place / "server") as url:
            bench = _prepare(server, url, place, options.megabytes, options.spool_limit)
            if options.only != "restore":
                _backup(bench, options.rounds)
            if options.only != "backup":
                _restore(bench, options.restore_rounds)
    finally:
        shutil.rmtree(place)


def _prepare(server: PostgresServer, url: str, place: Path, megabytes: int, spool_limit: int) -> Bench:
    server.sql("CREATE DATABASE bench")
    server.sql("CREATE DATABASE small")
    for number in range(_TABLES):
        rows = megabytes * _ROWS_PER_MB // _TABLES
        server.sql(_FILL.format(n=number, rows=rows), "bench")
    size = server.sql("SELECT pg_database_size('bench')")
    print(f"database: {int(size) / 1e6:.0f} MB, {_TABLES} tables of {megabytes * _ROWS_PER_MB // _TABLES} rows")
    server.sql("VACUUM", "bench")
    (place / "home").mkdir()
    password = place / "password"
    password.write_text(server.password + "\n")
    machine = Machine(place / "home", url, {"BACKUPS_SPOOL_LIMIT": str(spool_limit)})
    identity, recipient = generate_identity()
    (place / "key").write_text(identity)
    bench = Bench(server, "bench", machine, place, recipient, place / "key")
    for name in ("bench", "small"):
        machine.run(
            *("source", "add", "postgres", f"{name}-db", "--database", name, "--user", server.admin),
            *("--host", server.host, "--port", str(server.port), "--password-file", str(password)),
        )
    bench.save("plain", "bench-db")
    bench.save("sealed", "bench-db", "--encrypt-to", recipient)
    bench.save("fixed", "small-db")
    return bench


def _backup(bench: Bench, count: int) -> None:
    bench.tool("restic init")
    gzip_file = bench.place / "dump.gz"
    candidates = {
        "raw": lambda: bench.tool(f"{bench.dump()} > /dev/null"),
        "raw again": lambda: bench.tool(f"{bench.dump()} > /dev/null"),
        "ours: fixed cost": lambda: bench.ours("fixed"),
        "ours: zstd": lambda: bench.ours("plain"),
        "ours: zstd, age": lambda: bench.ours("sealed"),
        "pg_dump | gzip, sha256sum": lambda: bench.tool(f"{bench.dump()} | gzip > {gzip_file}; sha256sum {gzip_file}"),
        "restic --stdin": lambda: bench.tool(
            f"{bench.dump()} | restic backup -q --force --stdin --stdin-filename dump-$RANDOM"
        ),
    }

    def between() -> None:
        gzip_file.unlink(missing_ok=True)
        shutil.rmtree(bench.place / "restic")
        bench.tool("restic init")

    costs = rounds(candidates, count, between=between)
    fixed = statistics.median(cost.wall for cost in costs["ours: fixed cost"])
    print(f"\nfixed cost of a run from the command line, server running: {fixed:.2f} s (taken off of ours below)")
    report(costs, "raw", less={"ours: zstd": fixed, "ours: zstd, age": fixed})
    for slow in ("pg_dump | gzip, sha256sum", "restic --stdin"):
        print(f"{slow}: {between_two(costs, slow, 'ours: zstd, age', fixed)} x ours (zstd, age)")
    shown = bench.machine.json("list", "sealed", "--from", str(bench.place / "backups"))
    print(json.dumps(shown[-1]))


def _restore(bench: Bench, count: int) -> None:
    file = bench.place / "plain.pgdump"
    bench.tool(f"{bench.dump()} -Fc -Z0 -f {file}")
    bench.ours("sealed")
    server = bench.server
    url = f"postgresql://{server.admin}@{server.host}:{server.port}/restored"
    pgpass = bench.machine.home / ".pgpass"
    escaped = server.password.replace("\\", "\\\\").replace(":", "\\:")
    pgpass.write_text(f"*:*:*:*:{escaped}\n")
    pgpass.chmod(0o600)

    def raw() -> Cost:
        server.sql("CREATE DATABASE restored")
        return bench.tool(f"{server.bin}/pg_restore -w {bench.connection} -j2 --exit-on-error -d restored {file}")

    def staged() -> Cost:
        server.sql("CREATE DATABASE restored")
        copy = bench.place / "staged.pgdump"
        pg_restore = f"{server.bin}/pg_restore -w {bench.connection} -j2 --exit-on-error -d restored {copy}"
        return bench.tool(f"age -d -i {bench.identity} {artifact} | zstd -dq > {copy}; {pg_restore}; rm {copy}")

    def ours(app: str) -> Cost:
        command = ["restore", app, "latest", "--from", str(bench.place / "backups"), "--to", url, "--jobs", "2"]
        return measure(
            [sys.executable, "-m", "cli", *command, "--identity", str(bench.identity)],
            bench.machine.environment(PREFECT_API_URL=""),
        )

    (artifact,) = (bench.place / "backups/sealed").glob("*.age")
    bench.ours("fixed")
    costs = rounds(
        {
            "pg_restore -j2": raw,
            "pg_restore -j2 again": raw,
            "age, zstd, pg_restore -j2": staged,
            "ours: fixed cost": lambda: ours("fixed"),
            "ours: restore": lambda: ours("sealed"),
        },
        count,
        between=lambda: server.drop("restored"),
    )
    fixed = statistics.median(cost.wall for cost in costs["ours: fixed cost"])
    print(f"\nfixed cost of a restore from the command line, without Prefect: {fixed:.2f} s (taken off of ours below)")
    report(costs, "pg_restore -j2", less={"ours: restore": fixed})
    report(costs, "age, zstd, pg_restore -j2", less={"ours: restore": fixed})


if __name__ == "__main__":
    main()
