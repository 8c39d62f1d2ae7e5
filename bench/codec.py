"""The engine alone: MB/s, CPU seconds and peak memory of encode (into a spool) and decode.

    python bench/codec.py [--mb 1000] [--threads 2] [--rounds 3] [--kind rows|random|zeros]

Each case runs in a process of its own, the rounds interleaved; the figures are of plain bytes.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vault.age import generate_identity
from vault.codec import Codec, decode, encode
from vault.spool import MIB, Buffer, Reader, Spool

IDENTITY, RECIPIENT = generate_identity()
CASES = {
    "zstd": Codec("zstd"),
    "zstd+age": Codec("zstd", recipients=(RECIPIENT,)),
    "zstd -3+age": Codec("zstd", 3, (RECIPIENT,)),
    "gzip": Codec("gzip"),
    "none": Codec("none"),
    "none+age": Codec("none", recipients=(RECIPIENT,)),
}


class Source(io.RawIOBase):
    """`size` bytes, from 16 MiB that repeat; 64 KiB at a time, as from a pipe."""

    def __init__(self, data: bytes, size: int) -> None:
        self.data, self.left = memoryview(data), size

    def readable(self) -> bool:
        return True

    def readinto(self, target: Buffer) -> int:  # type: ignore[override]
        start = self.left % len(self.data)
        count = min(len(target), 65536, self.left, len(self.data) - start)
        memoryview(target)[:count] = self.data[start : start + count]
        self.left -= count
        return count


def sample(kind: str) -> bytes:
    """16 MiB, further than zstd -1 looks back: rows as `pg_dump` writes them, noise, or zeros."""
    if kind == "random":
        return os.urandom(16 * MIB)
    if kind == "zeros":
        return bytes(16 * MIB)
    rng, rows = random.Random(1), bytearray()  # noqa: S311
    while len(rows) < 16 * MIB:
        rows += (
            f"{len(rows)}\t{rng.random():.9f}\tcustomer{rng.randrange(10**6)}@example.org\t"
            f"2026-0{rng.randrange(1, 9)}-1{rng.randrange(9)} 12:00:00\t{rng.getrandbits(96):x}\tt\n"
        ).encode()
    return bytes(rows)


def drain(reader: Reader) -> None:
    """Read back as an upload does."""
    for segment in reader:
        with segment.open() as file:
            while file.read(MIB):
                pass
        reader.done(segment)


def encode_case(data: bytes, size: int, codec: Codec, threads: int) -> float:
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    spool = Spool(directory / "spool", limit=128 * MIB, stall_timeout=60)
    upload = Thread(target=drain, args=(spool.reader("upload"),))
    upload.start()
    started = time.perf_counter()
    encoded = encode(Source(data, size), codec, spool.write, threads=threads)  # type: ignore[arg-type]
    spool.close()
    upload.join()
    elapsed = time.perf_counter() - started
    assert encoded.plain_size == size
    assert encoded.size == spool.size
    assert spool.peak <= spool.limit
    shutil.rmtree(directory)
    return elapsed


def decode_case(data: bytes, size: int, codec: Codec, threads: int) -> float:
    with tempfile.TemporaryFile() as file:
        encode(Source(data, size), codec, file.write, threads=threads)  # type: ignore[arg-type]
        file.seek(0)
        started, buffer, total = time.perf_counter(), bytearray(MIB), 0
        with decode(file, codec, [IDENTITY]) as plain:
            while count := plain.readinto(buffer):  # type: ignore[attr-defined]
                total += count
        assert total == size
        return time.perf_counter() - started


def measure(case: Callable[..., float], kind: str, mb: int, codec: Codec, threads: int) -> dict[str, float]:
    data = sample(kind)
    before, base = os.times(), _peak()
    elapsed = case(data, mb * MIB, codec, threads)
    after = os.times()
    cpu = after.user + after.system - before.user - before.system
    return {"mbps": mb / elapsed, "cpu": cpu, "peak": _peak(), "base": base}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mb", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", default="rows")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        case = {"encode": encode_case, "decode": decode_case}[args.one[0]]
        print(json.dumps(measure(case, args.kind, args.mb, CASES[args.one[1]], args.threads)))
        return
    results: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(args.rounds):
        for name in (("encode", c) for c in CASES), (("decode", c) for c in CASES):
            for pair in name:
                argv = [sys.executable, __file__, "--one", *pair, "--kind", args.kind]
                argv += ["--mb", str(args.mb), "--threads", str(args.threads)]
                out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
                results.setdefault(pair, []).append(json.loads(out))
    print(f"{args.mb} MB of {args.kind}, {args.threads} threads, median of {args.rounds} [range]")
    for (what, codec), rounds in results.items():
        speeds = sorted(r["mbps"] for r in rounds)
        note = " (CPU includes the encode)" if what == "decode" else ""
        print(
            f"{what} {codec:12} {speeds[len(speeds) // 2]:6.0f} MB/s [{speeds[0]:.0f} to {speeds[-1]:.0f}]"
            f"  {min(r['cpu'] for r in rounds):5.1f} CPU-s  peak {max(r['peak'] for r in rounds):4.0f} MB"
            f" (of which {rounds[0]['base']:.0f} before){note}"
        )


if __name__ == "__main__":
    main()
