"""Tools that outlive their run: each carries a mark of the process that started it, so that the next run finds them.

The kernel kills a tool when the thread ends that started it; what the tool itself has started, it does not.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

MARK = "BACKUPS_RUN_PID"
"""The variable in the environment of each tool."""


def run_mark() -> str:
    """What marks the tools and private directories of this process: its id, start time and pid namespace."""
    return f"{os.getpid()}-{_started(os.getpid())}-{_pid_namespace()}"


def is_alive(mark: str) -> bool:
    """Whether the process that *mark* names still runs. One that we cannot see counts as alive."""
    pid, _, rest = mark.partition("-")
    started, _, namespace = rest.partition("-")
    if not (pid.isdecimal() and started.isdecimal()) or namespace != _pid_namespace():
        return True
    return _started(int(pid)) == int(started)


def children() -> set[int]:
    """The processes that this one has started, by whichever thread, and that have not been waited for."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends right now
            found |= {*map(int, (task / "children").read_text().split())}
    return found


def sweep_orphans() -> list[int]:
    """Kill the tools that dead runs of this user left behind; returns their process groups."""
    swept = set()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):  # it ended meanwhile, or is not ours to read
            mark = _mark_of(pid)
            group = os.getpgid(int(pid))
            if mark is not None and not is_alive(mark) and group != os.getpgrp():
                os.killpg(group, signal.SIGKILL)
                swept.add(group)
    return sorted(swept)


def _mark_of(pid: str) -> str | None:
    if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
        return None
    with open(f"/proc/{pid}/environ", "rb") as file:
        for entry in file.read().split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name == MARK.encode():
                return value.decode(errors="replace")
    return None


def _started(pid: int) -> int | None:
    """When process *pid* started, in clock ticks since boot; None when it is dead."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _pid_namespace() -> str:
    return os.readlink("/proc/self/ns/pid").strip("pid:[]")
