"""What travels may be compressed on its way: whether that pays, and how it is undone."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import BinaryIO, Literal, cast

import zstandard
from isal import isal_zlib

from blocks.host import Host
from blocks.ssh.links import Links
from blocks.ssh.shell import Compressor
from vault.errors import IncompleteDump
from vault.process import PIPE_BYTES, Command
from vault.spool import Buffer

_MEASURED = 16 * 1024 * 1024  # bytes at most
_SECONDS = 1.0
_SKIPPED = 256 * 1024  # at the beginning, while the line gathers speed

PAYS_BELOW: dict[Compressor, float] = {"zstd": 80e6, "gzip": 20e6}
"""Bytes a second of the line, below which compressing for it pays.

On one core zstd -1 takes some 300 MB/s and gzip -1 some 80 of what dumps are made of, and they make it a third or a
quarter. A line that is nearly as fast as that gains little, and the server loses a core.
"""


def choose(where: Literal["auto", "source", "worker"], host: Host, links: Links) -> Compressor | None:
    """By what a stream from *host* is to be compressed; None: not at all. Found out once for all of *links*."""
    if where == "worker":
        return None
    key = f"compress at {where}"
    if key not in links.facts:
        there: Compressor | None = "zstd" if host.which("zstd") else "gzip" if host.which("gzip") else None
        if there is not None and where == "auto" and speed(host) > PAYS_BELOW[there]:
            there = None
        links.facts[key] = there
    found: Compressor | None = links.facts[key]
    return found


def speed(host: Host) -> float:
    """Bytes a second that *host* sends us: measured for a second at most."""
    command = Command(("head", "-c", str(_MEASURED), "/dev/zero"), idle_timeout=60.0)
    buffer, count, begin = bytearray(_SKIPPED), 0, time.monotonic()
    try:
        with host.session(command) as tool:
            skipped = 0
            while skipped < _SKIPPED and (size := tool.stdout.readinto1(buffer)):  # type: ignore[attr-defined]
                skipped += size
            start = time.monotonic()
            while (size := tool.stdout.readinto1(buffer)) and time.monotonic() - begin < _SECONDS:  # type: ignore[attr-defined]
                count += size
            seconds = time.monotonic() - start
            raise _Measured
    except _Measured:
        return count / max(seconds, 1e-6)


class _Measured(Exception):
    """Enough was seen: the rest need not come."""


def expanded(stream: BinaryIO, compressor: Compressor, name: str) -> BinaryIO:
    """The plain stream of what *compressor* made, in bounded memory.

    That it is whole is what the exit status of the compressor says, which the tool's ``finish`` checks.
    """
    some = _Some(stream)
    if compressor == "zstd":
        frame = zstandard.ZstdDecompressor().stream_reader(cast("BinaryIO", some), read_size=_PIECE, closefd=False)
        return cast("BinaryIO", io.BufferedReader(_Expanded(frame.readinto, name), PIPE_BYTES))
    return cast("BinaryIO", io.BufferedReader(_Expanded(_Gzip(some).readinto, name), PIPE_BYTES))


_PIECE = 128 * 1024


class _Some:
    """Reads what there is, and does not wait for more."""

    def __init__(self, stream: BinaryIO) -> None:
        self._read1: Callable[[int], bytes] = stream.read1  # type: ignore[attr-defined]

    def read(self, size: int) -> bytes:
        return self._read1(size)


class _Gzip:
    """One member."""

    def __init__(self, some: _Some) -> None:
        self._some, self._member = some, isal_zlib.decompressobj(31)

    def readinto(self, target: Buffer) -> int:
        while not self._member.eof:
            data = self._member.unconsumed_tail or self._some.read(_PIECE)
            plain = self._member.decompress(data, len(target))
            if plain or not data:
                memoryview(target)[: len(plain)] = plain
                return len(plain)
        return 0


class _Expanded(io.RawIOBase):
    def __init__(self, read: Callable[[Buffer], int], name: str) -> None:
        self._read, self._name = read, name

    def readable(self) -> bool:
        return True

    def readinto(self, target: Buffer) -> int:  # type: ignore[override]
        try:
            return self._read(target)
        except (zstandard.ZstdError, isal_zlib.error) as error:  # type: ignore[misc]
            raise IncompleteDump(f"the compressed output of {self._name} is broken: {error}") from error
