"""The console's list of many backups at a local destination: seconds in the server, the first time and afterwards.

.venv/bin/python bench/console.py --backups 10000
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.listing import fill
from tests.peers.command import Machine
from tests.peers.prefect_server import prefect_server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backups", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--at", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.at:
        _measure(options.at, options.rounds, options.backups)
        return
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        machine = Machine(place / "home", None)
        fill(place / "disk", machine, options.backups)
        with prefect_server(place / "api") as url:  # Prefect reads its environment as it is imported: a new process
            command = [sys.executable, __file__, "--at", str(place / "disk"), *sys.argv[1:]]
            subprocess.run(command, env=machine.environment(PREFECT_API_URL=url), check=True)


def _measure(disk: Path, rounds: int, backups: int) -> None:
    from fastapi.testclient import TestClient

    from blocks import App, LocalDestination
    from console.api import create
    from console.listing import LISTING

    LocalDestination(root=disk).save("disk")
    App(sources=["sqlite-database/shop-db"], destinations=["local-destination/disk"]).save("shop")
    with TestClient(create(), base_url="http://127.0.0.1:4280") as client:

        def ask(address: str) -> float:
            began = time.monotonic()
            answer = client.get(address)
            seconds = time.monotonic() - began
            if answer.status_code != 200:
                raise RuntimeError(answer.text)
            return seconds

        began = time.monotonic()
        first = ask("/api/backups")
        while client.get("/api/backups").json()["total"] < backups:
            pass
        print(f"first answer: {first:.2f} s; all {backups} known: {time.monotonic() - began:.2f} s")
        LISTING.changed("disk")
        print(f"read again, the records in the cache: {ask('/api/backups'):.2f} s")
        for address in ("/api/backups", "/api/backups?limit=500", "/api/backups?q=nosuch", "/api/status", "/metrics"):
            _tell(address, lambda address=address: ask(address), rounds)  # type: ignore[misc]


def _tell(name: str, ask: Callable[[], float], rounds: int) -> None:
    took = [1000 * ask() for _ in range(rounds)]
    print(f"{name}: {statistics.median(took):.0f} ms [{min(took):.0f} to {max(took):.0f}]", flush=True)


if __name__ == "__main__":
    main()
