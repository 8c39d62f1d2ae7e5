"""What a destination is spared: the options that every kind has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True)
class Limits:
    """How much may be asked of a destination.

    Parameters
    ----------
    max_runs
        How many runs may upload there at once; 0: no limit.
    max_wait
        For how many seconds a run waits for its turn there, at first 14400 (four hours), before it goes on with
        its other destinations alone; 0: for as long as it takes.
    bandwidth
        How fast a run may send there, and read from there: such as 10MB/s or 20Mbit/s; 0: no limit.
    """

    max_runs: int | None = None
    max_wait: int | None = None
    bandwidth: str | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The fields of a destination that were named."""
        return {name: value for name, value in vars(self).items() if value is not None}


NO_LIMITS = Limits()
