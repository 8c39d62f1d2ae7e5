"""The input of a tool that is far away, in frames: so that the end of the way to it is never taken for its end."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from contextlib import suppress

from blocks.host import RunningTool
from vault.command import Completed
from vault.errors import SourceError

_FRAME = 1024 * 1024
END = b"end\n"
"""The input is whole."""


def frame(data: bytes | memoryview) -> bytes:
    """What goes before *data*."""
    return b"%d\n" % len(data)


class FramedInput(io.RawIOBase):
    """What a tool reads. Only ``close`` says that it is whole; the shell beside the tool takes the frames apart.

    Args:
        send: Sends all of the bytes; False where the tool has ended and reads no more.
        refused: Why nothing can be written; may raise the tool's own error.
    """

    def __init__(self, send: Callable[[bytes], bool], refused: Callable[[], SourceError]) -> None:
        self._send, self._refused = send, refused

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        if not self._written(data):
            raise self._refused()
        return len(data)

    def give(self, data: bytes) -> None:
        """All of its input, or as much as it takes: how it ends says whether that was enough."""
        with suppress(SourceError):
            if self._written(data):
                self.close()

    def close(self) -> None:
        if not self.closed:
            super().close()
            with suppress(SourceError):  # where it has ended, its status says how
                self._send(END)

    def _written(self, data: bytes | memoryview) -> bool:
        view = memoryview(data).cast("B")
        pieces = (view[begin : begin + _FRAME] for begin in range(0, len(view), _FRAME))
        return all(self._send(frame(piece) + bytes(piece)) for piece in pieces)


def completed(tool: RunningTool, input: FramedInput, data: bytes) -> Completed:
    """What a short *tool* makes of *data*: it may write before it has read all, and need not read all.

    Where there is none, the tool was begun without any input.
    """
    if data:
        giving = threading.Thread(target=input.give, args=(data,), name="input", daemon=True)
        giving.start()
    output = tool.stdout.read()
    tool.finish()
    if data:
        giving.join()
    return Completed(output, tuple(tool.warnings))
