"""What still runs on this machine on behalf of a process that was killed."""

from __future__ import annotations

import os
import select
from pathlib import Path

from vault.orphans import MARK


def descendants_of(pid: int) -> list[int]:
    """The tools that process *pid* started, found by the mark in their environment, also after its death."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            marks = [e for e in (entry / "environ").read_bytes().split(b"\0") if e.startswith(f"{MARK}=".encode())]
        except OSError:
            continue
        if any(mark.decode().partition("=")[2].split("-")[0] == str(pid) for mark in marks):
            found.append(int(entry.name))
    return found


def descendants_gone(pid: int, seconds: float = 300.0) -> None:
    """Wait until each tool that *pid* started has ended; fail when one lives on."""
    for child in descendants_of(pid):
        try:
            handle = os.pidfd_open(child)
        except ProcessLookupError:
            continue
        try:
            ended, _, _ = select.select([handle], [], [], seconds)
            assert ended, f"process {child} outlived the run that started it"
        finally:
            os.close(handle)
