"""A part of a directory's archive on its way to tar: what is chosen by path, judged once more as what it is now."""

from __future__ import annotations

import os

from blocks.sources.base import Content
from vault.archive import Judge, Limits, Verdict
from vault.errors import RestoreRefused, printable
from vault.selection import Selection, place_of, why_missing
from vault.tar_headers import END

_BLOCK = 1024 * 1024


def places_of(paths: tuple[str, ...]) -> list[bytes]:
    """The places that *paths* mean, without those below another one. ``ConfigError`` where one cannot be."""
    places: list[bytes] = []
    for place in sorted(map(place_of, paths), key=lambda place: place.split(b"/")):
        if not places or not (place + b"/").startswith(places[-1] + b"/"):
            places.append(place)
    return places


class Part:
    """Lets the members at *paths* pass, with the directories above them.

    Hard links may lead out of what is chosen. Where the record says that there are any, the archive is read once
    before, to learn whose data has to come along; nothing else needs that.
    """

    def __init__(self, content: Content, paths: tuple[str, ...], limits: Limits) -> None:
        self._content, self._judge = content, Judge(limits)
        self._selection = Selection(place_of(path) for path in paths)
        if content.artifact.facts.get("hard_links") != 0:
            self._read_once(limits)

    def take(self, block: bytes) -> bytes:
        """What passes of a *block* that was judged."""
        passed = self._selection.feed(block)
        self._judge.feed(passed)
        return passed

    def finish(self) -> tuple[bytes, Verdict]:
        """What ends the archive that passed, and what that holds; ``RestoreRefused`` where a path is not there."""
        self._refuse_missing()
        self._judge.feed(END)
        return END, self._judge.finish()

    def _read_once(self, limits: Limits) -> None:
        judge = Judge(limits)
        with self._content.open() as stream:
            while block := stream.read(_BLOCK):
                judge.feed(block)
                self._selection.feed(block)
        judge.finish()
        self._refuse_missing()
        self._selection = self._selection.again()

    def _refuse_missing(self) -> None:
        if not self._selection.missing:
            return
        first = self._selection.missing[0]
        with self._content.open() as stream:
            why = why_missing(stream, first)
        names = ", ".join(repr(printable(os.fsdecode(place))) for place in self._selection.missing[:10])
        raise RestoreRefused(
            f"{self._content.artifact.key} does not hold {names}; nothing was restored",
            why or "Paths begin below the directory that was backed up, and are taken literally.",
        )
