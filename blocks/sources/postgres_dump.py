"""Dump a PostgreSQL database as a stream, and prove that the stream is whole.

The snapshot is exported by a session of our own, so that what is counted is what is dumped. When tables are
changed between that snapshot and pg_dump's locks (S21), pg_dump fails; only ``TRUNCATE`` and rewrites by ``ALTER
TABLE``, which PostgreSQL does not version, can be seen by both at once: the table is then empty in dump and facts.
"""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from blocks.sources.base import Dump
from blocks.sources.postgres_client import Access, Installation, Session
from blocks.sources.postgres_facts import CONTENT, Table, count, countable, describe, tables_of
from vault.errors import IncompleteDump, SourceError
from vault.process import PIPE_BYTES, Command

FIRST_LOOK = 1024 * 1024
TAIL_BYTES = 192 * 1024  # more than pg_dump's largest block of a large object
SHORT_TAIL_BYTES = 4096
GRACE = 2.0  # seconds that counting may take longer than the dump

_HEADER = re.compile(rb"PGDMP...(?P<integer>.).(?P<format>.)", re.DOTALL)
_CUSTOM_FORMAT = 1
_END_OF_ROWS = b"\\.\n\n\n"
_LARGE_OBJECTS = 3  # what a section of the archive begins with
_PLAIN_HEAD = b"--\n-- PostgreSQL database dump\n--\n"
_PLAIN_TAIL = b"\n-- PostgreSQL database dump complete\n"
_LISTED = re.compile(r"\d+; \d+ (?P<oid>\d+) (?P<what>TABLE DATA|TABLE|BLOBS) ")

_BEGIN = """
SET statement_timeout = 0; SET lock_timeout = '2s'; SET row_security = off;
SET idle_in_transaction_session_timeout = 0;
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SELECT pg_export_snapshot();
"""
# A table that cannot be counted now must not end the session that holds the snapshot.
_COUNTING = "\\set ON_ERROR_STOP off\n\\set ON_ERROR_ROLLBACK on"


@contextmanager
def custom_dump(access: Access, database: str, version: str) -> Iterator[Dump]:
    """A dump in pg_dump's custom format, uncompressed, of a server of *version*. A clean exit proves it."""
    contents = _Contents(access, access.for_dump(version))
    arguments = ("--format=custom", "--compress=0")
    with _dumping(access, database, version, arguments, contents.look) as (dump, watch, snapshot):
        dump.extension = "pgdump"
        dump.restore_with = "pg_restore --exit-on-error --dbname=TARGET"
        yield dump
    contents.prove(watch, snapshot.tables)


@contextmanager
def plain_dump(access: Access, database: str, version: str) -> Iterator[Dump]:
    """A dump as an SQL script, of a server of *version*. A clean exit proves it."""
    arguments = ("--format=plain",)
    with _dumping(access, database, version, arguments, lambda _: True) as (dump, watch, _):
        yield dump
    if not watch.size:
        raise IncompleteDump("pg_dump ended well, yet it wrote nothing")
    if not watch.head.startswith(_PLAIN_HEAD) or _PLAIN_TAIL not in watch.tail:
        raise IncompleteDump("pg_dump ended well, yet its script is cut: the last line is missing")


@contextmanager
def _dumping(
    access: Access,
    database: str,
    version: str,
    arguments: tuple[str, ...],
    look: Callable[[bytes], bool],
) -> Iterator[tuple[Dump, Watch, Snapshot]]:
    client = access.for_dump(version)
    with _snapshot(access, database) as snapshot:
        argument = f"--snapshot={snapshot.name}"
        command = access.command(client.tool("pg_dump"), argument, *arguments, database=database)
        with access.endpoint.server.stream(command) as tool:
            large = snapshot.content["large_objects"]
            watch = Watch(tool.stdout, look, TAIL_BYTES if large else SHORT_TAIL_BYTES)
            dump = Dump(
                io.BufferedReader(watch, PIPE_BYTES),
                "sql",
                f"pg_dump {client.version}, PostgreSQL {version}",
                "psql --no-psqlrc --set=ON_ERROR_STOP=1 --single-transaction --dbname=TARGET",
            )
            snapshot.start_counting()
            yield dump, watch, snapshot
        dump.warnings.extend(tool.warnings)
    dump.warnings.extend(snapshot.session.tool.warnings)
    dump.facts.update(describe(snapshot.content, snapshot.rows))
    if not snapshot.tables:
        dump.warnings.append("the database has no tables")


