"""Directories: one stream of GNU tar, judged as it passes; restored beside the target, and swapped in when whole."""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import BinaryIO, ClassVar, cast

from pydantic import Field, HttpUrl, field_validator

from blocks.look import DOCUMENTATION_URL, LOGO_URL
from blocks.sources.base import AbsolutePath, Category, Content, Dump, Facts, RestoreOptions, Source
from blocks.sources.directory_target import check_target, staging, swap, sync
from vault.archive import Judge, Limits, Verdict
from vault.errors import (
    Corrupt,
    IncompleteDump,
    SourceError,
    UnsafeArchive,
    printable,
)
from vault.milestone import milestone
from vault.pipes import STDERR_LINES
from vault.process import Command

RESTORE_WITH = "tar -xpf - --xattrs --xattrs-include='*' --acls --numeric-owner -C TARGET"

_BLOCK = 1024 * 1024
_CREATE = (
    *("tar", "--create", "--file=-", "--format=posix", "--sort=name", "--numeric-owner"),
    *("--xattrs", "--acls"),
    # The same tree gives the same stream: no time of our own reading, no process id.
    "--pax-option=exthdr.name=%d/PaxHeaders/%f,exthdr.mtime=0,delete=atime,delete=ctime",
)
_EXTRACT = (
    *("tar", "--extract", "--file=-", "--blocking-factor=512", "--numeric-owner", "--same-permissions"),
    *("--xattrs", "--xattrs-include=*", "--delay-directory-restore", "--warning=no-timestamp"),
)
_COUNTS = ("members", "files", "directories", "symlinks", "hard_links", "fifos", "acls", "bytes")
_CHANGED = re.compile(": (File shrank by|File removed before|file changed as|socket ignored)")
_NAME = re.compile(r"^\S*\btar: ")


