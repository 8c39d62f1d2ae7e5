"""S3: a B2Destination against ``aws s3 cp``, on the same server: ``rclone serve s3``, with TLS as real stores have it.

It needs AWS's command line, which may not share our environment, since it pins boto's version:
``python3 -m venv /tmp/awscli && /tmp/awscli/bin/pip install awscli``, then ``BENCH_AWS=/tmp/awscli/bin/aws``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.measure import Cost, measure
from bench.transports import FIXED, compare, make_file, save, segments, spooled
from blocks.destinations.b2 import B2Destination
from tests.destinations.test_b2_transport import self_signed
from tests.peers.s3 import KEY_ID, SECRET, S3Server, running_rclone
from vault.parallel import ordered
from vault.spool import Segment

_KEY = "bench/object"
_OBJECTS = 20_000  # of 10 000 backups: an artifact and a record each


def run(place: Path, megabytes: int, count: int) -> None:
    """Up and down with TLS and without, and what a listing costs."""
    make_file(place / "file", megabytes)
    (place / "byte").write_bytes(b"x")
    segments(place / "file", place / "segments")
    certificate, key = self_signed(place)
    for name, options in {"TLS": ("--cert", str(certificate), "--key", str(key)), "plain HTTP": ()}.items():
        with running_rclone(*options) as server:
            print(f"\n== over {name}")
            _measure(place, server, str(certificate) if options else "", megabytes, count)


def _measure(place: Path, server: S3Server, ca_file: str, megabytes: int, count: int) -> None:
    bucket = server.new_bucket()
    fields = {"bucket": bucket, "endpoint": server.endpoint, "key_id": KEY_ID, "secret_key": SECRET}
    (place / "block.json").write_text(json.dumps({**fields, "provider": "other", "ca_file": ca_file}))
    aws, env = _aws(server, ca_file)

    def theirs(source: object, target: object) -> Cost:
        return measure([*aws, str(source), str(target)], env)

    def we(*what: str) -> Cost:
        return measure([sys.executable, "-m", "bench.transport_s3", str(place), *what])

    there = f"s3://{bucket}/theirs"
    print(f"\nup, {megabytes} MB")
    compare(
        {
            "aws s3 cp": lambda: theirs(place / "file", there),
            "aws s3 cp again": lambda: theirs(place / "file", there),
            "aws s3 cp" + FIXED: lambda: theirs(place / "byte", f"{there}.byte"),
            "ours: upload": lambda: we("up"),
            "ours: upload" + FIXED: lambda: we("up", "byte"),
        },
        "aws s3 cp",
        count,
    )
    print(f"\ndown, {megabytes} MB")
    compare(
        {
            "aws s3 cp": lambda: theirs(there, place / "down"),
            "aws s3 cp again": lambda: theirs(there, place / "down"),
            "aws s3 cp" + FIXED: lambda: theirs(f"{there}.byte", place / "down"),
            "ours: open": lambda: we("down"),
            "ours: open" + FIXED: lambda: we("down", "byte"),
        },
        "aws s3 cp",
        count,
    )
    _listing(_load(place), server)


def _aws(server: S3Server, ca_file: str) -> tuple[list[str], Mapping[str, str]]:
    program = os.environ.get("BENCH_AWS") or shutil.which("aws")
    if program is None:
        raise SystemExit(f"aws is missing.{__doc__}")
    env = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        # Over TLS its own checksum comes behind the body, which rclone does not take.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    }
    options = ["--endpoint-url", server.endpoint, *(("--ca-bundle", ca_file) if ca_file else ())]
    return [program, *options, "s3", "cp", "--quiet"], env


def _listing(destination: B2Destination, server: S3Server) -> None:
    """In one process: the imports would be most of it. In a new bucket: of the other one rclone has a cache."""
    assert server.root is not None
    destination.bucket = server.new_bucket()
    directory = server.root / destination.bucket / "many"
    directory.mkdir()
    for number in range(_OBJECTS):
        (directory / f"{number:06}").touch()
    calls: list[Any] = []
    destination._place.client.meta.events.register("before-call.s3", lambda **call: calls.append(call))
    began = time.monotonic()
    found = len(list(destination.list("many/")))
    print(f"\nlisting {found} objects: {time.monotonic() - began:.2f} s, {len(calls)} calls")


def _load(place: Path) -> B2Destination:
    return B2Destination(**json.loads((place / "block.json").read_text()))


def _up(place: Path, name: str) -> None:
    """As ``tasks.upload`` does it."""
    destination = _load(place)
    key = f"{_KEY}.{name}"
    destination.remove(key)
    upload = destination.upload(key)
    pieces = spooled(place / "segments") if name == "file" else [Segment.of((place / name).read_bytes())]
    with ThreadPoolExecutor(destination.parallel) as pool:
        for _ in ordered(pool, upload.append, pieces, destination.parallel - 1):
            pass
    upload.commit()


def _down(place: Path, name: str) -> None:
    with _load(place).open(f"{_KEY}.{name}") as stream:
        save(stream, place / "down")


if __name__ == "__main__":
    _, where, what, *rest = sys.argv
    {"up": _up, "down": _down}[what](Path(where), rest[0] if rest else "file")
