"""A place where tools run, whatever lies between it and us: this machine, a server over SSH, a container.

Sources are written against this and nothing else: what is not a tool's work on a host is not theirs to do. Paths on a
host are not ours to open; they are ``PurePath`` or ``str``.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, BinaryIO, Protocol, Self

from pydantic import Field

from vault import command
from vault.process import Command, Completed

Priority = Annotated[
    command.Priority,
    Field(description="low: tools that read give way to whatever else wants the machine's processors and disks."),
]


class RunningTool(Protocol):
    """A tool that runs. ``stdin`` and ``stdout`` exist as the method that started it says."""

    @property
    def stdin(self) -> BinaryIO:
        """Its input: a write is whole, or raises what became of the tool."""

    @property
    def stdout(self) -> BinaryIO:
        """Its output, buffered: it has ``readinto1``, which waits for something but not for all."""

    @property
    def warnings(self) -> list[str]:
        """The last lines of its stderr, without secrets. Complete once it has ended."""

    @property
    def exit_code(self) -> int | None:
        """Its exit code, None while it runs, negative when a signal killed it."""

    def finish(self) -> None:
        """Wait for its end and check its status."""

    def kill(self) -> None:
        """Kill it, and whatever it started."""


class Host(ABC):
    """Where tools run and private files may be put.

    It promises: a command is an argv, which no shell changes; its environment is what ``Command.env`` says and little
    else; its exit status is always checked; the tail of its stderr is kept in bounded memory; and when the run ends,
    for whatever reason, the tool ends too. Errors are those of ``vault.process``; what lies in between fails as
    ``SourceUnavailable`` where it may pass.
    """

    @property
    @abstractmethod
    def location(self) -> str:
        """Where this is, for a person."""

    @abstractmethod
    def run(self, command: Command, input: bytes = b"") -> Completed:
        """Run a short tool to its end and check it."""

    @abstractmethod
    def stream(self, command: Command) -> AbstractContextManager[RunningTool]:
        """Run a tool and read its output; a clean exit means that it ended well and was read to its end."""

    @abstractmethod
    def feed(self, command: Command) -> AbstractContextManager[RunningTool]:
        """Run a tool and write its input; a clean exit means that it took everything, and ended well.

        When we fail first, or are cut off from it, it is killed before it could take what it has for all there is.
        Only on this machine itself, when we are killed, may the end of the pipe come before the end of the tool: so
        nothing may be final for a tool because its input ends.
        """

    @abstractmethod
    def session(self, command: Command) -> AbstractContextManager[RunningTool]:
        """Talk with a tool; a clean exit means that it ended well. Its input ends as in ``feed``."""

    @abstractmethod
    def which(self, tool: str) -> str | None:
        """The path of *tool*, or None."""

    @abstractmethod
    def glob(self, pattern: str) -> list[str]:
        """The paths that fit *pattern*, sorted."""

    @abstractmethod
    def private_directory(self) -> AbstractContextManager[PurePath]:
        """A directory (0700) of this process, removed at exit; if we are killed, by itself or by the next run."""

    @abstractmethod
    def secret_file(self, text: str) -> AbstractContextManager[str]:
        """The path of a file (0600) that holds *text*, removed at exit: how a tool is given a password."""

    @property
    def is_low(self) -> bool:
        """Whether its tools give way to others."""
        return False

    def hurried(self) -> Self:
        """The same place, where tools give way to nobody: somebody waits for them."""
        return self

    def own(self, command: Command) -> Command:
        """*command* at the priority of this place."""
        return replace(command, priority="low") if self.is_low else command

    @property
    def limit(self) -> str:
        """The name of Prefect's global concurrency limit for dumps on it; empty where there is none, as here."""
        return ""

    def turn(
        self, waiting: Callable[[], None] = lambda: None, pause: Callable[[float], object] = time.sleep
    ) -> AbstractContextManager[None]:
        """The right to run one dump on it, for which one waits where it has a limit: see ``blocks.turns.turn``."""
        return nullcontext()


class WithPriority(Host):
    """A place that is saved as a block, with a field ``priority``."""

    if TYPE_CHECKING:  # it is the block's own, so that forms have it where it belongs
        priority: Priority

    @property
    def is_low(self) -> bool:
        """See ``Host.is_low``."""
        return self.priority == "low"

    def hurried(self) -> Self:
        """See ``Host.hurried``."""
        same = copy(self)
        same.priority = "normal"
        return same
