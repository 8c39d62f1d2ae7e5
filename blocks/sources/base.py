"""The promises every source keeps: what a dump is, and what a restore may do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, BinaryIO, ClassVar, Literal

from prefect.blocks.core import Block
from pydantic import AfterValidator, Field, JsonValue

from blocks.servers import LocalServer
from vault.record import Artifact

Category = Literal["database", "files"]
Facts = dict[str, JsonValue]


def _absolute(path: Path) -> Path:
    path = path.expanduser()
    if not path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise ValueError("must be an absolute path without '..'")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
"""A path from the root, as a field; ``~`` is the home of whoever saves it."""


@dataclass
class Dump:
    """One dump while it runs. ``warnings`` and ``facts`` are complete once its context has ended.

    ``extension`` names the plain format (``pgdump``, ``tar`` …), ``tool`` the tool and server versions, and
    ``restore_with`` is the shell command that restores the plain stream from its standard input.
    """

    stream: BinaryIO
    extension: str
    tool: str
    restore_with: str
    warnings: list[str] = field(default_factory=list)
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Content:
    """An artifact to restore. Its record is authenticated, and so are the fetched bytes, by digest.

    ``open`` gives the plain stream from its start, as often as wanted; reading it to its end proves it against
    the record (``Corrupt`` else). ``work`` is a private directory (0700) for what must lie on disk.
    """

    artifact: Artifact
    open: Callable[[], AbstractContextManager[BinaryIO]]
    work: Path


@dataclass(frozen=True)
class RestoreOptions:
    """What the operator allowed: replace what is there, make missing roles, restore with *jobs* at once."""

    overwrite: bool = False
    create_roles: bool = False
    jobs: int = 2


class Source(Block, ABC):
    """Something to back up; also the place to which its kind of artifact is restored.

    ``kind`` is what a record calls it. A source that a restore goes to is *the target itself*: it is made from
    what the operator typed, never from a field of a record (A15).
    """

    kind: ClassVar[str]
    category: ClassVar[Category]

    server: LocalServer = Field(default_factory=LocalServer, description="The machine on which this source lies.")

    @property
    @abstractmethod
    def location(self) -> str:
        """Where this is, for a person: never with a secret in it."""

    @abstractmethod
    def check(self) -> str:
        """Reachable, the names exist, the client fits the server. Returns tool and server in one line."""

    @abstractmethod
    def dump(self) -> AbstractContextManager[Dump]:
        """Read the source once, as a stream. A clean exit of the context IS the proof that it is whole.

        The caller reads ``Dump.stream`` to its end before it leaves. Raises ``SourceError``,
        ``IncompleteDump``, ``SourceUnavailable``; leaving early ends the tool.
        """

    @abstractmethod
    def restore(self, content: Content, options: RestoreOptions) -> Facts:
        """Make this place hold *content*, or leave it exactly as it was and raise.

        Refuses a target that holds something (``RestoreRefused``) unless ``options.overwrite``; then what was
        there stays until the new is complete. Returns facts of what is there now.
        """

    @abstractmethod
    def check_target(self, options: RestoreOptions) -> None:
        """What ``restore`` would refuse for the target's sake, found before a byte is fetched."""

    @abstractmethod
    def scratch(self) -> AbstractContextManager[Source]:
        """A throw-away target of this kind beside this one, removed at exit."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """Local paths that a dump reads: no destination or spool may lie in them (S19)."""
        return ()
