"""The proof of a dump of Redis: ``redis-check-rdb`` reads it as it passes, record by record, to its checksum."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from blocks.host import Host
from blocks.sources.base import Dump, Facts
from vault.errors import IncompleteDump, SourceError, Transient, printable
from vault.process import PIPE_BYTES, Command
from vault.streams import ChunkStream

TOOL = "redis-check-rdb"
MAGIC = b"REDIS"
RESTORE_WITH = f"cat > TARGET && {TOOL} TARGET"

# A pipe of its own: what a host gives a tool to read from may be a socket, which no path leads to.
_FROM_A_PIPE = f"cat | exec {TOOL} /dev/stdin"
_MARK_BYTES, _MARK = 40, re.compile(rb"[0-9a-f]{40}")
_END, _END_BYTES = b"\xff", 9  # the last record: this, and a checksum of 8 bytes
_HELD = _MARK_BYTES + _END_BYTES
_COUNTS = re.compile(r"^\[info\] (\d+) (keys read|expires)$", re.MULTILINE)


@contextmanager
def checked(host: Host, dump: Dump, idle_timeout: float, finish: Callable[[], None]) -> Iterator[None]:
    """Have ``dump.stream`` checked while it is read; a clean exit proves it, and completes the facts.

    *finish* judges the tool that the stream comes from: what is wrong with that is the first thing to say.
    """
    if host.which(TOOL) is None:
        raise SourceError(
            f"{TOOL} is not installed on {host.location}", "Install it (Debian, Ubuntu: apt-get install redis-tools)."
        )
    command = Command(("sh", "-c", _FROM_A_PIPE), idle_timeout=idle_timeout)
    with host.session(command) as check:
        passing = _Passing(dump.stream, check.stdin)
        dump.stream = io.BufferedReader(ChunkStream(passing.blocks()), PIPE_BYTES)
        yield
        if dump.stream.read(1):
            raise IncompleteDump("the dump of Redis was not read to its end")
        finish()
        check.stdin.close()
        said = check.stdout.read().decode(errors="replace")
        try:
            check.finish()
        except SourceError as error:
            if isinstance(error, Transient):
                raise
            raise IncompleteDump(
                f"the dump of Redis is not whole after {passing.size} bytes: {TOOL} said: {complaint(said)}"
            ) from error
        if not passing.ends:
            raise IncompleteDump(f"the dump of Redis does not end after its checksum, but after {passing.size} bytes")
    dump.facts.update(facts_of(said))


def facts_of(said: str) -> Facts:
    """The facts in what the check *said* of a sound dump."""
    found = {name: int(count) for count, name in _COUNTS.findall(said)}
    return {"keys": found["keys read"], "expiring_keys": found["expires"]}


def complaint(said: str) -> str:
    """What the check *said* is wrong, without what it said before."""
    lines = [line for line in said.splitlines() if line.strip()]
    wrong = [at for at, line in enumerate(lines) if "ERROR" in line or "rong" in line]
    return printable("; ".join(lines[wrong[0] if wrong else -3 :][:4])) or "nothing"


class _Passing:
    """A stream on its way to us; the check is given each block first. What it does not take, its end explains."""

    def __init__(self, stream: BinaryIO, check: BinaryIO) -> None:
        self._stream, self._check = cast("io.BufferedReader", stream), check
        self._takes, self.size, self.ends = True, 0, False

    def blocks(self) -> Iterator[bytes]:
        """All of it, without the mark by which the server told redis-cli of the end, and which that writes as well."""
        held = b""
        while data := self._stream.read1(PIPE_BYTES):
            held += data
            yield from self._pass(held[:-_HELD])
            held = held[-_HELD:]
        held = held[:-_MARK_BYTES] if _MARK.fullmatch(held[-_MARK_BYTES:]) else held
        self.ends = held[-_END_BYTES : 1 - _END_BYTES] == _END
        yield from self._pass(held)

    def _pass(self, block: bytes) -> Iterator[bytes]:
        if block and self._takes:
            try:
                self._check.write(block)
            except SourceError:
                self._takes = False
        if block:
            self.size += len(block)
            yield block
