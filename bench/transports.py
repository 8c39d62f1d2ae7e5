"""Each destination's protocol against the tool of its own that everybody has, in paired rounds.

    .venv/bin/python bench/transports.py drive --megabytes 1000 --rounds 7

"again" is the control: the same candidate as the base.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def main() -> None:
    from bench import transport_drive

    parts: dict[str, Callable[[Path, int, int], None]] = {"drive": transport_drive.run}
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
