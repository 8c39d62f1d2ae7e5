"""What the system says of the priority of a process."""

from __future__ import annotations

import os
import subprocess


def priority_of(pid: int) -> tuple[int, str]:
    """Its nice value, and how it shares the disks."""
    nice = subprocess.run(["ps", "-o", "ni=", "-p", str(pid)], capture_output=True, check=True, text=True).stdout
    io = subprocess.run(["ionice", "-p", str(pid)], capture_output=True, check=True, text=True).stdout
    return int(nice), io.strip()


NORMAL = priority_of(os.getpid())
LOW = (NORMAL[0] + 10, "best-effort: prio 7")
