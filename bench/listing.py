"""`backups list --from PATH` of many backups, against the start of the interpreter with the same imports.

.venv/bin/python bench/listing.py --backups 10000
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measure import measure, report, rounds
from blocks import LocalDestination
from tests.peers.command import Machine
from vault import known_signers
from vault.record import Artifact, BackupId, BackupRecord, artifact_key, utc
from vault.sealing import seal
from vault.signing import Signer

_IMPORTS = "import cli.lists, blocks, blocks.signing_key, vault.catalog"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backups", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        machine = Machine(place / "home", None)
        fill(place / "disk", machine, options.backups)
        measure([sys.executable, "-m", "cli", "list", "shop", "--from", str(place / "disk")], machine.environment())
        command = [sys.executable, "-m", "cli", "list", "shop", "--from", str(place / "disk")]
        environment = machine.environment()
        costs = rounds(
            {
                "python": lambda: measure([sys.executable, "-c", "pass"], environment),
                "python with our imports": lambda: measure([sys.executable, "-c", _IMPORTS], environment),
                "backups list --no-cache": lambda: measure([*command, "--no-cache"], environment),
                "backups list": lambda: measure(command, environment),
            },
            options.rounds,
        )
        report(costs, "python with our imports")
        for base in ("python", "python with our imports"):
            for name in ("backups list --no-cache", "backups list"):
                extra = statistics.median(a.wall - b.wall for a, b in zip(costs[name], costs[base], strict=True))
                print(f"{name}, {options.backups} backups, on top of {base}: {extra:.2f} s")


def fill(root: Path, machine: Machine, count: int) -> None:
    LocalDestination(root=root).prepare()
    (root / "shop").mkdir()
    signer = Signer.generate()
    known_signers.add(machine.home / "prefect/backups/known-signers", signer.public_key)
    for number in range(count):
        backup_id = BackupId.new(datetime.now(UTC) - timedelta(hours=number), "database")
        artifact = Artifact(
            source="shop-db",
            kind="postgres",
            key=artifact_key("shop", backup_id, "shop-db", "pgdump.zst.age"),
            size=7,
            sha256="0" * 64,
            plain_size=20,
            plain_sha256="0" * 64,
            compression="zstd",
            recipients=("age1" + "q" * 58,),
            tool="pg_dump 15.18, server PostgreSQL 15.18",
            facts={"tables": 20, "rows": {f"public.table_{i}": i * 1000 for i in range(20)}},
            seconds={"dump": 1.0, "upload": 1.0, "verify": 0.1},
            verified="read-back",
            restore_with="age -d -i KEY.txt < FILE | zstd -d | pg_restore --exit-on-error --dbname=TARGET",
        )
        at = utc(backup_id.created_at)
        record = BackupRecord(
            id=str(backup_id),
            app="shop",
            type="database",
            created_at=at,
            completed_at=at,
            producer={"prefect-backups": "0.1.0", "host": "bench"},
            artifacts=(artifact,),
        )
        (root / artifact.key).write_bytes(b"content")
        (root / record.key).write_bytes(seal(record, signer))


if __name__ == "__main__":
    main()
