"""What ``backups schedule add`` and ``update`` have in common, besides ``cli.keep``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from cli.saved import Repeated

Type = Literal["database", "files", "full"]


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """What may be said of a schedule besides when it runs, and what stays.

    Parameters
    ----------
    type
        Only the app's databases, only its files, or both (full); at first all that it has.
    to
        A saved destination; at first those of the app. Repeatable.
    ping
        A saved ping that is told of each start, success and failure; see `backups notify add ping`.
    grace_hours
        So many hours after its time a backup has to be there, or it counts as missing; at first 3.
    """

    type: Type | None = None
    to: Annotated[list[str] | None, Repeated] = None
    ping: str | None = None
    grace_hours: float | None = None
