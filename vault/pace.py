"""Pace: no more bytes a second than are wanted, over all who share it, whatever they read."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from threading import Lock
from typing import BinaryIO

SLOWEST = 10_000
"""Bytes a second: less is a slip of the pen (``10`` for ``10MB/s``), and servers would hang up."""

_STEP = 0.1  # seconds: nobody waits for longer than it takes so long to pass, and what is saved up is no more
_RATE = re.compile(r"(\d+(?:\.\d+)?) ?([kKMG]?)(i?)(B|bit|)(?:/s|ps)?")
_POWER = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3}


def bytes_a_second(text: str) -> int:
    """What *text* means, such as ``10MB/s``, ``500KiB/s``, ``20Mbit/s``, ``2M`` or ``0``; else ``ValueError``."""
    found = _RATE.fullmatch(text.strip())
    if found is None:
        raise ValueError("give bytes a second, such as 10MB/s, 500KiB/s or 20Mbit/s; 0: no limit")
    number, prefix, binary, unit = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** _POWER[prefix] / (8 if unit == "bit" else 1))


class Pace:
    """*rate* bytes a second for all who :meth:`wait`, each in his turn; no more than 0.1 s can be saved up."""

    def __init__(
        self, rate: int, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self.rate, self._clock, self._sleep = rate, clock, sleep
        self.step = max(1024, int(rate * _STEP))
        """Bytes that are to pass at a time."""
        self._free = clock() - _STEP
        self._lock = Lock()

    def wait(self, count: int) -> None:
        """Return when *count* bytes have had the time to pass."""
        with self._lock:
            now = self._clock()
            self._free = max(self._free, now - _STEP) + count / self.rate
            pause = self._free - now
        if pause > 0:
            self._sleep(pause)

    def reading(self, stream: BinaryIO) -> BinaryIO:
        """*stream*, which gives no more than passes; closed with it. A read may give less than is asked for."""
        return _Paced(stream, self)  # type: ignore[return-value]


class _Paced(io.RawIOBase):
    def __init__(self, stream: BinaryIO, pace: Pace) -> None:
        self._stream, self._pace = stream, pace

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(min(len(buffer), self._pace.step))
        buffer[: len(data)] = data
        self._pace.wait(len(data))
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            super().close()
