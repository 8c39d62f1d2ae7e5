"""One stream of GNU tar of a directory, judged as it passes; restored beside the target, and swapped in when whole.

Written against ``Host`` and ``Tree``: the same for a directory of this machine, of a server, and for a volume.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Annotated, Any, BinaryIO, cast

from pydantic import AfterValidator

from blocks.sources.base import Content, Dump, Facts, RestoreOptions
from blocks.sources.in_place import InPlace
from blocks.sources.in_place_shell import parts_of
from blocks.sources.tar_part import Part, places_of
from blocks.sources.tree import Tree
from vault.archive import Judge, Limits, Verdict
from vault.errors import Corrupt, IncompleteDump, SourceError, Transient, UnsafeArchive, printable
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


def _patterns(patterns: list[str]) -> list[str]:
    patterns = [pattern.rstrip("/") for pattern in patterns]
    if any(not pattern or "\0" in pattern for pattern in patterns):
        raise ValueError("a pattern must not be empty, or '/'")
    return patterns


Patterns = Annotated[list[str], AfterValidator(_patterns)]
"""What to leave out, as a field."""


@dataclass(frozen=True)
class Tar:
    """How a tree is read by tar, and made anew. *location* is what messages call it."""

    tree: Tree[Any]
    location: str
    exclude: tuple[str, ...] = ()
    one_file_system: bool = False
    allow_unreadable: bool = False
    sparse: bool = True
    sentinel: str = ""
    min_entries: int = 1
    idle_timeout: float = 600.0
    swapping: Callable[[], AbstractContextManager[object]] = nullcontext
    """Within this what is restored takes the target's place; parts that are put into it do not."""

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
            (*_CREATE, *self._selection(), f"--directory={self.tree.path}", "."),
            idle_timeout=self.idle_timeout,
            ok=frozenset({0, 1, 2}),
        )
        tool_version = self._tar_version()
        with self.tree.host.stream(command) as tool:
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
            found = self.tree.entries(self.min_entries)
        except SourceError as error:
            if isinstance(error, Transient):
                raise
            raise SourceError(error.message, hint) from error
        if found < self.min_entries:
            raise SourceError(
                f"directory {self.location} has {found} entries, fewer than the {self.min_entries} that it must have",
                f"{hint} If it may be as empty as that, set min_entries to {found}.",
            )
        if self.sentinel and not self.tree.has(self.sentinel):
            raise SourceError(f"directory {self.location} lacks its sentinel {printable(self.sentinel)}", hint)

    def _refuse_false_holes(self, names: list[bytes]) -> None:
        """tar takes a file to which no blocks are allotted for one hole. Some file systems allot none to any file."""
        name = self.tree.false_hole(names)
        if name is not None:
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
        lines = self.tree.host.run(Command(("tar", "--version"))).stdout.decode(errors="replace").splitlines()
        if not lines or "GNU tar" not in lines[0]:
            raise SourceError("the tar on PATH is not GNU tar", "Install GNU tar, and put it first on PATH.")
        return printable(lines[0])

    def check_target(self, options: RestoreOptions) -> None:
        """Refuse what must not be replaced, or may not, and paths that cannot be."""
        places = places_of(options.paths)
        in_place = self._in_place(options)
        if in_place:
            in_place.check(places, options.overwrite)
        else:
            self.tree.check_target(options.overwrite and not places)

    def puts_parts(self, options: RestoreOptions) -> bool:
        """Whether parts go into what is there, instead of something new that takes its place."""
        return bool(options.paths) and self.tree.in_use()

    def _in_place(self, options: RestoreOptions) -> InPlace[Any] | None:
        return parts_of(self.tree) if self.puts_parts(options) else None

    def restore(self, content: Content, options: RestoreOptions) -> Facts:
        """The stream is already authenticated. Each member is judged before tar sees it; tar writes into a fresh
        private directory beside the target, which takes the target's place only when all was judged. Parts go into a
        target that holds something: see ``InPlace``."""
        self.check_target(options)
        in_place = self._in_place(options)
        with in_place.staging() if in_place else self.tree.staging() as new:
            verdict, sayings = self._extract(content, new, options.paths)
            self.tree.sync(new)
            milestone("restore:before-swap")
            if in_place:
                in_place.put(new, places_of(options.paths), options.overwrite)
            else:
                with self.swapping():
                    self.tree.swap(new, options.overwrite and not options.paths)
            milestone("restore:after-swap")
        return {**_facts(verdict), "warnings": list(sayings)}

    def _extract(self, content: Content, new: PurePath, paths: tuple[str, ...]) -> tuple[Verdict, list[str]]:
        """Extract what is at *paths*, or all; what the verdict is of. The archive is judged as a whole."""
        options = ["--same-owner" if self.tree.is_root else "--no-same-owner"]
        if content.artifact.facts.get("acls") != 0:
            options.append("--acls")  # then tar sets one on every file: half as much work again
        command = Command((*_EXTRACT, *options, f"--directory={new}"), idle_timeout=self.idle_timeout)
        judge, part = Judge(_limits(content)), Part(content, paths, _limits(content)) if paths else None
        with content.open() as stream, self.tree.host.feed(command) as tar:
            while block := stream.read(_BLOCK):
                judge.feed(block)
                tar.stdin.write(part.take(block) if part else block)
            verdict = judge.finish()
            self._compare(content, verdict)
            if part:
                end, verdict = part.finish()
                tar.stdin.write(end)
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
