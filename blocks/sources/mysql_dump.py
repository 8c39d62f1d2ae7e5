"""Dump a database of MySQL or MariaDB as an SQL script, and prove that the script is whole.

The tool reads every transactional table in one snapshot. No other session can share it, so what the record says
of rows is counted in the script itself, as it passes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from blocks.sources.base import Dump
from blocks.sources.mysql_client import Access, identifier
from blocks.sources.mysql_facts import (
    VERSIONED,
    Inventory,
    accounts,
    describe,
    rights,
    take_inventory,
)
from blocks.sources.mysql_tools import MARIADB, MYSQL, Installation, Server
from vault.errors import IncompleteDump, SourceError, SourceUnavailable, printable
from vault.process import PIPE_BYTES

_HEAD_BYTES = 512
_TAIL_BYTES = 4096
_HOLD = 64 * 1024  # what may be held back of a line, so that no mark and no INSERT's beginning is cut
_NAME = rb"`(?:[^`\n]|``)*+`"

_HEAD = re.compile(rb"^-- (?:MariaDB|MySQL) dump ", re.MULTILINE)
_END = re.compile(rb"\n-- Dump completed(?: on [^\n]*)?\n?\Z")
_END_OF_ROWS = b" ENABLE KEYS */;"
_MARK = re.compile(
    rb"\n(?:-- (?P<what>Table structure for table|Dumping data for table|Sequence structure for"
    rb"|Final view structure for view) (?P<name>" + _NAME + rb")"
    rb"|/\*!40000 ALTER TABLE " + _NAME + rb" ENABLE KEYS)"
)
_INSERT = re.compile(
    rb"\n(?P<head>INSERT +(?:IGNORE +)?INTO (?:`(?:[^`]|``)*+`)(?: \((?:`(?:[^`]|``)*+`|[^`()'])*+\))? VALUES)"
    rb"(?P<gap>\n|\Z| \()"
)


@contextmanager
def script_dump(access: Access, database: str) -> Iterator[Dump]:
    """A dump of *database*. A clean exit proves it."""
    server = access.look(database)
    tool = access.for_dump(server)
    before = take_inventory(access, database)
    # Without DATABASES the script names no database, and can be restored under another name.
    command = access.command(tool.dump, tool.flavour, *tool.dump_options(server), "--", database)
    with _told(), access.endpoint.server.stream(command) as running:
        watch = Watch(running.stdout)
        dump = Dump(
            io.BufferedReader(watch, PIPE_BYTES),
            "sql",
            f"{tool}, {server}",
            f"{'mariadb' if tool.flavour == MARIADB else 'mysql'} --binary-mode --database=TARGET",
        )
        yield dump
    dump.warnings.extend(running.warnings)
    _prove(access, watch, before)
    absent = _absent_definers(access, before)
    dump.warnings.extend(_warnings(access, tool, server, before, absent))
    dump.facts.update({**describe(before, watch.rows), "missing_definers": [*absent]})


@contextmanager
def _told() -> Iterator[None]:
    """A server gives up on who does not read, and the tool does not say so."""
    try:
        yield
    except SourceUnavailable as error:
        if not re.search(r"\b2013\b", error.message):
            raise
        raise SourceUnavailable(
            error.message,
            "Does a slow destination hold it back? Raise the server's net_write_timeout, or BACKUPS_SPOOL_LIMIT.",
        ) from error


def check_rights(access: Access, server: Server, database: str) -> None:
    """Raise ``SourceError`` where the account would not be shown what it has to dump: the tool would not notice."""
    if not rights(access, server).has("TRIGGER", database):
        raise SourceError(
            f"the account may not see the triggers of {printable(database)!r}: they would be missing from the dump",
            f"GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES ON {identifier(database)}.* TO it.",
        )


def _prove(access: Access, watch: Watch, before: Inventory) -> None:
    if not watch.size:
        raise IncompleteDump("the dump tool ended well, yet it wrote nothing")
    if not _HEAD.search(bytes(watch.head)):
        raise IncompleteDump("the dump tool ended well, yet what it wrote is no dump of MySQL or MariaDB")
    if not _END.search(watch.tail):
        raise IncompleteDump("the dump tool ended well, yet its script is cut: the last line is missing")
    missing = watch.missing(before)
    if missing:  # or dropped meanwhile, which is no fault
        missing &= watch.missing(take_inventory(access, before.name))
    if missing:
        total = len(before.tables) + len(before.sequences) + len(before.code["views"])
        names = ", ".join(printable(name) for name in sorted(missing)[:10])
        raise IncompleteDump(f"the dump left out {len(missing)} of {total} tables and views: {names}")


def _warnings(
    access: Access, tool: Installation, server: Server, inventory: Inventory, absent: list[str]
) -> Iterator[str]:
    if not inventory.tables:
        yield "the database has no tables"
    if tool.flavour != server.flavour:
        yield f"the server is {server}, and was dumped by {tool}, for want of a tool of its own kind"
    elif tool.version[:2] < server.version[:2]:
        yield f"{tool} is older than the server, {server}"
    unsafe = [t for t in inventory.tables if not t.transactional]
    if unsafe:
        names = ", ".join(f"{printable(table.name)} ({table.engine})" for table in unsafe[:10])
        yield f"{len(unsafe)} tables are not of the snapshot, for their engine has no transactions: {names}"
    past = [t for t in inventory.tables if t.type == VERSIONED]
    if past and "--dump-history" not in tool.dump_options(server):
        yield f"the history of {len(past)} versioned tables is not in the dump: {tool} cannot dump it"
    if absent:
        yield f"what these own fails, for they do not exist: {', '.join(map(printable, absent))}"
    if not inventory.code["routines"] and not _sees_routines(access, server, inventory.name):
        yield "the account may not see routines: if there are any, they are not in the dump"


def _absent_definers(access: Access, inventory: Inventory) -> list[str]:
    known = accounts(access) if inventory.definers else None
    return [definer for definer in inventory.definers if known is not None and definer not in known]


def _sees_routines(access: Access, server: Server, database: str) -> bool:
    own = rights(access, server)
    everywhere = "SHOW_ROUTINE" if server.flavour == MYSQL else "SHOW CREATE ROUTINE"
    if own.has(everywhere, database) or own.has("SELECT", "mysql"):
        return True
    return any(own.has(right, database) for right in ("EXECUTE", "CREATE ROUTINE", "ALTER ROUTINE"))


class Watch(io.RawIOBase):
    """Passes a script on; keeps its beginning and end, and what it shows of tables, views and rows."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._rest = b"\n"
        self._rows: _Rows | None = None
        self._seen: set[tuple[str, str]] = set()
        self.head, self.tail, self.size = bytearray(), b"", 0
        self.rows: dict[str, int] = {}
        """How many rows the script has of each table."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count: int = self._source.readinto1(buffer)  # type: ignore[attr-defined]
        if count:
            data = bytes(buffer[:count])
            self.size += count
            self.head += data[: _HEAD_BYTES - len(self.head)]
            self.tail = (self.tail + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]
            self._see(self._rest + data)
        elif self._rest:
            self._look(self._rest)
            self._end_rows()
            self._rest = b""
        return count

    def missing(self, inventory: Inventory) -> set[str]:
        """What *inventory* has and the script has not."""
        wanted = {("Table structure for table", table.name) for table in inventory.tables}
        wanted |= {("Sequence structure for", name) for name in inventory.sequences}
        wanted |= {("Final view structure for view", name) for name in (view.name for view in inventory.code["views"])}
        # The tool changes line breaks in a name where it stands in a comment.
        return {name for what, name in wanted - self._seen if "\n" not in name}

    def _see(self, text: bytes) -> None:
        cut = text.rfind(b"\n")
        if cut < 0 or len(text) - cut > _HOLD:
            cut = len(text)
        self._look(text[:cut])
        self._rest = text[cut:]

    def _look(self, text: bytes) -> None:
        position = 0
        # Behind the rows of a table there is always this; a search for it is what most of a dump costs here.
        if _END_OF_ROWS in text or (self._rows is None and b"\n-- " in text):
            for mark in _MARK.finditer(text):
                self._count(text[position : mark.start()])
                position = mark.start()
                self._end_rows()
                if mark["name"]:
                    self._begin(mark["what"].decode(), mark["name"][1:-1].decode(errors="replace").replace("``", "`"))
        self._count(text[position:])

    def _begin(self, what: str, name: str) -> None:
        self._seen.add((what, name))
        if what == "Dumping data for table" and name not in self.rows:
            self._rows = _Rows(name)

    def _count(self, text: bytes) -> None:
        if self._rows is not None:
            self._rows.add(text)

    def _end_rows(self) -> None:
        if self._rows is not None:
            self.rows[self._rows.name] = self._rows.count
            self._rows = None


class _Rows:
    """Counts the rows of one table in its INSERT statements, however they are cut.

    No tool writes a line break within a string. MariaDB's begins each row on a line; else a row begins with the
    only kind of parenthesis that is outside of strings.
    """

    def __init__(self, name: str) -> None:
        self.name, self.count = name, 0
        self._head, self._lines = b"", False
        self._inside, self._kept = False, b""

    def add(self, text: bytes) -> None:
        if not self._head:
            match = _INSERT.search(text)
            if match is None:
                return
            self._head, self._lines = match["head"], match["gap"] != b" ("
            text = text[match.start() :]
        if self._lines:
            self.count += text.count(b"\n(")
            return
        text = self._kept + text.replace(b"\n" + self._head, b"")
        odd = (len(text) - len(text.rstrip(b"\\"))) % 2
        text, self._kept = text[: len(text) - odd], text[len(text) - odd :]
        parts = text.replace(b"\\\\", b"").replace(b"\\'", b"").split(b"'")
        self.count += sum(part.count(b"(") for part in parts[self._inside :: 2])
        self._inside ^= len(parts) % 2 == 0
