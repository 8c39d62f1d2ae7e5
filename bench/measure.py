"""Measure whole processes in paired rounds of random order, and print ratios. Figures, no verdicts."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """One run: wall and CPU seconds (of the command and all it waited for), peak memory of its largest process."""

    wall: float
    cpu: float
    peak_mib: float


def measure(argv: Sequence[str], env: Mapping[str, str] | None = None) -> Cost:
    """Run *argv* to its end; a failure of it is an error here too."""
    began = time.monotonic()
    with (Path("/tmp") / f"bench-{os.getpid()}.log").open("w+b") as log:  # noqa: S108 - our own scratch file
        process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - began
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"{argv} failed: {log.read()[-3000:].decode(errors='replace')}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def shell(line: str) -> list[str]:
    """A shell pipeline whose failing parts are not ignored."""
    return ["bash", "-euo", "pipefail", "-c", line]


def rounds(
    candidates: Mapping[str, Callable[[], Cost]],
    count: int,
    *,
    seed: int = 1,
    between: Callable[[], None] = lambda: None,
) -> dict[str, list[Cost]]:
    """Each candidate once a round, in an order that is shuffled anew for each round."""
    order = random.Random(seed)  # noqa: S311 - an order, no secret
    costs: dict[str, list[Cost]] = {name: [] for name in candidates}
    for number in range(1, count + 1):
        names = list(candidates)
        order.shuffle(names)
        for name in names:
            between()
            cost = candidates[name]()
            costs[name].append(cost)
            print(f"round {number}/{count}  {name:<28} {cost.wall:8.2f} s", flush=True)
    return costs


def report(costs: Mapping[str, Sequence[Cost]], base: str, *, less: Mapping[str, float] | None = None) -> None:
    """A line a candidate: wall as a multiple of *base* in the same round (min, median, max), CPU-s, peak MiB.

    *less*: seconds of fixed cost that are taken off a candidate's wall time first.
    """
    off = less or {}
    print(f"\n{'':<28} {'x ' + base:>24} {'wall s':>8} {'CPU s':>8} {'peak MiB':>9}")
    for name, runs in costs.items():
        ratios = [(run.wall - off.get(name, 0.0)) / first.wall for run, first in zip(runs, costs[base], strict=True)]
        spread = f"{statistics.median(ratios):.2f} [{min(ratios):.2f} to {max(ratios):.2f}]"
        wall = statistics.median(run.wall for run in runs)
        cpu = statistics.median(run.cpu for run in runs)
        peak = max(run.peak_mib for run in runs)
        print(f"{name:<28} {spread:>24} {wall:8.2f} {cpu:8.2f} {peak:9.0f}", flush=True)


def between_two(costs: Mapping[str, Sequence[Cost]], slow: str, fast: str, fixed: float = 0.0) -> str:
    """How many times faster *fast* is than *slow*, its *fixed* seconds apart: median and range over the rounds."""
    ratios = [a.wall / (b.wall - fixed) for a, b in zip(costs[slow], costs[fast], strict=True)]
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f} to {max(ratios):.2f}]"
