"""Judge an SQL script before the client runs it: nothing in it but what a dump of one database needs (A08, A09).

The client runs with ``--binary-mode``, which makes it deaf to all commands of its own but ``DELIMITER``. What reaches
the server is held against a list of the statements that mysqldump and mariadb-dump write: they make, fill and
drop objects of the database that is in use, and nothing else. What the programs do that a script *defines*
(triggers, routines, events) is not judged: a script is as trusted as the server whose dump it is, and
its record is signed.

On the way the script is fitted to where it goes: another database, another version of the client.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from blocks.sources.mysql_piece import Piece
from blocks.sources.mysql_views import in_order
from vault.errors import RestoreRefused, printable

_LONGEST_STATEMENT = 64 * 1024 * 1024  # of one that is no INSERT
_KEPT = 64 * 1024 * 1024  # how much of the file may lie in memory

# MariaDB's tools begin with it since 2024; older clients, and those of MySQL, take it for a mistake.
_SANDBOX = re.compile(rb"/\*M?!999999\\- enable the sandbox mode \*/ ?\n")
_BLANK = re.compile(rb"(?:\s++|--(?=[\s])[^\n]*+|--\Z)++")
_DELIMITER = re.compile(rb"DELIMITER (;;?)\r?\n")
_INSERT = re.compile(
    rb"(?:INSERT|REPLACE) +(?:IGNORE +)?INTO `(?:[^`]|``)++`(?: \((?:`(?:[^`]|``)*+`|[\w, ])++\))? VALUES\s"
    rb"(?:[\w\s(),.+]++|-(?=[\d.])|'(?:[^'\\]++|\\.)*+')++;",
    re.DOTALL,
)
_PIECE = {
    escapes: re.compile(
        rb"""
          (?P<comment> --(?=\s)[^\n]*+ | \#[^\n]*+ | /\*(?!M?!) .*? \*/ )
        | (?P<marker> /\*M?!\d*+ | \*/ )
        | (?P<string> '(?: [^'\\]++ | """
        + (rb"\\." if escapes else rb"\\")
        + rb""" | '' )*+' | "(?: [^"\\]++ | """
        + (rb"\\." if escapes else rb"\\")
        + rb""" | "" )*+" )
        | (?P<identifier> `(?: [^`]++ | `` )*+` )
        | (?P<open> ['"`] | /\* )
        | (?P<command> \\ )
        | (?P<end> ; )
        | (?P<plain> [^'"`;\\/*\#-]++ | . )
        """,
        re.VERBOSE | re.DOTALL,
    )
    for escapes in (True, False)
}
_NAME = rb"`[^`]*+`"
_OWN = rb"\s*+" + _NAME + rb"(?!\s*+\.)"  # of the database in use: not `other`.`name`
_MADE = rb"\s*(?:OR\s+REPLACE\s+)?(?:ALGORITHM\s*=\s*\w+\s+)?(?:DEFINER\s*=\s*\S+?\s+)?(?:SQL\s+SECURITY\s+\w+\s+)?"
_PROGRAM = rb"CREATE\s*(?:OR\s+REPLACE\s+)?(?:DEFINER\s*=.{1,400}?\s)?\s*(?:AGGREGATE\s+)?"

# What tools write, as it looks once quotations are blanked and version comments opened.
_TABLES = (
    rb"DROP\s+(?:TABLE|SEQUENCE)\s+IF\s+EXISTS" + _OWN + rb"\s*",
    rb"CREATE\s+(?:TABLE|SEQUENCE)(?:\s+IF\s+NOT\s+EXISTS)?" + _OWN + rb".*",
    rb"ALTER\s+TABLE" + _OWN + rb"(?!.*\bRENAME\b).*",
    rb"(?:INSERT|REPLACE)\s+(?:IGNORE\s+)?INTO" + _OWN + rb".*\bVALUES\b.*",
    rb"(?:DO|SELECT)\s+SETVAL\(" + _OWN + rb"[^;]*",
)
_SETTING = rb"\s*(?:@{0,2}\w+|@@SESSION\.\w+|SESSION\s+\w+)\s*=\s*[^,()]*(?:\([^()]*\))?[^,()]*"
_CODE = (
    rb"SET\s+NAMES\s+\w+",
    rb"SET\s+" + _SETTING + rb"(?:," + _SETTING + rb")*",
    rb"DROP\s+(?:VIEW|FUNCTION|PROCEDURE|EVENT|TRIGGER|PACKAGE(?:\s+BODY)?)\s+IF\s+EXISTS" + _OWN + rb"\s*",
    rb"CREATE" + _MADE + rb"VIEW" + _OWN + rb".*",
    rb"ALTER\s+DATABASE(?:\s+" + _NAME + rb")?\s+CHARACTER\s+SET\s+\w+\s+COLLATE\s+\w+",
    rb"COMMIT|START\s+TRANSACTION",
)
# Hints for the speed of other servers, which are left out.
_SKIPPED = (
    rb"LOCK\s+TABLES" + _OWN + rb"\s+WRITE|UNLOCK\s+TABLES",
    rb"SELECT\s+COUNT\(\*\)\s+INTO\s+@rocksdb_\w+.*|SET\s+@rocksdb_\w+\s*=.*",
    rb"PREPARE\s+s\s+FROM\s+@rocksdb_\w+|EXECUTE\s+s|DEALLOCATE\s+PREPARE\s+s",
)


