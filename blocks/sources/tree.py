"""A directory on some host, as far as it takes more than tar to back it up and to put a restored one in its place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Generic, TypeVar

from blocks.host import Host
from vault.errors import RestoreRefused, printable

P = TypeVar("P", bound=PurePath)

REFUSALS = {
    "home": ("is / or holds your home directory", "Restore into a directory below it."),
    "link": ("is a symbolic link", "Give the real path."),
    "orphan": ("cannot be made: its parent directory is missing", "Make the parent first."),
    "file": ("is a file", "Give a new or an empty directory."),
    "mount": ("is a mount point, which cannot be swapped", "Restore into a directory below it."),
    "full": ("is not empty", "Give a new or an empty directory, or allow --overwrite."),
    "filled": ("is not empty any more", "Somebody wrote to it meanwhile."),
    "denied": ("cannot be made: its parent directory is not ours to write to", ""),
}
"""Why a target is refused, by a word: what is said of it, and what to do."""


@dataclass(frozen=True)
class Tree(ABC, Generic[P]):
    """The directory at *path* of *host*, there or not. *called*: how messages name it; empty: by its path."""

    host: Host
    path: P
    called: str = ""

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.called or printable(str(self.path))

    @property
    @abstractmethod
    def is_root(self) -> bool:
        """Whether tools run with root's rights there, and may give files to anybody."""

    @abstractmethod
    def entries(self, most: int) -> int:
        """How many entries it has at its top; counted up to *most*. ``SourceError`` where it cannot be read."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether something of that relative path is in it."""

    @abstractmethod
    def false_hole(self, names: Sequence[bytes]) -> bytes | None:
        """The first of *names* in it to which no blocks are allotted and which holds data all the same."""

    @abstractmethod
    def in_use(self) -> bool:
        """Whether it is there and holds something."""

    @abstractmethod
    def check_target(self, overwrite: bool) -> None:
        """Refuse (``RestoreRefused``) where it must not be replaced, may not be, or cannot be."""

    @abstractmethod
    def check_place(self) -> None:
        """Refuse (``RestoreRefused``) a path at which nothing is ever restored."""

    @abstractmethod
    def staging(self) -> AbstractContextManager[P]:
        """A fresh directory (0700) beside it, removed at exit with whatever is in it by then.

        Those of dead restores to the same target are removed first.
        """

    @abstractmethod
    def sync(self, new: P) -> None:
        """What was written to *new*'s file system is on disk: what it is to replace may go."""

    @abstractmethod
    def swap(self, new: P, overwrite: bool) -> None:
        """Put *new* in its place, atomically. What was in a full target is then at *new*."""

    def refusal(self, what: str, remedy: str = "") -> RestoreRefused:
        """That it is not restored to, and is as it was."""
        return RestoreRefused(f"{self.name} {what}", remedy)

    def refused(self, word: str) -> RestoreRefused:
        """The same, for one of ``REFUSALS``."""
        return self.refusal(*REFUSALS[word])
