"""Directories, of this machine or of a server: see ``blocks.sources.tar``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, HttpUrl, field_validator

from blocks.look import DOCUMENTATION_URL, LOGO_URL
from blocks.servers import LocalServer
from blocks.sources.base import AbsolutePath, Category, Content, Dump, Facts, RestoreOptions, Source
from blocks.sources.tar import Patterns, Tar
from blocks.sources.tree_shell import tree_at
from vault.errors import printable


class Directory(Source):
    """
    A directory, with all that is in it.

    Hard links, sparse files, owners, modes, ACLs, extended attributes and times are kept. FIFOs are kept and
    never opened; sockets are skipped with a warning; a device file fails the backup. What vanishes or changes
    while it is read is a warning.

    Attributes:
        path: The directory, as an absolute path. If it is a symbolic link, that to which it points is backed up.
        exclude: What to leave out, as shell patterns: `*.tmp` or `cache/old` at any depth, `/cache` only at
            the top. `*` does not match a slash, and `\\` takes the next character literally.
        one_file_system: Do not descend into other file systems that are mounted below.
        allow_unreadable: Make what cannot be read a warning; else it fails the backup.
        sparse: Keep holes in files as holes; else they are stored as zeros. A file system that does not tell
            holes from data fails the backup: there, switch this off.
        sentinel: A path below the directory that must exist, as a sign that the right disk is mounted.
        min_entries: The fewest entries that the directory may have at its top; 0 allows an empty one.
        idle_timeout: After how many seconds without a sign of life tar is stopped.

    Example:
        Load a directory and check it:
        ```python
        from blocks import Directory

        directory = Directory.load("BLOCK_NAME")
        directory.check()
        ```
    """

    kind: ClassVar[str] = "directory"
    category: ClassVar[Category] = "files"
    part: ClassVar[Literal["path", "table", ""]] = "path"

    _block_type_name: ClassVar[str | None] = "Directory"
    _block_type_slug: ClassVar[str | None] = "directory"
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL

    path: AbsolutePath = Field(description="The directory, as an absolute path.")
    exclude: Patterns = Field(
        default_factory=list,
        description='What to leave out, as a list of shell patterns: `["*.tmp", "/cache"]`; `/`: only at the top.',
    )
    one_file_system: bool = Field(default=False, description="Do not descend into file systems mounted below.")
    allow_unreadable: bool = Field(
        default=False, description="Make what cannot be read a warning, instead of failing the backup."
    )
    sparse: bool = Field(default=True, description="Keep holes in files as holes, instead of storing zeros.")
    sentinel: str = Field(
        default="", description="A path below the directory that must exist, as a sign that its disk is mounted."
    )
    min_entries: int = Field(
        default=1, ge=0, description="The fewest entries at the top of the directory; 0 allows an empty one."
    )
    idle_timeout: float = Field(
        default=600.0, gt=0, description="Seconds without a sign of life after which tar is stopped."
    )

    @field_validator("sentinel")
    @classmethod
    def _is_below(cls, sentinel: str) -> str:
        if sentinel.startswith("/") or ".." in Path(sentinel).parts or "\0" in sentinel:
            raise ValueError("must be a path below the directory")
        return sentinel

    @property
    def location(self) -> str:
        """The path, and on which server."""
        return self.placed(printable(str(self.path)))

    @property
    def paths(self) -> tuple[Path, ...]:
        """The directory, where it is on this machine."""
        return (self.path,) if isinstance(self.server, LocalServer) else ()

    def check(self) -> str:
        """It is there, and not suspiciously empty; tar is GNU tar."""
        return self._tar.check()

    def dump(self) -> AbstractContextManager[Dump]:
        """See ``Source.dump``. The proof: tar ended well, and its archive is one that ``restore`` takes."""
        return self._tar.dump()

    def check_target(self, options: RestoreOptions) -> None:
        """Refuse what must not be replaced, or may not."""
        self._tar.check_target(options)

    def restore(self, content: Content, options: RestoreOptions) -> Facts:
        """See ``Source.restore``."""
        return self._tar.restore(content, options)

    @contextmanager
    def scratch(self) -> Iterator[Source]:
        """A new directory beside this one."""
        with self._tar.tree.staging() as place:
            yield Directory(path=Path(place / "scratch"), server=self.server, min_entries=0)

    @property
    def _tar(self) -> Tar:
        return Tar(
            tree_at(self.server, self.path),
            self.location,
            tuple(self.exclude),
            self.one_file_system,
            self.allow_unreadable,
            self.sparse,
            self.sentinel,
            self.min_entries,
            self.idle_timeout,
        )
