"""How near to its bandwidth a destination is used: upload of random bytes, and reading them back.

    .venv/bin/python bench/bandwidth.py --seconds 10

Local and S3 (rclone, four parts at once, over plain HTTP) on this machine, at several limits.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from blocks.destinations import B2Destination, Destination, LocalDestination
from tests.peers.s3 import KEY_ID, SECRET, running_rclone
from vault.spool import MIB, Segment

_RATES = (1_000_000, 5_000_000, 20_000_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each upload, if it keeps to its limit")
    options = parser.parse_args()
    with _places() as places:
        print(f"{'destination':<12} {'limit MB/s':>10} {'sent':>8} {'read':>8}")
        for name, place in places.items():
            for rate in _RATES:
                place.bandwidth = rate
                sent, read = _measure(place, int(rate * options.seconds), f"shop/{rate}.bin")
                print(f"{name:<12} {rate / 1e6:10.1f} {sent / 1e6:8.2f} {read / 1e6:8.2f}", flush=True)


def _measure(place: Destination, size: int, key: str) -> tuple[float, float]:
    """Bytes a second, sent and read."""
    step = min(32 * MIB, max(5 * MIB, size // 8))
    data = os.urandom(step)
    cuts = range(0, size, step)
    segments = (Segment(n, begin, min(step, size - begin), data[: size - begin]) for n, begin in enumerate(cuts))
    upload = place.upload(key)
    began = time.monotonic()
    with ThreadPoolExecutor(place.parallel) as pool:
        deque(pool.map(upload.append, segments), maxlen=0)
    upload.commit()
    sent = time.monotonic() - began
    began = time.monotonic()
    with place.open(key) as stream:
        while stream.read(MIB):
            pass
    return size / sent, size / (time.monotonic() - began)


@contextmanager
def _places() -> Iterator[dict[str, Destination]]:
    with ExitStack() as stack:
        root = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_DIR", "/tmp")))  # noqa: S108
        stack.callback(shutil.rmtree, root)
        s3 = stack.enter_context(running_rclone())
        local = LocalDestination(root=root / "local")
        local.prepare()
        bucket = B2Destination(
            bucket=s3.new_bucket(), endpoint=s3.endpoint, key_id=KEY_ID, secret_key=SECRET, provider="other"
        )
        yield {"local": local, "s3": bucket}


if __name__ == "__main__":
    main()
