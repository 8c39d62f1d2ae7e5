"""One run to three destinations against a run to each of them alone: the dump is read once, the copies overlap.

    .venv/bin/python bench/fanout.py --megabytes 1000 --rounds 5

Local, SFTP (OpenSSH's sshd) and S3 (rclone) on this machine: their servers share its cores with the run. With
``--wire 40`` the last two are reached at 40 MB/s each, as over a network: then it is not the cores that are shared out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measure import Cost, measure, report, rounds
from bench.wire import wire
from tests.peers.command import Machine
from tests.peers.prefect_server import prefect_server
from tests.peers.s3 import KEY_ID, SECRET, S3Server, running_rclone
from tests.peers.sshd import SshServer, running_sshd

_NAMES = ("local", "sftp", "s3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--wire", type=float, default=0, help="MB/s to each server; 0 does not limit it")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_DIR", "/tmp")))  # noqa: S108
    try:
        with (
            prefect_server(place / "server") as url,
            running_sshd("shell") as sshd,
            running_rclone() as s3,
            wire(sshd.port, options.wire) as sshd_port,
            wire(urlsplit(s3.endpoint).port or 0, options.wire) as s3_port,
        ):
            machine = Machine(place / "home", url)
            _save(place, machine, replace(sshd, port=sshd_port), s3, f"http://127.0.0.1:{s3_port}")
            for name, megabytes in (("large", options.megabytes), ("small", 0)):
                _fill(place / name, megabytes)
                source = f"{name}-files={place / name}"
                machine.run("app", "add", name, "--source", source, "--to", _NAMES[0], "--keep-last", "1")
            _compare(machine, options.rounds)
    finally:
        shutil.rmtree(place)


def _compare(machine: Machine, count: int) -> None:
    def run(app: str, *names: str) -> Cost:
        to = [word for name in names for word in ("--to", name)]
        return measure([sys.executable, "-m", "cli", "run", app, *to], machine.environment())

    alone = {f"to {name}": (name,) for name in _NAMES}
    every = {**alone, "to all three": _NAMES}
    costs = rounds(
        {
            **{name: lambda to=to: run("large", *to) for name, to in every.items()},
            **{f"{name} (fixed)": lambda to=to: run("small", *to) for name, to in every.items()},
        },
        count,
    )
    fixed = {name: statistics.median(cost.wall for cost in costs[f"{name} (fixed)"]) for name in every}
    print("".join(f"\nfixed cost, {name}: {seconds:.2f} s" for name, seconds in fixed.items()))
    slowest = max(alone, key=lambda name: statistics.median(cost.wall for cost in costs[name]) - fixed[name])
    report({name: costs[name] for name in every}, slowest)
    ratios = [
        (three.wall - fixed["to all three"]) / (one.wall - fixed[slowest])
        for three, one in zip(costs["to all three"], costs[slowest], strict=True)
    ]
    spread = f"{statistics.median(ratios):.2f} [{min(ratios):.2f} to {max(ratios):.2f}]"
    print(f"\nall three, x {slowest}, the fixed costs off: {spread}")


def _save(place: Path, machine: Machine, sshd: SshServer, s3: S3Server, endpoint: str) -> None:
    machine.home.mkdir()
    (place / "key").write_text(sshd.key())
    (place / "key").chmod(0o600)
    (place / "secret").write_text(SECRET)
    (place / "served").mkdir()
    machine.run("destination", "add", "local", "local", str(place / "backups"))
    machine.run(
        *("destination", "add", "sftp", "sftp", "--host", sshd.host, "--port", str(sshd.port), "--user", sshd.user),
        *("--key", str(place / "key"), "--host-key", sshd.host_key, "--root", str(place / "served/backups")),
    )
    machine.run(
        *("destination", "add", "b2", "s3", "--bucket", s3.new_bucket(), "--endpoint", endpoint),
        *("--key-id", KEY_ID, "--secret-file", str(place / "secret"), "--provider", "minio"),
    )


def _fill(root: Path, megabytes: int) -> None:
    root.mkdir()
    (root / "file").write_text("content")
    for number in range(megabytes // 10):
        half = os.urandom(5_000_000)
        (root / f"file {number}").write_bytes(half + bytes(5_000_000))


if __name__ == "__main__":
    main()
