"""Docker volumes: many small files against tar alone, in paired rounds; and for how long containers are down.

.venv/bin/python bench/volume.py --files 200000 --rounds 3
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.directory import TAR, UNTAR, fill
from bench.measure import Cost, measure, report, rounds, shell
from tests.peers.command import Machine
from tests.peers.docker import GNU, DockerEngine, running_engine
from tests.peers.prefect_server import prefect_server

USER = "user"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--size", type=int, default=1024, help="bytes of a file, on average")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_DIR", "/tmp")))  # noqa: S108
    try:
        with prefect_server(place / "server") as url, running_engine() as engine:
            (place / "home").mkdir()
            machine = Machine(place / "home", url, {"DOCKER_HOST": engine.host})
            for name, files in (("bench", options.files), ("fixed", 1)):
                fill(engine.volume(name), files, options.size)
                engine.start(f"{USER}-{name}", "-v", f"{name}:/data")
            _backups(place, machine, engine, options.rounds)
            _restores(place, machine, engine, options.rounds)
    finally:
        shutil.rmtree(place)


def _backups(place: Path, machine: Machine, engine: DockerEngine, count: int) -> None:
    """Two apps, one of which has its container stopped; each also of one file."""
    disk = str(place / "backups")
    for how, options in (("plain", []), ("stopped", ["--stop-containers"])):
        for volume in ("bench", "fixed"):
            name = f"{volume}-{how}"
            machine.run("source", "add", "docker-volume", name, "--volume", volume, "--helper-image", GNU, *options)
            machine.run("app", "add", name, "--source", name, "--to", disk, "--keep-last", "1")
    source = engine.content_of("bench")
    down: list[float] = []

    def ours(app: str) -> Cost:
        return measure([sys.executable, "-m", "cli", "run", app], machine.environment())

    def with_stop() -> Cost:
        cost = ours("bench-stopped")
        state = engine.state(f"{USER}-bench")
        down.append((_time(state["StartedAt"]) - _time(state["FinishedAt"])).total_seconds())
        return cost

    line = f"{TAR} -C {source} . | zstd -1 -T2 -q -f -o {place / 'raw.zst'}"
    candidates: dict[str, Callable[[], Cost]] = {
        "tar | zstd": lambda: measure(shell(line)),
        "tar | zstd again": lambda: measure(shell(line)),
        "tar | cat": lambda: measure(shell(f"{TAR} -C {source} . | cat >/dev/null")),
        "ours: fixed cost": lambda: ours("fixed-plain"),
        "ours: backup": lambda: ours("bench-plain"),
        "ours: fixed, stopped": lambda: ours("fixed-stopped"),
        "ours: backup, stopped": with_stop,
    }
    costs = rounds(candidates, count)
    fixed = {name: statistics.median(cost.wall for cost in costs[name]) for name in costs}
    off = {"ours: backup": fixed["ours: fixed cost"], "ours: backup, stopped": fixed["ours: fixed, stopped"]}
    print(f"\nfixed cost, taken off of ours: {off}")
    report(costs, "tar | zstd", less=off)
    for name in ("tar | cat", "tar | zstd"):
        ratios = [one / cost.wall for one, cost in zip(down, costs[name], strict=True)]
        print(f"the container was down for {statistics.median(down):.2f} s: {_spread(ratios)} x {name}")


def _restores(place: Path, machine: Machine, engine: DockerEngine, count: int) -> None:
    archive, target = place / "raw.tar", engine.content_of("bench").parents[1] / "raw"
    measure(shell(f"zstd -q -d -f {place / 'raw.zst'} -o {archive}"))

    def empty() -> None:
        measure(["rm", "-rf", str(target)])
        engine("volume", "rm", "--force", "restored")
        measure(["sync"])

    def raw() -> Cost:
        return measure(shell(f"mkdir {target}; {UNTAR} -C {target} < {archive}"))

    def ours(app: str) -> Cost:
        command = ["restore", app, "latest", "--from", str(place / "backups"), "--to", "docker-volume:restored"]
        return measure([sys.executable, "-m", "cli", *command], machine.environment(PREFECT_API_URL=""))

    costs = rounds(
        {
            "tar -x": raw,
            "tar -x again": raw,
            "ours: fixed restore": lambda: ours("fixed-plain"),
            "ours: restore": lambda: ours("bench-plain"),
        },
        count,
        between=empty,
    )
    fixed = statistics.median(cost.wall for cost in costs["ours: fixed restore"])
    print(f"\nfixed cost, taken off of ours: {fixed:.2f} s")
    report(costs, "tar -x", less={"ours: restore": fixed})
    empty()


def _time(text: str) -> datetime:
    """A time of Docker's, in whole microseconds."""
    return datetime.fromisoformat(text.rstrip("Z")[:26].ljust(26, "0") + "+00:00")


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f} to {max(ratios):.2f}]"


if __name__ == "__main__":
    main()
