"""What to run, and what its end means, wherever it runs."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vault.errors import SourceError, SourceUnavailable, printable

_PACKAGES = {
    **dict.fromkeys(("psql", "pg_dump", "pg_restore"), "postgresql-client"),
    **dict.fromkeys(("redis-cli", "redis-check-rdb"), "redis-tools"),
    **dict.fromkeys(("tar", "zstd", "gzip", "age"), ""),
    "ssh": "openssh-client",
    "docker": "docker.io",
}

_SIGNALS = range(129, 193)

Priority = Literal["normal", "low"]
LOW = (("nice", "-n", "10"), ("ionice", "-c", "2", "-n", "7"))
"""What goes before a tool of low priority, where it is installed and works: a tenth of the processor that others get
when they want all of it, and the disk after them; neither waits until nobody else wants anything."""
LOWERING = "low=; " + "".join(f'{way} true 2>/dev/null && low="$low {way}"; ' for way in map(" ".join, LOW))
"""The same for a shell: sets ``low`` to what goes before a tool."""


@dataclass(frozen=True)
class Command:
    """What to run, and how to judge it.

    ``env`` is added to the allow-listed environment. ``idle_timeout``: seconds without output (or, for one
    that is fed, without taking input) after which it is stopped; None: never. ``ok``: exit codes that are
    success. ``transient``: a regular expression; stderr that matches it says that trying again may help.
    ``priority``: ``low`` gives way to what else wants processors (``nice``) and disks (``ionice``), see ``LOW``.
    """

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    idle_timeout: float | None = 600.0
    cwd: str | None = None
    ok: frozenset[int] = frozenset({0})
    transient: str = ""
    priority: Priority = "normal"

    @property
    def name(self) -> str:
        """The tool's name, for messages."""
        return printable(os.path.basename(self.argv[0]))


@dataclass(frozen=True)
class Completed:
    """What a short tool wrote."""

    stdout: bytes
    warnings: tuple[str, ...]


def judge(command: Command, code: int, warnings: Sequence[str]) -> None:
    """Raise what a tool's exit code means, negative for a signal, and what it said; pass where it means success."""
    if code in command.ok:
        return
    name, said = command.name, "\n".join(warnings) or "it said nothing on stderr"
    if code < 0:
        raise SourceUnavailable(f"{name} was killed by {_signal_name(-code)}: {said}")
    message = f"{name} failed with exit code {code}: {said}"
    if command.transient and re.search(command.transient, said):
        raise SourceUnavailable(message)
    raise SourceError(message)


def exit_code(status: int) -> int:
    """The exit code behind a shell's *status*, which says by 128 + n that signal n ended a tool: then it is -n."""
    return 128 - status if status in _SIGNALS else status


def judge_by_shell(command: Command, code: int, warnings: Sequence[str], missing: re.Pattern[str], where: str) -> None:
    """As ``judge``, for a tool that a shell has started: what it says where there is none fits *missing*."""
    if code in (126, 127) and code not in command.ok and missing.search("\n".join(warnings)):
        raise not_installed(command, where)
    judge(command, code, warnings)


def silent(command: Command) -> SourceUnavailable:
    """That a tool was stopped since it showed no sign of life for too long."""
    return SourceUnavailable(
        f"{command.name} showed no sign of life for {command.idle_timeout:g} seconds and was stopped",
        "Look at what holds it up (a lock? the network?), or raise the idle timeout.",
    )


def not_installed(command: Command, where: str = "") -> SourceError:
    """That a tool is missing; *where* is put behind that, such as " on web1"."""
    package = _PACKAGES.get(command.name, "") or command.name
    return SourceError(
        f"{printable(command.argv[0])} is not installed{where}, or not to be executed",
        f"Install it (Debian, Ubuntu: apt-get install {package}), or put it on PATH.",
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
