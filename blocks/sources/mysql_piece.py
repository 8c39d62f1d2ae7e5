"""What scripts of MySQL and MariaDB are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["table", "code"]


@dataclass(frozen=True)
class Piece:
    """A part of a script as it may be sent. ``about``: the view or program that it makes or drops, as ``VIEW name``.

    ``asleep`` is the same with its event, if it makes one, disabled.
    """

    kind: Kind
    text: bytes
    about: str = ""
    asleep: bytes = b""

    def __post_init__(self) -> None:
        if not self.asleep:
            object.__setattr__(self, "asleep", self.text)
