"""The promises every source keeps: what a dump is, and what a restore may do."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, BinaryIO, ClassVar, Literal, Self

from prefect.blocks.core import Block
from pydantic import AfterValidator, Field, JsonValue, field_validator

from blocks.servers import LocalServer
from blocks.ssh_server import SshServer
from vault.errors import ConfigError, SourceError, SpoolError
from vault.record import Artifact

ANOTHER_RUNS = (
    "Wait for its end. Where it is on a server whose line died without a word, it ends when sshd there notices that "
    "(ClientAliveInterval in sshd_config), or when you end the psql, mariadb or mysql that it has left there."
)
"""What to do about another restore that holds the lock."""

_BLOCK = 8 * 1024 * 1024

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

    @contextmanager
    def file(self) -> Iterator[Path]:
        """All of it in a file of this machine, proven; it is gone again at exit."""
        path = self.work / "restore"
        try:
            with self.open() as source:
                try:
                    with path.open("wb") as copy:
                        shutil.copyfileobj(source, copy, _BLOCK)
                except OSError as error:
                    raise SpoolError(
                        f"the dump cannot be written to {self.work}: {error.strerror}; the target was not touched",
                        "Free space there, or choose another work directory.",
                    ) from error
            yield path
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def hinting(hint: Callable[[], str]) -> Iterator[None]:
    """A tool's failure says also what *hint* finds that may be the reason; empty where it finds nothing."""
    try:
        yield
    except SourceError as error:
        found = hint() if type(error) is SourceError else ""
        if not found:
            raise
        raise SourceError(error.message, f"{error.remedy} {found}".strip()) from error


@dataclass(frozen=True)
class RestoreOptions:
    """What the operator allowed: replace what is there, make missing roles (accounts), restore with *jobs* at once.

    *paths* or *tables*, where given, are all that is restored; see ``Source.part``. *keep*: what is replaced stays
    under another name, where the target is of a kind that is backed up first (``Source.replaces``) and could not be.
    """

    overwrite: bool = False
    create_roles: bool = False
    jobs: int = 2
    paths: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    keep: bool = False


class Source(Block, ABC):
    """Something to back up; also the place to which its kind of artifact is restored.

    ``kind`` is what a record calls it. A source that a restore goes to is *the target itself*: it is made from
    what the operator typed, never from a field of a record (A15).
    """

    kind: ClassVar[str]
    category: ClassVar[Category]
    part: ClassVar[Literal["path", "table", ""]] = ""
    """Of what a restore may take some alone; empty where it takes all or nothing."""

    server: LocalServer | SshServer = Field(
        default_factory=LocalServer, description="The machine on which this source lies."
    )

    @field_validator("server", mode="before")
    @classmethod
    def _of_its_kind(cls, server: Any) -> Any:
        """A saved server comes as its fields, and blocks take any field: so what tells the two apart is looked for."""
        if isinstance(server, dict):
            fields = {name: value for name, value in server.items() if name != "block_type_slug"}  # see loading.load
            return (SshServer if "host" in fields else LocalServer).model_validate(fields)
        return server

    @property
    @abstractmethod
    def location(self) -> str:
        """Where this is, for a person: never with a secret in it."""

    def placed(self, place: str) -> str:
        """*place*, as it is called on this machine, or with the server on which it is."""
        return place if isinstance(self.server, LocalServer) else f"{place} on {self.server.location}"

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

    def check_part(self, options: RestoreOptions) -> None:
        """Raise ``ConfigError`` where *options* ask for a part that this kind does not have: never take all for it."""
        for part, names in (("path", options.paths), ("table", options.tables)):
            if names and self.part != part:
                raise ConfigError(
                    f"no {part} of a {self.kind} can be restored alone",
                    f"Take a --{self.part} of it, or all." if self.part else "Restore all of it.",
                )

    def replaces(self, options: RestoreOptions) -> bool:
        """Whether ``restore`` would put its content in the place of another in more than one step.

        Then what is there is backed up first, or kept.
        """
        return False

    @abstractmethod
    def scratch(self) -> AbstractContextManager[Source]:
        """A throw-away target of this kind beside this one, removed at exit."""

    def hurried(self) -> Self:
        """The same, with tools that give way to nobody: something is down, or somebody waits, until they have ended."""
        return self.model_copy(update={"server": self.server.hurried()}) if self.server.is_low else self

    @property
    def connects_to(self) -> str:
        """The host that its tools connect to, where that may be another than the one on which they run; else empty."""
        return ""

    def runs_in(self) -> tuple[str, ...]:
        """The containers without which it cannot be dumped, and which are never held still."""
        return ()

    @property
    def is_urgent(self) -> bool:
        """Whether something is down for as long as a dump is read: then no slow destination may hold it up."""
        return False

    @property
    def paths(self) -> tuple[Path, ...]:
        """Local paths that a dump reads: no destination or spool may lie in them (S19)."""
        return ()
