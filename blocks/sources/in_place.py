"""Parts put into a directory that is in use: each in one step, and nothing else in it is touched.

Where something stands already, it is replaced only where that is allowed, as a whole. What is above has to be real
directories: no link is followed. Of several parts, all are put in place or none, unless we are killed between two.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Generic, TypeVar

from blocks.sources.tree import Tree
from vault.errors import RestoreRefused, printable

P = TypeVar("P", bound=PurePath)

_AS_ALLOWED = "Restore it to a new directory, or allow it to be replaced (--overwrite); all else in there stays."
_ELSEWHERE = "Restore it to a new directory."


@dataclass(frozen=True)
class InPlace(ABC, Generic[P]):
    """The directory of *tree*; places are relative to it, as a selection spells them."""

    tree: Tree[P]

    @abstractmethod
    def staging(self) -> AbstractContextManager[P]:
        """As ``Tree.staging``, but within it: what lies beside it may be another file system."""

    @abstractmethod
    def check(self, places: Sequence[bytes], overwrite: bool) -> None:
        """Refuse (``RestoreRefused``) where something is in the way, or we may not write."""

    @abstractmethod
    def put(self, new: P, places: Sequence[bytes], overwrite: bool) -> None:
        """Move what *new* holds at *places* here, with the directories above that are missing here.

        What was replaced is then in *new*. Whatever fails, what was done is undone.
        """

    def denied(self, place: bytes) -> RestoreRefused:
        """That we may not write there."""
        return self._refusal(place, "cannot be written: its directory is not ours to write to")

    def exists(self, place: bytes) -> RestoreRefused:
        """That it is not to be replaced."""
        return self._refusal(place, "exists already", _AS_ALLOWED)

    def taken(self, place: bytes) -> RestoreRefused:
        """That something stands there, which did not when we began."""
        return self._refusal(place, "has come to be meanwhile", _AS_ALLOWED)

    def unreachable(self, place: bytes, name: bytes) -> RestoreRefused:
        """That *name*, on the way to it, is no way."""
        shown = printable(os.fsdecode(name))
        return self._refusal(place, f"cannot be reached: {shown} there is no directory that we may enter", _ELSEWHERE)

    def failed(self, place: bytes, why: str) -> RestoreRefused:
        """That the system did not let us."""
        return self._refusal(place, f"cannot be put in place: {why}", _ELSEWHERE)

    def _refusal(self, place: bytes, what: str, remedy: str = "") -> RestoreRefused:
        return RestoreRefused(f"{printable(os.fsdecode(place))} in {self.tree.name} {what}", remedy)
