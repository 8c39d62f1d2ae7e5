"""What a person or a program sees: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from vault.errors import printable
from vault.units import human

if TYPE_CHECKING:
    from tasks.progress import Snapshot
    from vault.record import BackupRecord


def note(text: str) -> None:
    """A line for the person at the terminal."""
    print(text, file=sys.stderr, flush=True)


def show_json(value: Any) -> None:
    """The one JSON value of a command with ``--json``."""
    print(json.dumps(value, indent=2))


def show_table(heads: Sequence[str], rows: Sequence[Sequence[str]], file: TextIO | None = None) -> None:
    """Columns, aligned, never cut: ids must survive a pipe. Control characters are escaped (N04)."""
    lines = [list(heads), *[[printable(cell) for cell in row] for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(), file=file)


@contextmanager
def progress_line() -> Iterator[None]:
    """While a run goes on in this process: a live line on a terminal, a plain line for each stage elsewhere."""
    from tasks.progress import listening

    view = _Live() if sys.stderr.isatty() else _Plain()
    with listening(view.update):
        try:
            yield
        finally:
            view.end()


class _Plain:
    def __init__(self) -> None:
        self._stage = ""

    def update(self, now: Snapshot) -> None:
        if now.stage and now.stage != self._stage:
            self._stage = now.stage
            note(f"{now.title}: {now.stage}")

    def end(self) -> None:
        pass


class _Live:
    _EVERY = 0.1

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown = 0.0

    def update(self, now: Snapshot) -> None:
        with self._lock:
            if time.monotonic() - self._shown < self._EVERY:
                return
            self._shown = time.monotonic()
            sys.stderr.write(f"\r\x1b[K{_line(now)}")
            sys.stderr.flush()

    def end(self) -> None:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def _line(now: Snapshot) -> str:
    rate = now.done / now.seconds if now.seconds else 0.0
    parts = [f"{now.title}: {now.stage}", human(now.done), f"{human(rate)}/s"]
    if now.expected and rate and now.done:
        left = max(0.0, (now.expected - now.done) / rate)
        parts += [f"{min(99, 100 * now.done // now.expected)} %", f"about {left:.0f} s left"]
    return "  ".join(parts)


def how_to_restore(record: BackupRecord, destination: str) -> str:
    """What to type to get *record*'s backup back from there."""
    key = " --identity FILE" if any(artifact.recipients for artifact in record.artifacts) else ""
    return f"Restore it with: backups restore {record.app} {record.id} --from {destination} --to TARGET{key}"
