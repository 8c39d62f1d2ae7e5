"""The machines on which sources lie: where tools run, and where private files may be put."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl

from blocks.host import Priority, WithPriority
from blocks.look import DOCUMENTATION_URL, LOGO_URL
from vault import process
from vault.errors import SpoolError
from vault.process import Command, Completed, Tool
from vault.workspace import Workspace, default_root, sweep

SERVERS = ("ssh-server",)
"""The slug of every kind of server that is saved by a name."""


class LocalServer(Block, WithPriority):
    """
    This machine: the one on which the flow runs. Tools run here as the user of the worker.

    Attributes:
        temp_directory: Where private temporary files go, for instance the copy of an SQLite database.
            Empty: the work directory of the worker (`BACKUPS_WORK_DIR`).
        priority: Whether tools that read give way to others.

    Example:
        Use a larger disk for temporary files:
        ```python
        from blocks import LocalServer

        server = LocalServer.load("BLOCK_NAME")
        ```
    """

    _block_type_name: ClassVar[str | None] = "Local Server"
    _block_type_slug: ClassVar[str | None] = "local-server"
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL

    temp_directory: str = Field(
        default="",
        description="Directory for private temporary files; empty for the worker's work directory.",
    )
    priority: Priority = "normal"

    @property
    def location(self) -> str:
        """Where this is, for a person."""
        return "this machine"

    def run(self, command: Command, input: bytes = b"") -> Completed:
        """Run a short tool to its end and check it."""
        return process.run(self.own(command), input)

    def stream(self, command: Command) -> AbstractContextManager[Tool]:
        """Run a tool and read its output; a clean exit means that it ended well."""
        return process.stream(self.own(command))

    def feed(self, command: Command) -> AbstractContextManager[Tool]:
        """Run a tool and write its input; a clean exit means that it ended well."""
        return process.feed(self.own(command))

    def session(self, command: Command) -> AbstractContextManager[Tool]:
        """Talk with a tool; a clean exit means that it ended well."""
        return process.session(self.own(command))

    def which(self, tool: str) -> str | None:
        """The path of *tool*, or None."""
        return process.which(tool)

    def glob(self, pattern: str) -> list[str]:
        """The paths that fit *pattern*, sorted."""
        return sorted(glob.glob(pattern))

    @contextmanager
    def private_directory(self) -> Iterator[Path]:
        """A directory (0700) of this process, removed at exit; if we are killed, by the next run's sweep."""
        root = default_root()
        if self.temp_directory:  # the work directory itself is swept when a run begins
            root = Path(self.temp_directory).absolute()
            sweep(root)
        workspace = Workspace(root, "temporary")
        try:
            yield workspace.path
        finally:
            workspace.remove()

    @contextmanager
    def secret_file(self, text: str) -> Iterator[str]:
        """The path of a file (0600) that holds *text*, removed at exit: how a tool is given a password."""
        with self.private_directory() as directory:
            path = directory / "secret"
            try:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with open(fd, "w", encoding="utf-8", newline="") as file:
                    file.write(text)
            except OSError as error:
                raise SpoolError(f"{directory} cannot be written to: {error.strerror}") from error
            yield str(path)
