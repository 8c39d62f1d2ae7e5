"""Files on a host, put there through its tools."""

from __future__ import annotations

from pathlib import PurePath
from typing import BinaryIO

from blocks.host import Host
from vault.errors import SourceError, SpoolError
from vault.process import Command

_BLOCK = 1024 * 1024
# A file that is cut short never gets its name: the tool is killed before its input ends, and the size is asked for.
_PUT = 'umask 077; set -C; cat >"$1"'


def put(host: Host, stream: BinaryIO, path: PurePath, idle_timeout: float | None = 600.0) -> int:
    """Write *stream* to a new file (0600) at *path* of *host*; its size, which the host was asked for."""
    size = 0
    try:
        with host.feed(Command(("sh", "-c", _PUT, "sh", str(path)), idle_timeout=idle_timeout)) as tool:
            while block := stream.read(_BLOCK):
                tool.stdin.write(block)
                size += len(block)
    except SourceError as error:
        if "No space left" not in error.message:
            raise
        raise SpoolError(
            f"no space is left in {path.parent} on {host.location}",
            "Free space there, or give the server another directory for temporary files.",
        ) from error
    there = int(host.run(Command(("stat", "-c", "%s", "--", str(path)))).stdout)
    if there != size:
        raise SourceError(f"{path} on {host.location} has {there} of the {size} bytes that were sent")
    return size