class Directory(Source):
    """
    A directory, with all that is in it.

    Hard links, sparse files, owners, modes, ACLs, extended attributes and times are kept. FIFOs are kept and
    never opened; sockets are skipped with a warning; a device file fails the backup. What vanishes or changes
    while it is read is a warning.

    Attributes:
        path: The directory, as an absolute path. If it is a symbolic link, that to which it points is backed up.
        exclude: What to leave out, as shell patterns: `*.tmp` or `cache/old` at any depth, `/cache` only at
            the top. `*` does not match a slash, and `\\` takes the next character literally.
        one_file_system: Do not descend into other file systems that are mounted below.
        allow_unreadable: Make what cannot be read a warning; else it fails the backup.
        sparse: Keep holes in files as holes; else they are stored as zeros. A file system that does not tell
            holes from data fails the backup: there, switch this off.
        sentinel: A path below the directory that must exist, as a sign that the right disk is mounted.
        min_entries: The fewest entries that the directory may have at its top; 0 allows an empty one.
        idle_timeout: After how many seconds without a sign of life tar is stopped.

    Example:
        Load a directory and check it:
        ```python
        from blocks import Directory

        directory = Directory.load("BLOCK_NAME")
        directory.check()
        ```
    """

    kind: ClassVar[str] = "directory"
    category: ClassVar[Category] = "files"

    _block_type_name: ClassVar[str | None] = "Directory"
    _block_type_slug: ClassVar[str | None] = "directory"
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL

    path: AbsolutePath = Field(description="The directory, as an absolute path.")
    exclude: list[str] = Field(
        default_factory=list,
        description="Shell patterns of what to leave out: *.tmp at any depth, /cache only at the top.",
    )
    one_file_system: bool = Field(default=False, description="Do not descend into file systems mounted below.")
    allow_unreadable: bool = Field(
        default=False, description="Make what cannot be read a warning, instead of failing the backup."
    )
    sparse: bool = Field(default=True, description="Keep holes in files as holes, instead of storing zeros.")
    sentinel: str = Field(
        default="", description="A path below the directory that must exist, as a sign that its disk is mounted."
    )
    min_entries: int = Field(
        default=1, ge=0, description="The fewest entries at the top of the directory; 0 allows an empty one."
    )
    idle_timeout: float = Field(
        default=600.0, gt=0, description="Seconds without a sign of life after which tar is stopped."
    )

    @field_validator("exclude")
    @classmethod
    def _are_patterns(cls, patterns: list[str]) -> list[str]:
        patterns = [pattern.rstrip("/") for pattern in patterns]
        if any(not pattern or "\0" in pattern for pattern in patterns):
            raise ValueError("a pattern must not be empty, or '/'")
        return patterns

    @field_validator("sentinel")
    @classmethod
    def _is_below(cls, sentinel: str) -> str:
        if sentinel.startswith("/") or ".." in Path(sentinel).parts or "\0" in sentinel:
            raise ValueError("must be a path below the directory")
        return sentinel

    @property
    def location(self) -> str:
        """The path."""
        return printable(str(self.path))

    @property
    def paths(self) -> tuple[Path, ...]:
        """The directory."""
        return (self.path,)

    # -- backup

    def check(self) -> str:
        """It is there, and not suspiciously empty; tar is GNU tar."""
        self._refuse_absent()
        return self._tar_version()

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """Proof: tar ended well, the archive ends where it should, and it is one that ``restore`` takes."""
        self._refuse_absent()
        hollow: list[bytes] = []
        judge = Judge(hollow=hollow.append)
        command = Command(
            (*_CREATE, *self._selection(), f"--directory={self.path}", "."),
            idle_timeout=self.idle_timeout,
            ok=frozenset({0, 1, 2}),
        )
        tool_version = self._tar_version()
        with self.server.stream(command) as tool:
            stream = cast("BinaryIO", _Judged(tool.stdout, judge, self.location))
            dump = Dump(stream, "tar", tool_version, RESTORE_WITH)
            yield dump
        dump.warnings += _sayings(tool.warnings)
        if tool.exit_code == 2:
            raise self._unreadable(dump.warnings)
        try:
            verdict = judge.finish()
        except (Corrupt, UnsafeArchive) as error:
            raise IncompleteDump(f"the dump of {self.location} is not whole: {error.message}") from error
        self._refuse_absent()  # its disk may have gone meanwhile
        self._refuse_false_holes(hollow)
        dump.facts.update(_facts(verdict))

    def _selection(self) -> Iterator[str]:
        if self.sparse:
            yield "--sparse"
        if self.one_file_system:
            yield "--one-file-system"
        if self.allow_unreadable:
            yield "--ignore-failed-read"
        yield from ("--wildcards", "--no-wildcards-match-slash")
        for pattern in self.exclude:
            if pattern.startswith("/"):
                yield from ("--anchored", f"--exclude=.{pattern}")
            else:
                yield from ("--no-anchored", f"--exclude={pattern}")

    def _refuse_absent(self) -> None:
        """S20: a disk that is not mounted must not become an empty backup."""
        hint = "If a disk should be mounted there, mount it."
        try:
            with os.scandir(self.path) as entries:
                found = sum(1 for _ in islice(entries, self.min_entries))
        except OSError as error:
            raise SourceError(f"directory {self.location} cannot be read: {error.strerror}", hint) from error
        if found < self.min_entries:
            raise SourceError(
                f"directory {self.location} has {found} entries, fewer than the {self.min_entries} that it must have",
                f"{hint} If it may be as empty as that, set min_entries to {found}.",
            )
        if self.sentinel and not os.path.lexists(self.path / self.sentinel):
            raise SourceError(f"directory {self.location} lacks its sentinel {printable(self.sentinel)}", hint)

    def _refuse_false_holes(self, names: list[bytes]) -> None:
        """tar takes a file to which no blocks are allotted for one hole. Some file systems allot none to any file."""
        for name in names:
            if _has_data_in_no_blocks(os.path.join(os.fsencode(self.path), name)):
                shown = printable(os.fsdecode(name))
                raise IncompleteDump(
                    f"{self.location} lies on a file system that does not tell holes from data: {shown} was lost",
                    "Set sparse to off for this directory.",
                )

    def _unreadable(self, sayings: list[str]) -> SourceError:
        errors = [line for line in sayings if not _CHANGED.search(line)] or sayings
        return SourceError(
            f"tar could not read all of {self.location}: " + "\n".join(errors),
            "Give the worker's user the right to read it, exclude it, or set allow_unreadable.",
        )

    def _tar_version(self) -> str:
        lines = self.server.run(Command(("tar", "--version"))).stdout.decode(errors="replace").splitlines()
        if not lines or "GNU tar" not in lines[0]:
            raise SourceError("the tar on PATH is not GNU tar", "Install GNU tar, and put it first on PATH.")
        return printable(lines[0])

    # -- restore

    def check_target(self, options: RestoreOptions) -> None:
        """Refuse what must not be replaced, or may not."""
        check_target(self.path, options.overwrite)

    def restore(self, content: Content, options: RestoreOptions) -> Facts:
        """The stream is already authenticated. Each member is judged before tar sees it; tar writes into a fresh
        private directory beside the target, which takes the target's place only when all was judged."""
        self.check_target(options)
        with staging(self.path, self.server) as new:
            verdict, sayings = self._extract(content, new)
            self._compare(content, verdict)
            sync(new)
            milestone("restore:before-swap")
            swap(new, self.path, options.overwrite)
            milestone("restore:after-swap")
        return {**_facts(verdict), "warnings": list(sayings)}

    @contextmanager
    def scratch(self) -> Iterator[Source]:
        """A new directory beside this one."""
        with staging(self.path, self.server) as place:
            yield Directory(path=place / "scratch", server=self.server, min_entries=0)

    def _extract(self, content: Content, new: Path) -> tuple[Verdict, list[str]]:
        options = ["--same-owner" if os.geteuid() == 0 else "--no-same-owner"]
        if content.artifact.facts.get("acls") != 0:
            options.append("--acls")  # then tar sets one on every file: half as much work again
        command = Command((*_EXTRACT, *options, f"--directory={new}"), idle_timeout=self.idle_timeout)
        judge = Judge(_limits(content))
        with content.open() as stream, self.server.feed(command) as tar:
            while block := stream.read(_BLOCK):
                judge.feed(block)
                tar.stdin.write(block)
            verdict = judge.finish()
        return verdict, _sayings(tar.warnings)

    def _compare(self, content: Content, verdict: Verdict) -> None:
        """A06: what the record says that the archive holds, it holds."""
        facts = content.artifact.facts
        for name, found in _facts(verdict).items():
            if facts.get(name, found) != found:
                raise Corrupt(
                    f"{content.artifact.key} holds {found} {name}; its record says {facts[name]}",
                    f"{self.location} is untouched. Restore an older backup.",
                )


