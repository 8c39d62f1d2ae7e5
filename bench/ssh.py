"""A server over SSH: how fast a stream comes, beside ``ssh host cat``; and a backup over SSH beside the same without.

    .venv/bin/python bench/ssh.py --megabytes 500 --rounds 5

Loopback, the same cipher on both sides. "again" is the control. The fixed cost of each candidate (starting, logging in,
a byte; for a backup all its steps) is measured in the same rounds, and taken off.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pydantic import SecretStr

from bench.measure import Cost, measure, report, rounds, shell
from bench.transports import FIXED, compare, make_file
from blocks.ssh_server import SshServer
from tests.peers.command import Machine
from tests.peers.prefect_server import prefect_server
from tests.peers.ssh_host import ssh_host
from tests.peers.sshd import SshServer as Sshd
from vault.process import Command

_CIPHER = "aes128-gcm@openssh.com"  # what ours would choose here, said so that both have it
_CONFIG = """
Host server
  HostName {host}
  Port {port}
  User {user}
  IdentityFile {place}/key
  IdentitiesOnly yes
  UserKnownHostsFile {place}/known_hosts
  Ciphers {cipher}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("streams", "backups"))
    parser.add_argument("--read", metavar="PLACE", help=argparse.SUPPRESS)  # the child that is measured
    parser.add_argument("--file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        _read(Path(options.read), options.file)
        return
    place = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_DIR", "/dev/shm")))  # noqa: S108
    try:
        with ssh_host("LogLevel ERROR") as server:
            _prepare(place, server, options.megabytes)
            if options.only != "backups":
                _streams(place, options.megabytes, options.rounds)
            if options.only != "streams":
                _backups(place, server, options.megabytes, options.rounds)
    finally:
        shutil.rmtree(place)


def _prepare(place: Path, server: Sshd, megabytes: int) -> None:
    key = server.key()
    (place / "key").write_text(key)
    (place / "key").chmod(0o600)
    (place / "known_hosts").write_text(f"[{server.host}]:{server.port} {server.host_key}\n")
    (place / "config").write_text(
        _CONFIG.format(host=server.host, port=server.port, user=server.user, place=place, cipher=_CIPHER)
    )
    login = {"host": server.host, "port": server.port, "user": server.user, "host_key": server.host_key}
    (place / "login.json").write_text(json.dumps({**login, "private_key": key}))
    make_file(place / "file", megabytes)
    make_file(place / "byte", 0)


def _read(place: Path, file: str) -> None:
    """What is measured of ours: one tool's output, to its end."""
    login = json.loads((place / "login.json").read_text())
    server = SshServer(**{**login, "private_key": SecretStr(login["private_key"])}, compress_at="worker")
    buffer, count = bytearray(1024 * 1024), 0
    with server.stream(Command(("cat", str(place / file)))) as tool:
        while size := tool.stdout.readinto(buffer):  # type: ignore[attr-defined]
            count += size
    if count != (place / file).stat().st_size:
        raise AssertionError(f"{count} bytes came")


def _streams(place: Path, megabytes: int, count: int) -> None:
    print(f"\na stream of {megabytes} MB")

    def theirs(file: str) -> Cost:
        return measure(shell(f"ssh -q -F {place}/config server cat {place}/{file} | cat >/dev/null"))

    def ours(file: str) -> Cost:
        return measure([sys.executable, str(Path(__file__)), "--read", str(place), "--file", file])

    compare(
        {
            "ssh cat": lambda: theirs("file"),
            "ssh cat again": lambda: theirs("file"),
            "ssh cat" + FIXED: lambda: theirs("byte"),
            "ours": lambda: ours("file"),
            "ours" + FIXED: lambda: ours("byte"),
        },
        "ssh cat",
        count,
    )


def _backups(place: Path, server: Sshd, megabytes: int, count: int) -> None:
    print(f"\na backup of {megabytes} MB that compress to about half")
    for name, size in (("large", megabytes), ("small", 0)):
        (place / name).mkdir()
        for number in range(max(1, size // 25)):
            (place / name / f"{number}.txt").write_text(os.urandom(max(1, min(size, 25) * 500_000)).hex())
    (place / "home").mkdir()
    with prefect_server(place / "server") as url:
        machine = Machine(place / "home", url)
        way = ("--host", server.host, "--port", str(server.port), "--user", server.user, "--host-key", server.host_key)
        machine.run("server", "add", "ssh", "far", *way, "--key", str(place / "key"))
        machine.run("destination", "add", "local", "disk", str(place / "backups"))
        for where, more in (("here", ()), ("over", ("--server", "far"))):
            for what in ("large", "small"):
                name = f"{where}-{what}"
                machine.run("source", "add", "directory", f"{name}-files", str(place / what), *more)
                machine.run("app", "add", name, "--source", f"{name}-files", "--to", "disk", "--keep-last", "1")

        def run(app: str) -> Cost:
            return measure([sys.executable, "-m", "cli", "run", app], machine.environment())

        costs = rounds({name: lambda name=name: run(name) for name in _APPS}, count)  # type: ignore[misc]
        fixed = {large: statistics.median(cost.wall for cost in costs[small]) for large, small in _FIXED.items()}
        print("fixed: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in fixed.items()))
        report(costs, "here-large")
        print("\nwithout the fixed costs")
        shown = {name: costs[name] for name in _FIXED}
        base = [cost.wall - fixed["here-large"] for cost in costs["here-large"]]
        for name, runs in shown.items():
            ratios = [(cost.wall - fixed[name]) / wall for cost, wall in zip(runs, base, strict=True)]
            print(f"{name:<28} {statistics.median(ratios):.2f} [{min(ratios):.2f} to {max(ratios):.2f}]")


_FIXED = {"here-large": "here-small", "over-large": "over-small"}
_APPS = (*_FIXED, *_FIXED.values())


if __name__ == "__main__":
    main()
