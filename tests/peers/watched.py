"""What all processes that this one has begun show of themselves: looked at all the time, by a thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection
from pathlib import Path

_EXEMPT = b"BACKUPS_APP="


class Watched:
    """Within, each new descendant of this process is looked at, again and again: its arguments and its environment.

    *needles* may stand in neither; those in *told* only in the environment of a hook and of what that begins, whose
    own secrets they are.
    """

    def __init__(self, needles: Collection[bytes], told: Collection[bytes] = ()) -> None:
        self._needles, self._told = tuple(needles), tuple(told)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._before = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()}
        self.seen: set[str] = set()
        """The names of the programs that were looked at."""
        self.found: set[str] = set()
        """Those that showed a secret, and where."""

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.is_set():
            parents = _parents()
            for pid in parents.keys() - self._before:
                if _descends(pid, parents):
                    self._judge(Path(f"/proc/{pid}"))

    def _judge(self, process: Path) -> None:
        try:
            arguments, environment = ((process / name).read_bytes() for name in ("cmdline", "environ"))
        except OSError:
            return
        name = os.fsdecode(arguments.split(b"\0")[0].rpartition(b"/")[2])
        self.seen.add(name)
        if any(needle in arguments for needle in (*self._needles, *self._told)):
            self.found.add(f"{name}: arguments")
        private = () if _EXEMPT in environment else self._told
        if any(needle in environment for needle in (*self._needles, *private)):
            self.found.add(f"{name}: environment")


def _parents() -> dict[int, int]:
    """The parent of each process that there is."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                status = Path(f"/proc/{entry}/stat").read_bytes()
            except OSError:
                continue
            found[int(entry)] = int(status.rpartition(b")")[2].split()[1])
    return found


def _descends(pid: int, parents: dict[int, int]) -> bool:
    while pid := parents.get(pid, 0):
        if pid == os.getpid():
            return True
    return False