def _any(*patterns: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"\s*(?:" + b"|".join(patterns) + rb")\s*", re.IGNORECASE | re.DOTALL)


_IS_TABLE, _IS_CODE, _IS_SKIPPED = _any(*_TABLES), _any(*_CODE), _any(*_SKIPPED)
_IS_PROGRAM = _any(_PROGRAM + rb"(?:EVENT|TRIGGER|PROCEDURE|FUNCTION|PACKAGE)\b.*")
_GLOBAL = re.compile(rb"\b(?:GLOBAL|PERSIST|PERSIST_ONLY|PASSWORD|ROLE)\b", re.IGNORECASE)
_LAST_PART = re.compile(rb"\s*(?:END\b[^;]*)?\s*", re.IGNORECASE)
_SQL_MODE = re.compile(rb"\bSQL_MODE\s*=\s*(?P<value>'[^']*'|\S+)", re.IGNORECASE)
_WORD = rb"(?:`[^`]*+`|[\w$\x80-\xff]++)"
_ABOUT = re.compile(
    rb"\s*(?:CREATE" + _MADE + rb"|" + _PROGRAM + rb"|DROP\s+)"
    rb"(?P<type>VIEW|EVENT|TRIGGER|PROCEDURE|FUNCTION|PACKAGE\s+BODY|PACKAGE)\s+(?:IF\s+(?:NOT\s+)?EXISTS\s+)?"
    rb"(?P<of>" + _WORD + rb"\s*\.\s*)?(?P<name>" + _WORD + rb")",
    re.IGNORECASE | re.DOTALL,
)
_TRIGGERED = re.compile(rb"\s+(?:BEFORE|AFTER)\s.*?\sON\s+(?P<of>" + _WORD + rb"\s*\.\s*)?" + _WORD, re.I | re.DOTALL)
_ALTERED = re.compile(rb"(ALTER\s+DATABASE)\s+`(?:[^`]|``)*+`", re.IGNORECASE)
_ENABLED = re.compile(rb"\bON\s+COMPLETION\s+(?:NOT\s+)?PRESERVE\s+(ENABLE)\b", re.IGNORECASE)


def pieces(path: Path, database: str) -> Iterator[Piece]:
    """The script at *path*, a dump of *database*, piece by piece, each judged before it is given.

    ``RestoreRefused`` when it holds what no dump needs. No piece names *database*.
    """
    if path.stat().st_size == 0:
        raise RestoreRefused("the script is empty; nothing was restored")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        yield from in_order(_Script(text, database).pieces())


def code_of(script: bytes, database: str) -> list[Piece]:
    """What makes the views, routines, triggers and events of *script*, a dump of *database*."""
    return [piece for piece in in_order(_Script(script, database).pieces()) if piece.kind == "code"]


