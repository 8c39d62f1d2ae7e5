"""Retention over many backups at a local destination: what it takes on top of listing them, and of the bare listing.

.venv/bin/python bench/retention.py --backups 100000
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tasks.retain
from bench.listing import fill
from blocks import LocalDestination
from tasks.retain import judge
from tasks.seen import Seen
from tests.peers.command import Machine
from vault import known_signers
from vault.catalog import Catalog
from vault.plan import Keeper
from vault.retention import RetentionPolicy
from vault.signing import Trust


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backups", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        machine = Machine(place / "home", None)
        fill(place / "disk", machine, options.backups)
        store = LocalDestination(root=place / "disk")
        trust = Trust.of(known_signers.read(machine.home / "prefect/backups/known-signers"))
        catalog = Catalog(store, "shop", trust)
        tasks.retain.recall = lambda _spot: Seen()  # one request to Prefect, which is not what is measured
        calendar = {"keep_daily": 1000, "keep_weekly": 200, "keep_monthly": 120, "keep_within": timedelta(days=90)}
        policy = RetentionPolicy(keep_last=options.backups - 10, **calendar)
        took: dict[str, list[float]] = {"names": [], "records": [], "plan": []}
        for number in range(1, options.rounds + 1):
            began = time.monotonic()
            list(store.list("shop/"))
            named = time.monotonic()
            history = catalog.history()
            read = time.monotonic()
            judged = judge(catalog, history, [Keeper(policy)], "database", "disk", now=datetime.now(UTC), clock=None)
            ended = time.monotonic()
            if len(history.records) != options.backups or len(judged.plan.drop) != 10:
                raise RuntimeError(f"{len(history.records)} records, {len(judged.plan.drop)} to go")
            for name, seconds in zip(took, (named - began, read - named, ended - read), strict=True):
                took[name].append(seconds)
            print(f"round {number}/{options.rounds}", flush=True)
        for name, said in (
            ("names", "listing the names"),
            ("records", "listing, and reading and proving each record"),
            ("plan", "the plan, on top of that"),
        ):
            runs = took[name]
            print(f"{said}: {statistics.median(runs):.2f} s [{min(runs):.2f} to {max(runs):.2f}]")


if __name__ == "__main__":
    main()
