"""Directories: many small files and a few large ones, against tar alone, in paired rounds.

.venv/bin/python bench/directory.py --files 200000 --rounds 3
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measure import Cost, measure, report, rounds, shell
from tests.peers.command import Machine
from tests.peers.prefect_server import prefect_server

TAR = "tar --create --file=- --format=posix --sort=name --numeric-owner --xattrs --acls --sparse"
UNTAR = "tar -xpf - --numeric-owner --xattrs '--xattrs-include=*' --acls"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--size", type=int, default=1024, help="bytes of a file, on average")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_DIR", "/tmp")))  # noqa: S108
    try:
        with prefect_server(place / "server") as url:
            _run(place, url, options.files, options.size, options.rounds)
    finally:
        shutil.rmtree(place)


def _run(place: Path, url: str, files: int, size: int, count: int) -> None:
    (place / "home").mkdir()
    machine = Machine(place / "home", url)
    fill(place / "data", files, size)
    fill(place / "small", 1, 1)
    disk = str(place / "backups")
    for name, source in (("bench", "data"), ("fixed", "small")):
        machine.run("app", "add", name, "--source", f"{name}-files={place / source}", "--to", disk, "--keep-last", "1")

    def ours(app: str) -> Cost:
        return measure([sys.executable, "-m", "cli", "run", app], machine.environment())

    line = f"{TAR} -C {place / 'data'} . | zstd -1 -T2 -q -f -o {place / 'raw.zst'}"
    costs = rounds(
        {
            "tar | zstd": lambda: measure(shell(line)),
            "tar | zstd again": lambda: measure(shell(line)),
            "ours: fixed cost": lambda: ours("fixed"),
            "ours: backup": lambda: ours("bench"),
        },
        count,
    )
    fixed = statistics.median(cost.wall for cost in costs["ours: fixed cost"])
    print(f"\nfixed cost: {fixed:.2f} s (taken off of ours)")
    report(costs, "tar | zstd", less={"ours: backup": fixed})
    _restores(place, machine, disk, count)


def _restores(place: Path, machine: Machine, disk: str, count: int) -> None:
    archive, target = place / "raw.tar", place / "target"
    measure(shell(f"zstd -q -d -f {place / 'raw.zst'} -o {archive}"))

    def empty() -> None:
        if target.exists():
            measure(["rm", "-rf", str(target)])
        measure(["sync"])

    def raw() -> Cost:
        return measure(shell(f"mkdir {target}; {UNTAR} -C {target} < {archive}"))

    def ours(app: str) -> Cost:
        command = ["restore", app, "latest", "--from", disk, "--to", str(target)]
        return measure([sys.executable, "-m", "cli", *command], machine.environment(PREFECT_API_URL=""))

    costs = rounds(
        {
            "tar -x": raw,
            "tar -x again": raw,
            "ours: fixed restore": lambda: ours("fixed"),
            "ours: restore": lambda: ours("bench"),
        },
        count,
        between=empty,
    )
    fixed = statistics.median(cost.wall for cost in costs["ours: fixed restore"])
    print(f"\nfixed cost: {fixed:.2f} s (taken off of ours)")
    report(costs, "tar -x", less={"ours: restore": fixed})


def fill(root: Path, files: int, size: int) -> None:
    """*files* files of some *size* bytes below *root*, which is made where it is not there."""
    source = random.Random(1)  # noqa: S311 - sample data
    root.mkdir(exist_ok=True)
    block = source.randbytes(1 << 20) + bytes(1 << 20)
    for number in range(files):
        folder = root / f"{number // 1000:04}"
        folder.mkdir(exist_ok=True)
        length = source.randrange(2 * size)
        with (folder / f"file {number}").open("wb") as file:
            while length > 0:
                begin = source.randrange(len(block) // 2)
                file.write(block[begin : begin + min(length, 1 << 20)])
                length -= 1 << 20


if __name__ == "__main__":
    main()
