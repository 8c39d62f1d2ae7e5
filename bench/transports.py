"""Each destination's protocol against the tool of its own that everybody has, in paired rounds.

    .venv/bin/python bench/transports.py s3 --megabytes 1000 --rounds 7

"again" is the control: the same command as the base. The fixed cost (starting, logging in, one byte) of each candidate
is measured in the same rounds, and taken off.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measure import Cost, report, rounds
from vault.spool import MIB, Segment

SEGMENT = 32 * MIB
FIXED = " (fixed)"
"""Ends the name of a candidate that measures the fixed cost of another."""


def compare(candidates: Mapping[str, Callable[[], Cost]], base: str, count: int) -> None:
    """Measure, take the fixed costs off, and print the ratios to *base*."""
    costs = rounds(candidates, count)
    fixed = {
        name: statistics.median(cost.wall for cost in runs) for name, runs in costs.items() if name.endswith(FIXED)
    }
    for name, seconds in fixed.items():
        print(f"{name}: {seconds:.2f} s")
    report({name: less(runs, fixed, name) for name, runs in costs.items() if name not in fixed}, base)


def less(runs: Sequence[Cost], fixed: Mapping[str, float], name: str) -> list[Cost]:
    """*runs* without the fixed cost of the candidate *name*; "… again" has that of "…"."""
    seconds = fixed.get(name.removesuffix(" again") + FIXED, 0.0)
    return [replace(cost, wall=cost.wall - seconds) for cost in runs]


def make_file(path: Path, megabytes: int) -> None:
    """Bytes that no cipher and no wire can make smaller."""
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1_000_000))


def segments(file: Path, directory: Path) -> list[Segment]:
    """*file* as the spool would hold it: in files of 32 MiB."""
    directory.mkdir()
    made = []
    with file.open("rb") as source:
        while data := source.read(SEGMENT):
            path = directory / f"{len(made):06}.seg"
            path.write_bytes(data)
            made.append(Segment(len(made), len(made) * SEGMENT, len(data), path))
    return made


def spooled(directory: Path) -> list[Segment]:
    """The segments that ``segments`` has made there."""
    found, offset = [], 0
    for index, path in enumerate(sorted(directory.iterdir())):
        found.append(Segment(index, offset, path.stat().st_size, path))
        offset += path.stat().st_size
    return found


def save(stream: BinaryIO, path: Path) -> None:
    """Write all of *stream* to *path*, as it comes."""
    buffer = memoryview(bytearray(MIB))
    with path.open("wb", buffering=0) as file:
        while count := stream.readinto(buffer):  # type: ignore[attr-defined]
            file.write(buffer[:count])


def main() -> None:
    from bench import transport_drive, transport_s3, transport_sftp

    parts: dict[str, Callable[[Path, int, int], None]] = {
        "drive": transport_drive.run,
        "s3": transport_s3.run,
        "sftp": transport_sftp.run,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=parts)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    # In memory, where there is room: it is the wire that is measured, and not the disk.
    place = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_DIR", "/dev/shm")))  # noqa: S108
    try:
        parts[options.part](place, options.megabytes, options.rounds)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
