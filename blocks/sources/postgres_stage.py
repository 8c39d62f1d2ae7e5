"""A dump as a file where the tools are that restore it: pg_restore reads it with several hands, psql as a whole.

So no tool takes a stream that breaks off for one that has ended. The target is untouched as yet (F03).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO, cast

from blocks.files import put
from blocks.host import Host
from blocks.servers import LocalServer
from blocks.sources.base import Content
from blocks.sources.postgres_plain import check_script

_BLOCK = 8 * 1024 * 1024
_MAGIC = b"PGDMP"


@dataclass(frozen=True)
class Staged:
    """A proven dump in a file of a host; *is_custom*: in pg_dump's own format, else a script that was judged."""

    path: str
    is_custom: bool
    kept: Path | None = None

    @property
    def here(self) -> Path:
        """The same as a file of this machine, where that was asked for."""
        if self.kept is None:
            raise AssertionError("it was not kept here")
        return self.kept


@contextmanager
def staged(content: Content, host: Host, *, keep: bool = False) -> Iterator[Staged]:
    """The plain dump in a file of *host*, proven; gone again at exit. With *keep* it lies on this machine as well."""
    if isinstance(host, LocalServer):
        with content.file() as file:
            yield Staged(str(file), _is_judged_archive(file), file)
        return
    with host.private_directory() as directory:
        path = directory / "restore.dump"
        if not keep and _put_archive(content, host, path):
            yield Staged(str(path), is_custom=True)
            return
        with content.file() as file:  # a script is judged as a whole before any of it gets there
            is_custom = _is_judged_archive(file)
            with file.open("rb") as dump:
                put(host, dump, path)
            yield Staged(str(path), is_custom, file)


def _put_archive(content: Content, host: Host, path: PurePath) -> bool:
    """Send an archive as it comes; False, and nothing is done, where it is none."""
    with content.open() as stream:
        head = stream.read(len(_MAGIC))
        if head != _MAGIC:
            return False
        put(host, cast("BinaryIO", io.BufferedReader(_After(head, stream), _BLOCK)), path)
    return True


def _is_judged_archive(file: Path) -> bool:
    """Whether *file* is an archive; a script is judged, and raises where it may not be run."""
    with file.open("rb") as dump:
        if dump.read(len(_MAGIC)) == _MAGIC:
            return True
    check_script(file)
    return False


class _After(io.RawIOBase):
    """*head*, and then what *stream* still has."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._head or self._stream.read(len(buffer))
        self._head = b""
        buffer[: len(data)] = data
        return len(data)
