"""SFTP: an SftpDestination against OpenSSH's own ``sftp`` client, on the same server with the same cipher."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path

from pydantic import SecretStr

from bench.measure import Cost, measure, shell
from bench.transports import FIXED, compare, make_file, save, segments, spooled
from blocks.destinations.sftp import SftpDestination
from tests.peers.sshd import SshServer, running_sshd
from vault.spool import Segment

_CIPHER = "aes128-gcm@openssh.com"  # what both would choose here, said so that both have it
_KEY = "bench/object"
_OBJECTS = 10_000
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


def run(place: Path, megabytes: int, count: int) -> None:
    """Up, down, and what else a run does with the server."""
    with running_sshd("shell", "LogLevel ERROR") as server:
        (place / "served").mkdir()
        _prepare(place, server, megabytes)
        ours = [sys.executable, "-m", "bench.transport_sftp", str(place)]
        sftp = f"sftp -q -F {place}/config -b -"
        served = place / "served"

        def theirs(line: str) -> Cost:
            return measure(shell(f"echo '{line}' | {sftp} server"))

        def we(*what: str) -> Cost:
            return measure([*ours, *what])

        print(f"\nup, {megabytes} MB")
        up = f"put -f {place}/file {served}/theirs"
        compare(
            {
                "sftp put": lambda: theirs(up),
                "sftp put again": lambda: theirs(up),
                "sftp put" + FIXED: lambda: theirs(f"put -f {place}/byte {served}/byte"),
                "ours: upload": lambda: we("up"),
                "ours: upload" + FIXED: lambda: we("up", "byte"),
            },
            "sftp put",
            count,
        )
        print(f"\ndown, {megabytes} MB")
        down = f"get {served}/theirs {place}/down"
        compare(
            {
                "sftp get": lambda: theirs(down),
                "sftp get again": lambda: theirs(down),
                "sftp get" + FIXED: lambda: theirs(f"get {served}/byte {place}/down"),
                "ours: open": lambda: we("down"),
                "ours: open" + FIXED: lambda: we("down", "byte"),
                "ours: server digest": lambda: we("digest"),
                "ours: server digest" + FIXED: lambda: we("digest", "byte"),
            },
            "sftp get",
            count,
        )
        _listing(place)


def _prepare(place: Path, server: SshServer, megabytes: int) -> None:
    key = server.key()
    (place / "key").write_text(key)
    (place / "key").chmod(0o600)
    (place / "known_hosts").write_text(f"[{server.host}]:{server.port} {server.host_key}\n")
    config = _CONFIG.format(host=server.host, port=server.port, user=server.user, place=place, cipher=_CIPHER)
    (place / "config").write_text(config)
    make_file(place / "file", megabytes)
    (place / "byte").write_bytes(b"x")
    for name in ("file", "byte"):
        with (place / name).open("rb") as file:
            (place / f"{name}.sha256").write_text(hashlib.file_digest(file, "sha256").hexdigest())
    segments(place / "file", place / "segments")
    destination = SftpDestination(
        host=server.host,
        port=server.port,
        user=server.user,
        root=f"{place}/served/ours",
        host_key=server.host_key,
        private_key=SecretStr(key),
    )
    destination.prepare()
    fields = destination.model_dump(mode="json", context={"include_secrets": True})
    (place / "block.json").write_text(json.dumps({**fields, "private_key": key, "password": "", "passphrase": ""}))


def _listing(place: Path) -> None:
    """In one process: the imports would be most of it."""
    destination = _load(place)
    directory = place / "served" / "ours" / "many"
    directory.mkdir()
    for number in range(_OBJECTS):
        (directory / f"{number:06}").touch()
    destination.free_space()  # connected
    began = time.monotonic()
    found = len(list(destination.list("many/")))
    print(f"\nlisting {found} objects: {time.monotonic() - began:.2f} s")


def _load(place: Path) -> SftpDestination:
    fields = json.loads((place / "block.json").read_text())
    return SftpDestination(**{name: fields[name] for name in SftpDestination.model_fields if name in fields})


def _up(place: Path, name: str) -> None:
    key = _KEY if name == "file" else f"{_KEY}.{name}"
    destination = _load(place)
    destination.remove(key)
    upload = destination.upload(key)
    for segment in spooled(place / "segments") if name == "file" else [Segment.of((place / name).read_bytes())]:
        upload.append(segment)
    upload.commit()


def _down(place: Path, name: str) -> None:
    key = _KEY if name == "file" else f"{_KEY}.{name}"
    with _load(place).open(key) as stream:
        save(stream, place / "down")


def _digest(place: Path, name: str) -> None:
    found = _load(place).digest(_KEY if name == "file" else f"{_KEY}.{name}")
    assert found is not None
    assert found.value == (place / f"{name}.sha256").read_text()


if __name__ == "__main__":
    _, where, what, *rest = sys.argv
    {"up": _up, "down": _down, "digest": _digest}[what](Path(where), rest[0] if rest else "file")