class _Judged(io.RawIOBase):
    """tar's output on its way to us: each block is judged before anybody sees it."""

    def __init__(self, stream: BinaryIO, judge: Judge, location: str) -> None:
        self._judge, self._location = judge, location
        self._readinto: Callable[[memoryview], int] = stream.readinto1  # type: ignore[attr-defined]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._readinto(buffer)
        try:
            self._judge.feed(bytes(memoryview(buffer)[:count]))
        except UnsafeArchive as error:
            raise SourceError(
                f"{self._location} holds what no restore would take: {error.message}", "Exclude that."
            ) from error
        except Corrupt as error:
            raise IncompleteDump(f"the dump of {self._location} is broken: {error.message}") from error
        return count


def _limits(content: Content) -> Limits:
    members = content.artifact.facts.get("members")
    most = members if isinstance(members, int) else Limits().members
    return Limits(members=most, bytes=content.artifact.plain_size)


def _facts(verdict: Verdict) -> Facts:
    found = asdict(verdict)
    return {name: found[name] for name in _COUNTS}


def _sayings(lines: list[str]) -> list[str]:
    """What tar said, without its own name; where its beginning is lost, that is said too."""
    said = [_NAME.sub("", line) for line in lines if "Exiting with failure status" not in line]
    return [*said, f"(these are the last of {STDERR_LINES} or more)"] if len(lines) == STDERR_LINES else said


def _has_data_in_no_blocks(path: bytes) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False  # removed since: there is nothing to compare with
    try:
        return not os.fstat(fd).st_blocks and os.lseek(fd, 0, os.SEEK_DATA) >= 0
    except OSError as error:
        return error.errno != errno.ENXIO
    finally:
        os.close(fd)
