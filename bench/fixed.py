"""What a small backup costs from the command line: with a server, without one, and the very first time.

.venv/bin/python bench/fixed.py
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measure import Cost, measure, report, rounds
from tests.peers.command import Machine
from tests.peers.prefect_server import prefect_server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, prefect_server(Path(directory) / "server") as url:
        place = Path(directory)
        (place / "data").mkdir()
        (place / "data/file").write_text("content")
        served, alone = Machine(place / "served", url), Machine(place / "alone", None)
        first: dict[str, Cost] = {}
        for name, machine in (("served", served), ("alone", alone)):
            machine.home.mkdir()
            save = ["run", "--app", name, "--source", str(place / "data"), "--to", str(place / f"disk-{name}")]
            first[name] = measure([sys.executable, "-m", "cli", *save], machine.environment())
        print(f"the very first run, without a server: {first['alone'].wall:.2f} s")

        def run(machine: Machine, *arguments: str) -> Cost:
            return measure([sys.executable, "-m", "cli", *arguments], machine.environment())

        costs = rounds(
            {
                "backups --help": lambda: run(alone, "--help"),
                "run, with a server": lambda: run(served, "run", "served"),
                "run, without a server": lambda: run(alone, "run", "alone"),
                "list --from PATH": lambda: run(alone, "list", "--from", str(place / "disk-alone")),
            },
            options.rounds,
        )
        report(costs, "backups --help")


if __name__ == "__main__":
    main()
