"""What tools say on their stderr, told line by line as it comes: free of secrets, printable, and not without end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from vault.errors import printable, redact

LINES = 200
BYTES = 64 * 1024
"""What is told of one tool at most; then how much was left out."""
LINE_CHARACTERS = 400
_LONGEST = 16 * 1024  # bytes of a line that are looked at

Listener = Callable[[str], object]
_listener: ContextVar[tuple[Listener, str | None] | None] = ContextVar("listener", default=None)


@contextmanager
def hearing(listener: Listener, name: str | None = None) -> Iterator[None]:
    """*listener* is given what tools say that this thread starts within the context; by other threads.

    Each line begins with the tool's name, or with *name* where there is one.
    """
    token = _listener.set((listener, name))
    try:
        yield
    finally:
        _listener.reset(token)


def told(name: str, secrets: Sequence[str]) -> Told | None:
    """Where a tool that is begun now tells what it says; None where nobody listens."""
    heard = _listener.get()
    return None if heard is None else Told(heard[0], heard[1] or name, secrets)


class Told:
    """What one tool says: :meth:`take` it piece by piece, and :meth:`end`."""

    def __init__(self, listener: Listener, name: str, secrets: Sequence[str]) -> None:
        self._tell, self._name = listener, name
        lines = (line.strip() for secret in secrets for line in secret.splitlines())
        self._secrets = [*secrets, *(line for line in lines if len(line) >= 8)]  # such as those of a key
        self._rest = b""
        self._lines = self._bytes = self._left_lines = self._left_bytes = 0

    def take(self, data: bytes) -> None:
        """The next *data*; what is no whole line yet waits for its end."""
        if self._full:
            self._leave_out(data)
            return
        *whole, rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._line(line)
        if self._full:
            self._rest = b""
            self._leave_out(rest)
        else:
            self._rest = rest[:_LONGEST]

    def end(self) -> None:
        """It says no more."""
        if self._rest:
            self._line(self._rest)
            self._rest = b""
        if self._left_bytes:
            self._say(f"{self._name}: {self._left_lines} more lines ({self._left_bytes:,} bytes) were left out")

    @property
    def _full(self) -> bool:
        return self._lines >= LINES or self._bytes >= BYTES

    def _line(self, line: bytes) -> None:
        if self._full:
            self._leave_out(line + b"\n")
            return
        text = redact(line[:_LONGEST].decode(errors="replace"), self._secrets).strip()
        if text:
            self._lines, self._bytes = self._lines + 1, self._bytes + len(line)
            text = printable(text[:LINE_CHARACTERS])
            self._say(text if text.startswith(f"{self._name}: ") else f"{self._name}: {text}")

    def _say(self, line: str) -> None:
        try:
            self._tell(line)
        except Exception:  # noqa: BLE001 - whatever a log does: a tool whose stderr nobody reads would wait for ever
            self._tell = _nobody

    def _leave_out(self, data: bytes) -> None:
        self._left_lines += data.count(b"\n")
        self._left_bytes += len(data)


def _nobody(_line: str) -> None:
    """Listens no more."""
