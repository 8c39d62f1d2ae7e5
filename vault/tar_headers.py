"""The numbers and records in the headers of a tar stream (POSIX pax, GNU tar): read strictly, or refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from vault.errors import Corrupt, UnsafeArchive, printable

BLOCK = 512
END = bytes(2 * BLOCK)
"""What an archive ends with."""

_OCTAL = re.compile(rb"[0-7]+")
_ADLER = 65521

# Keywords by which a reader may act; others, and these in a global header, are refused as ambiguous.
_KEYWORDS = {
    *(b"path", b"linkpath", b"size", b"uid", b"gid", b"uname", b"gname"),
    *(b"mtime", b"atime", b"ctime", b"comment", b"RHT.security.selinux"),
}
_FAMILIES = (b"SCHILY.xattr.", b"SCHILY.acl.", b"SCHILY.fflags", b"LIBARCHIVE.", b"GNU.sparse.")
SPLIT_RECORDS = frozenset({b"GNU.sparse.offset", b"GNU.sparse.numbytes"})
"""Keywords that stand in the header of one member more than once."""
_GLOBAL = {b"comment", b"mtime", b"atime", b"ctime"}
_PATHS = {b"path", b"linkpath", b"GNU.sparse.name"}


def take_records(pending: dict[bytes, bytes], body: bytes) -> None:
    """Add the records of a pax header to *pending*; those that two readers could understand in two ways are refused."""
    for key, value in _records(body):
        if key not in _KEYWORDS and not key.startswith(_FAMILIES):
            if (key, value) == (b"hdrcharset", b"BINARY"):
                continue
            raise UnsafeArchive(f"the archive has an unknown extended header {shown(key)}")
        if key in pending and key not in SPLIT_RECORDS:
            raise UnsafeArchive(f"the archive has the extended header {shown(key)} twice for one member")
        if not value and key in _PATHS:
            raise UnsafeArchive("the archive has an empty name")
        pending[key] = value


def changes_members(body: bytes) -> bool:
    """Whether a global pax header says anything of the members that follow."""
    return not {key for key, _ in _records(body)} <= _GLOBAL


def overridden(pending: dict[bytes, bytes], name: bytes, size: int) -> tuple[bytes, int]:
    """Name and size as the extended headers before a member say."""
    name = pending.get(b"GNU.sparse.name") or pending.get(b"path") or name
    text = pending.get(b"size")
    if text is None:
        return name, size
    if not text.isdigit() or len(text) > 19:
        raise Corrupt("the archive has an extended header with a malformed size")
    return name, int(text)


def _records(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The ``length key=value`` records of a pax header."""
    position = 0
    while position < len(body):
        space = body.find(b" ", position, position + 20)
        digits = body[position:space]
        if space < 0 or not digits.isdigit():
            raise Corrupt("the archive has a malformed extended header")
        end = position + int(digits)
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if not equals or body[end - 1 : end] != b"\n":
            raise Corrupt("the archive has a malformed extended header")
        yield key, value
        position = end


def with_records(records: Mapping[bytes, bytes], header: bytes) -> bytes:
    """The *header* of a member behind an extended one that says *records* of it."""
    body = b"".join(_record(key, value) for key, value in records.items())
    fields = (
        b"PaxHeaders/part".ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % len(body),
        b"00000000000\0" + b" " * 8 + b"x" + bytes(100) + b"ustar\x0000",
    )
    extended = bytearray(b"".join(fields).ljust(BLOCK, b"\0"))
    extended[148:156] = b"%06o\0 " % sum(extended)
    return bytes(extended) + body + bytes(-len(body) % BLOCK) + header


def _record(key: bytes, value: bytes) -> bytes:
    """One record, whose length counts the digits of itself."""
    length = len(key) + len(value) + 3
    digits = len(str(length + len(str(length))))
    return b"%d %s=%s\n" % (length + digits, key, value)


def is_only_mtime(body: bytes) -> bool:
    """Whether *body* is one time stamp and nothing else, as for nearly every member: the fast path."""
    return body.startswith(b"%d mtime=" % len(body)) and body.endswith(b"\n")


@lru_cache(4096)
def expected_sum(field: bytes) -> int:
    """The low half of the Adler-32 of a header whose checksum is *field*.

    That half is 1 + the sum of all bytes: the sum that tar wants, at C speed. In tar's, the field itself is spaces.
    """
    return (1 + octal(field) + sum(field) - 8 * ord(" ")) % _ADLER


@lru_cache(16384)
def octal(field: bytes) -> int:
    """A number of a header, octal or base 256. Anything odd is ``Corrupt``."""
    if field[0] == 0x80:
        number = int.from_bytes(field[1:], "big")
    else:
        digits = field.strip(b" \0")
        # int() alone would also take "1_0", "+1" and "0o1".
        number = int(digits, 8) if _OCTAL.fullmatch(digits) else -1
    if not 0 <= number < 2**63:
        raise Corrupt("the archive has a header with a malformed number")
    return number


def padded(size: int) -> int:
    """*size*, filled up to whole blocks."""
    return (size + BLOCK - 1) & -BLOCK


def shown(name: bytes) -> str:
    """*name* as a message may quote it."""
    return repr(printable(name[:200].decode("utf-8", "backslashreplace")))