@dataclass
class Snapshot:
    """A session that holds an exported snapshot, and counts rows in it while the dump runs."""

    session: Session
    name: str
    content: dict[str, Any]
    rows: dict[str, int] = field(default_factory=dict)
    error: SourceError | None = None

    def __post_init__(self) -> None:
        self.tables = tables_of(self.content)
        self._thread = threading.Thread(target=self._count, name="count rows", daemon=True)

    def start_counting(self) -> None:
        """Count, smallest table first, in a thread."""
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether the counting has ended within *seconds*; raises what ended the session."""
        self._thread.join(seconds)
        if self.error is not None:
            raise self.error
        return not self._thread.is_alive()

    def end(self) -> None:
        """End psql, and with it the counting."""
        self.session.tool.kill()
        if self._thread.ident is not None:
            self._thread.join()

    def _count(self) -> None:
        try:
            self.session.ask(_COUNTING)
            for table in countable(self.tables):
                rows = count(self.session.ask, table)
                if rows is not None:
                    self.rows[table.name] = rows
        except SourceError as error:
            self.error = error


class _Outlived(Exception):
    """The dump has ended and the counting has not: the rest are estimates."""


@contextmanager
def _snapshot(access: Access, database: str) -> Iterator[Snapshot]:
    try:
        with access.session(database) as session:
            name = session.ask(_BEGIN)
            snapshot = Snapshot(session, name, json.loads(session.ask(f"{CONTENT};")))
            try:
                yield snapshot
                if not snapshot.wait(GRACE):
                    raise _Outlived
            except BaseException:
                snapshot.end()
                raise
    except _Outlived:
        pass


class Watch(io.RawIOBase):
    """Passes a stream on and keeps its end, and its beginning until *look* has seen enough of it.

    ``look`` is given the beginning, ever more of it, until it returns True or the stream has ended.
    """

    def __init__(self, source: BinaryIO, look: Callable[[bytes], bool], tail_bytes: int) -> None:
        self._source, self._look, self._wanted, self._tail_bytes = source, look, FIRST_LOOK, tail_bytes
        self._seen = False
        self.head, self.tail, self.size = bytearray(), b"", 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count: int = self._source.readinto1(buffer)  # type: ignore[attr-defined]
        if count:
            self.size += count
            kept = self._tail_bytes
            self.tail = (self.tail + bytes(buffer[max(0, count - kept) : count]))[-kept:]
        if not self._seen:
            self.head += buffer[:count]
            if not count or len(self.head) >= self._wanted:
                self._seen = self._look(bytes(self.head)) or not count
                self._wanted *= 2
        return count


class _Contents:
    """The proof of an archive: its table of contents can be read and is whole, and its end is there."""

    def __init__(self, access: Access, client: Installation) -> None:
        self._server = access.endpoint.server
        self._command = Command((client.tool("pg_restore"), "--list"), idle_timeout=None)
        self._listed: list[tuple[str, int]] | None = None
        self._error: SourceError | None = None

    def look(self, head: bytes) -> bool:
        """Have pg_restore list the contents; False when it needs more."""
        try:
            said = self._server.run(self._command, head).stdout.decode(errors="replace")
        except SourceError as error:
            self._error = error
            return False
        self._listed = [(m["what"], int(m["oid"])) for m in map(_LISTED.match, said.splitlines()) if m]
        return True

    def prove(self, watch: Watch, tables: list[Table]) -> None:
        """Raise ``IncompleteDump`` unless everything that must be there is there."""
        if not watch.size:
            raise IncompleteDump("pg_dump ended well, yet it wrote nothing")
        header = _HEADER.match(bytes(watch.head))
        if header is None or ord(header["format"]) != _CUSTOM_FORMAT:
            raise IncompleteDump("pg_dump ended well, yet what it wrote is no archive of PostgreSQL")
        if self._listed is None:
            raise IncompleteDump(f"pg_dump ended well, yet its table of contents cannot be read: {self._error}")
        self._prove_tables(tables)
        there = {what for what, _ in self._listed}
        zero = bytes(1 + ord(header["integer"]))  # an integer: a sign, and its bytes from the lowest on
        if "BLOBS" in there:
            whole = _ends_with_large_object(watch.tail, zero)
        else:
            whole = "TABLE DATA" not in there or watch.tail.endswith(_END_OF_ROWS + zero)
        if not whole:
            raise IncompleteDump(f"pg_dump ended well, yet its archive is cut after {watch.size} bytes")

    def _prove_tables(self, tables: list[Table]) -> None:
        for what in ("TABLE", "TABLE DATA"):
            there = {oid for listed, oid in self._listed or () if listed == what}
            missing = [table.name for table in tables if table.oid not in there]
            if missing:
                raise IncompleteDump(
                    f"pg_dump left out {len(missing)} of {len(tables)} tables: " + ", ".join(missing[:10]),
                    "Is row data excluded on this server (unlogged tables on a standby)?",
                )


def _ends_with_large_object(tail: bytes, zero: bytes) -> bool:
    """Whether a large object ends there: its number, blocks of (length, bytes), 0; and a 0 behind the last object."""
    if not tail.endswith(zero * 2):
        return False
    width, body = len(zero), tail[: -2 * len(zero)]
    for size in range(1, len(body) - width + 1):
        if body[-size - width : -size] == b"\0" + size.to_bytes(width - 1, "little"):
            return True
    # An empty one: its number follows the 0 of the one before, or the header of the section.
    empty = body[-width:] != zero and body[-width] == 0
    return empty and (body[-2 * width : -width] == zero or body[-2 * width - 1] == _LARGE_OBJECTS)
