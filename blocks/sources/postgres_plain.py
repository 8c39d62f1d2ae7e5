"""Judge an SQL script before psql runs it: nothing in it but SQL of the kind that pg_dump writes (A07, A09).

psql obeys a backslash anywhere outside of quotes: ``\\! command``, ``\\i file``, ``\\copy … to program``. A script of
pg_dump needs none of them but the ``\\restrict`` pair and the end of COPY's data. Nor does it ever make roles
or touch other databases. What it *may* do is run functions that it defines: a script is as trusted as the
server whose dump it is, and its record is signed.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from vault.errors import RestoreRefused, printable

_WINDOW = 64 * 1024 * 1024
_LONGEST_STATEMENT = 64 * 1024 * 1024

# What a statement is made of, as psql sees it. "open" begins a quotation that has no end.
_PIECE = re.compile(
    rb"""
      (?P<comment> --[^\n]*+ )
    | (?P<block> /\* )
    | (?P<escaped> (?<![A-Za-z0-9_$\x80-\xff]) [eE]'(?: [^'\\]++ | \\. | '' )*+' )
    | (?P<string> '(?: [^']++ | '' )*+' )
    | (?P<identifier> "(?: [^"]++ | "" )*+" )
    | (?P<dollar> (?<![A-Za-z0-9_$\x80-\xff])
        (?P<tag> \$ (?: [A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+ )? \$ ) .*? (?P=tag) )
    | (?P<open> ['"]
        | (?<![A-Za-z0-9_$\x80-\xff]) \$ (?: [A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+ )? \$ )
    | (?P<restrict> ^\\(?:un)?restrict\ [A-Za-z0-9]++\n )
    | (?P<command> \\ )
    | (?P<end> ; )
    | (?P<plain> [^'"$;\\/eE-]++ | . )
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_COMMENT_MARK = re.compile(rb"/\*|\*/")
_COPY = re.compile(rb"\s*COPY\s[^;]*\sFROM\s+stdin\s*;", re.IGNORECASE)
_FOREIGN = re.compile(
    rb"\s*(?:(?:CREATE|ALTER|DROP)\s+(?:ROLE|USER(?!\s+MAPPING)|GROUP|DATABASE|TABLESPACE|SYSTEM)\b"
    rb"|COPY\s[^;]*\bPROGRAM\b)",
    re.IGNORECASE,
)


def check_script(path: Path) -> None:
    """Raise ``RestoreRefused`` when the script at *path* holds what pg_dump does not write."""
    if path.stat().st_size == 0:
        raise RestoreRefused("the script is empty; nothing was restored")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        for statement in _statements(text):
            if _FOREIGN.match(statement):
                raise _refused("it holds the statement", statement)


def _statements(text: mmap.mmap) -> Iterator[bytes]:
    """Each statement, its quotations blanked. The rows of a COPY are passed over."""
    parts: list[bytes] = []
    start = position = 0
    while position < len(text):
        kind, piece, position = _next(text, position)
        parts.append(piece)
        if position - start > _LONGEST_STATEMENT:
            raise _refused("it holds an endless statement", b"".join(parts)[:80])
        if kind == "end":
            statement = b"".join(parts)
            yield statement
            if _COPY.fullmatch(statement):
                position = _after_rows(text, position)
            parts, start = [], position
    if b"".join(parts).strip():
        raise _refused("its last statement has no end", b"".join(parts))


def _next(text: mmap.mmap, position: int) -> tuple[str, bytes, int]:
    """The piece at *position*: its kind, what to show of it, and where the next begins."""
    match = _PIECE.match(text, position)
    if match is None:
        raise AssertionError("the last alternative takes any character")
    kind, end = str(match.lastgroup), match.end()
    if kind in ("plain", "end"):
        return kind, match[0], end
    if kind == "command":
        raise _refused("it holds a command to psql", text[position : position + 80])
    if kind == "open":
        raise _refused("it holds a quotation without an end", text[position : position + 80])
    if kind == "string" and b"\\'" in match[0]:
        # Where it ends depends on a setting that the script itself may change.
        raise _refused("it holds an ambiguous string", match[0][:80])
    return kind, b" ", _after_comment(text, end) if kind == "block" else end


def _after_comment(text: mmap.mmap, position: int) -> int:
    """Where the comment that began before *position* ends; comments nest."""
    depth = 1
    while depth:
        mark = _COMMENT_MARK.search(text, position)
        if mark is None:
            raise _refused("it holds a comment without an end", text[position : position + 80])
        depth += 1 if mark[0] == b"/*" else -1
        position = mark.end()
    return position


def _after_rows(text: mmap.mmap, position: int) -> int:
    """Where the script goes on behind the rows of a COPY. Keeps the memory flat on the way."""
    end = b"\n\\.\n"
    while position < len(text):
        found = text.find(end, position, position + _WINDOW)
        if found >= 0:
            return found + len(end)
        page = position // mmap.PAGESIZE * mmap.PAGESIZE
        text.madvise(mmap.MADV_DONTNEED, page, min(_WINDOW, len(text) - page))
        position += _WINDOW - len(end)
    raise RestoreRefused("the script ends within the rows of a table; nothing was restored")


def _refused(what: str, text: bytes) -> RestoreRefused:
    shown = printable(" ".join(text.decode(errors="replace").split())[:80])
    return RestoreRefused(
        f"the script is not one of pg_dump: {what} {shown!r}; nothing was restored",
        "Look at it, and run it by hand if you trust it.",
    )
