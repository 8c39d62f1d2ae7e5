"""Views in the order in which they can be made.

The tools write views by their names, after stand-ins of the same columns. That does for most; a view with a check
option is refused by the server where what it reads is still a stand-in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from blocks.sources.mysql_piece import Piece

_MAKES = re.compile(rb"(?:/\*!\d+\s+)?CREATE\s", re.IGNORECASE)
_MAKES_FINALLY = re.compile(rb"(?:/\*!\d+\s+)?CREATE\s+(?:ALGORITHM|DEFINER|SQL)\b", re.IGNORECASE)
_SETS_BACK = re.compile(rb"(?:/\*!\d+\s+)?SET\s.*=\s*@saved_", re.IGNORECASE | re.DOTALL)


def in_order(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """*pieces*, but each view behind those that it reads. The views of a dump follow all else."""
    finals: list[_View] = []
    view: _View | None = None
    for piece in pieces:
        if view is not None and view.take(piece):
            continue
        if view is not None:
            if view.is_final:
                finals.append(view)
            else:
                yield from view.parts
            view = None
        if piece.about.startswith("VIEW ") and not _MAKES.match(piece.text):
            view = _View(piece)
            continue
        if piece.kind == "table" or piece.about:  # not the end of the dump yet
            yield from _sorted(finals)
            finals = []
        yield piece
    yield from _sorted([*finals, *([view] if view else [])])


class _View:
    """What makes one view: what drops the one before, settings, the view, and the settings of before."""

    def __init__(self, drop: Piece) -> None:
        self.about, self.parts, self.definition = drop.about, [drop], b""

    @property
    def is_final(self) -> bool:
        """Whether it is the view itself, and no stand-in."""
        return _MAKES_FINALLY.match(self.definition) is not None

    def take(self, piece: Piece) -> bool:
        """Whether *piece* belongs to it too."""
        if self.definition:
            mine = not piece.about and _SETS_BACK.match(piece.text) is not None
        else:
            mine = piece.kind == "code" and piece.about in ("", self.about)
            self.definition = piece.text if mine and piece.about and _MAKES.match(piece.text) else b""
        if mine:
            self.parts.append(piece)
        return mine

    def reads(self, other: _View) -> bool:
        """Whether it names *other*."""
        name = other.about.removeprefix("VIEW ").replace("`", "``")
        return other is not self and f"`{name}`".encode() in self.definition


def _sorted(views: list[_View]) -> Iterator[Piece]:
    left = list(views)
    while left:
        ready = [view for view in left if not any(view.reads(other) for other in left)] or left[:1]
        for view in ready:
            yield from view.parts
        left = [view for view in left if view not in ready]
