"""Hooks: the operator's own commands before and after an app is read, from a ``ShellOperation`` block of prefect-shell.

The block says what is run; how is ours. Left to itself it takes ``false | true`` and a list whose last
command succeeds for success, knows no timeout, and hands the whole environment of the worker on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prefect_shell import ShellOperation

from blocks.loading import block_name, load
from vault import process
from vault.errors import ConfigError, HookFailed, SourceError
from vault.process import Command

Side = Literal["before", "after"]
OnError = Literal["fail", "continue"]

HOOK_SLUG = "shell-operation"
_SHELLS = ("bash", "zsh", "ksh")
"""Those that can be told to fail where any part of a pipeline does."""
_SHORTEST_SECRET = 6


@dataclass(frozen=True)
class Hook:
    """Commands to run before or after an app is read; *timeout* in seconds."""

    side: Side
    name: str
    operation: ShellOperation
    timeout: float
    on_error: OnError

    @classmethod
    def load(cls, side: Side, ref: str, timeout: float, on_error: OnError) -> Hook:
        """The hook that is saved as *ref*; ``ConfigError`` where it is missing, or could hide a failure."""
        operation = load(ref, ShellOperation)
        if (operation.shell or "bash") not in _SHELLS:
            raise ConfigError(
                f"hook {block_name(ref)} is run by {operation.shell!r}, in which a command that fails may not be seen",
                f"Let its block's shell be empty (bash), or one of {', '.join(_SHELLS)}.",
            )
        return cls(side, block_name(ref), operation, timeout, on_error)

    def run(self, directory: Path, told: Mapping[str, str]) -> None:
        """Run it, with *told* in its environment. Who listens (``vault.said``) hears what it says.

        ``HookFailed`` unless each command, and each part of a pipeline, succeeded within the timeout; nothing that it
        has started outlives it.
        """
        script = directory / f"hook-{self.side}"
        self._write(script)
        command = Command(
            (self.operation.shell or "bash", "-eo", "pipefail", str(script)),
            env={**told, **self.operation.env},
            secrets=tuple(value for value in self.operation.env.values() if len(value) >= _SHORTEST_SECRET),
            idle_timeout=None,
            cwd=str(self.operation.working_dir) if self.operation.working_dir else None,
        )
        late = threading.Event()
        with ExitStack() as timers:
            try:
                with process.feed(command) as tool:
                    timer = threading.Timer(self.timeout, _end, (tool, late))
                    timers.callback(timer.cancel)
                    timer.start()
            except SourceError as error:
                what = f"took longer than {self.timeout:g} s and was killed" if late.is_set() else "failed"
                raise HookFailed(
                    f"the {self.side} hook {self.name} {what}: {error.message}",
                    "Correct its commands, or its timeout; or let the backup go on without it (on_error: continue).",
                ) from error

    def _write(self, script: Path) -> None:
        """All its output goes one way, in the order in which it was written."""
        fd = os.open(script, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write("\n".join(["exec 1>&2", *self.operation.commands, ""]))


def _end(tool: process.Tool, late: threading.Event) -> None:
    late.set()
    tool.kill()