class _Script:
    def __init__(self, text: mmap.mmap | bytes, database: str) -> None:
        quoted = b"`" + database.replace("`", "``").encode() + b"`"
        # Of a view whose definer is gone, MariaDB names columns with their database.
        self._column = re.compile(rb"('(?:[^'\\]|\\.|'')*+')|" + re.escape(quoted) + rb"\.(?=`[^`]++`\.`)", re.DOTALL)
        self._sequence = re.compile(rb"\bnextval\(" + re.escape(quoted) + rb"\.", re.IGNORECASE)
        self._text, self._delimiter = text, b";"
        self._escapes, self._names = True, False
        self._freed = 0

    def pieces(self) -> Iterator[Piece]:
        sandbox = _SANDBOX.match(self._text)
        position = sandbox.end() if sandbox else 0
        while position < len(self._text):
            if blank := _BLANK.match(self._text, position):
                position = blank.end()
            elif delimiter := _DELIMITER.match(self._text, position):
                self._delimiter, position = delimiter[1], delimiter.end()
                yield Piece("code", delimiter[0])
            elif insert := self._delimiter == b";" and _INSERT.match(self._text, position):
                position = insert.end()
                yield Piece("table", insert[0] + b"\n")
                self._free(position)
            else:
                start = position
                position, blanked = self._statement(start)
                yield from self._judged(self._text[start:position], blanked)

    def _statement(self, start: int) -> tuple[int, bytes]:
        """Where the statement at *start* ends, and how it looks with its quotations blanked."""
        parts: list[bytes] = []
        position, size = start, len(self._delimiter)
        while position < len(self._text):
            match = _PIECE[self._escapes].match(self._text, position)
            if match is None:
                raise AssertionError("the last alternative takes any character")
            kind, piece = str(match.lastgroup), match[0]
            if kind == "end" and self._text[position : position + size] == self._delimiter:
                return position + size, b"".join(parts)
            if kind == "command":
                raise _refused("it holds a command to the client", self._text[position : position + 80])
            if kind == "open":
                raise _refused("it holds a quotation without an end", self._text[position : position + 80])
            parts.append(_blanked("identifier" if self._names and piece[:1] == b'"' else kind, piece))
            position = match.end()
            if position - start > _LONGEST_STATEMENT:
                raise _refused("it holds an endless statement", self._text[start : start + 80])
        raise _refused("its last statement has no end", self._text[start : start + 80])

    def _judged(self, text: bytes, blanked: bytes) -> Iterator[Piece]:
        if not blanked.strip():  # nothing but comments
            return
        program = _IS_PROGRAM.fullmatch(blanked)
        if program:
            if b";" in blanked and not _LAST_PART.fullmatch(blanked.rpartition(b";")[2]):
                raise _refused("something follows a program:", text)
            yield _program(text, blanked)
            return
        if b";" in blanked:
            raise _refused("it holds several statements in one", text)
        if _IS_TABLE.fullmatch(blanked):
            text = self._sequence.sub(b"nextval(", text)
            yield Piece("table", text + b"\n")
        elif _IS_SKIPPED.fullmatch(blanked):
            return
        elif _IS_CODE.fullmatch(blanked) and not (_is_set(blanked) and _GLOBAL.search(blanked)):
            self._note_mode(text, blanked)
            text = _ALTERED.sub(rb"\1", text) if blanked.lstrip()[:5].upper() == b"ALTER" else text
            about = _about(text, blanked)
            if about.startswith("VIEW "):
                text = self._column.sub(rb"\1", text)
            yield Piece("code", text + b"\n", about)
        else:
            raise _refused("it holds the statement", text)

    def _note_mode(self, text: bytes, blanked: bytes) -> None:
        """Whether a backslash escapes, and ``"`` quotes a name, depends on a setting that programs are made with."""
        mode = _SQL_MODE.search(text) if _is_set(blanked) else None
        if mode:
            self._escapes = b"NO_BACKSLASH_ESCAPES" not in mode["value"].upper()
            self._names = b"ANSI_QUOTES" in mode["value"].upper()

    def _free(self, position: int) -> None:
        """Keep the memory flat on the way."""
        if isinstance(self._text, mmap.mmap) and position - self._freed > _KEPT:
            start = self._freed // mmap.PAGESIZE * mmap.PAGESIZE
            self._text.madvise(mmap.MADV_DONTNEED, start, position - start)
            self._freed = position


def _blanked(kind: str, piece: bytes) -> bytes:
    """*piece*, as long as it is, without what it says."""
    if kind in ("plain", "end"):
        return piece
    if kind == "string":
        return b"'" + b"x" * (len(piece) - 2) + b"'"
    if kind == "identifier":
        return b"`" + b"x" * (len(piece) - 2) + b"`"
    return b" " * len(piece)


def _is_set(blanked: bytes) -> bool:
    return blanked.lstrip()[:3].upper() == b"SET"


def _about(text: bytes, blanked: bytes) -> str:
    """The view or program that a statement makes or drops."""
    found = _ABOUT.match(blanked)
    if found is None:
        return ""
    name = text[found.start("name") : found.end("name")].decode(errors="replace")
    plain = name[1:-1].replace(name[0] * 2, name[0]) if name[0] in '`"' else name
    return f"{' '.join(found['type'].decode().upper().split())} {plain}"


def _program(text: bytes, blanked: bytes) -> Piece:
    """The statement that makes a program, without the name of the database in front of that of a trigger.

    The server keeps the text of a trigger as somebody has typed it.
    """
    found, about = _ABOUT.match(blanked), _about(text, blanked)
    if found is None:
        raise _refused("it holds the statement", text)
    if not about.startswith("TRIGGER "):
        if found["of"]:
            raise _refused("it makes something in another database:", text)
        asleep = _asleep(text, blanked) if about.startswith("EVENT ") else text
        return Piece("code", text + b"\n", about, asleep + b"\n")
    on = _TRIGGERED.match(blanked, found.end())
    if on is None:
        raise _refused("it holds the statement", text)
    for start, end in (on.span("of"), found.span("of")):  # the last first: so the others stay where they are
        if start >= 0:
            text = text[:start] + text[end:]
    return Piece("code", text + b"\n", about)


def _asleep(text: bytes, blanked: bytes) -> bytes:
    """The statement that makes an event, so that the event does not run."""
    found = _ENABLED.search(blanked)
    return text[: found.start(1)] + b"DISABLE" + text[found.end(1) :] if found else text


def _refused(what: str, text: bytes) -> RestoreRefused:
    shown = printable(" ".join(text.decode(errors="replace").split())[:80])
    return RestoreRefused(
        f"the script is not one of mysqldump or mariadb-dump: {what} {shown!r}; nothing was restored",
        "Look at it, and run it by hand if you trust it.",
    )
