"""What a run may use of this machine, and how many sources that lets it read at once."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from vault.codec import BLOCK
from vault.errors import ConfigError
from vault.spool import MIB

_SMALLEST_SHARE = 32 * MIB
"""Of a spool: less would cut what is sent into parts so small that the way there is what takes the time."""
_SMALLEST_BLOCK = 2 * MIB
_STEPS = 60
"""How many steps of a run go on at once, see the task runner of the flows."""


@dataclass(frozen=True)
class Limits:
    """What a run may use of the worker; bytes and seconds. ``spool`` is for all sources together.

    What is read at once shares it in equal parts, and so it does memory and processors: one source takes no less
    than several. Nobody waits for what another one has, so that no number of them can come to a standstill.
    """

    spool: int = 1024**3
    segment: int = 32 * MIB
    stall_timeout: float = 600.0
    parallel: int = 1

    def between(self, wanted: int, sources: int, destinations: int) -> Limits:
        """The same, for as many of *sources* at once as are *wanted* and as this machine has room for."""
        room = self.spool // _SMALLEST_SHARE
        steps = _STEPS // (2 + 2 * destinations)  # a dump, its checksum; an upload and a proof at each destination
        return replace(self, parallel=max(1, min(wanted, sources, 2 * _cores(), room, steps)))

    @property
    def share(self) -> int:
        """Bytes that the spool of one source may take."""
        return self.spool // self.parallel

    @property
    def segment_size(self) -> int:
        """Bytes of a segment of such a spool."""
        return min(self.segment, self.share // 4)

    @property
    def threads(self) -> int:
        """How many threads compress one source."""
        return max(1, min(4, _cores()) // self.parallel)

    @property
    def block(self) -> int:
        """Bytes that one thread compresses at a time: what encoding takes of memory is a multiple of it."""
        return max(_SMALLEST_BLOCK, 2 * BLOCK >> max(1, (self.parallel - 1).bit_length()))


def limits() -> Limits:
    """What a run may use of this machine: the default, or what the environment says."""
    spool = os.environ.get("BACKUPS_SPOOL_LIMIT")
    if spool is None:
        return Limits()
    if not spool.isdigit():
        raise ConfigError(f"BACKUPS_SPOOL_LIMIT is {spool!r}, not a number of bytes", "Such as 1073741824.")
    return Limits(spool=int(spool))


def _cores() -> int:
    return len(os.sched_getaffinity(0))
