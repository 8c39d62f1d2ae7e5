"""The file that a Redis server reads when it starts: where a dump of Redis is restored to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import ClassVar

from pydantic import Field, HttpUrl

from blocks.docker.container import host_of
from blocks.docker.engine import OptionalDockerName
from blocks.files import put
from blocks.host import Host
from blocks.look import DOCUMENTATION_URL, LOGO_URL
from blocks.servers import LocalServer
from blocks.sources.base import AbsolutePath, Category, Content, Dump, Facts, RestoreOptions, Source
from blocks.sources.redis_check import RESTORE_WITH, TOOL, checked, complaint, facts_of
from blocks.sources.tree_shell import tree_at
from vault.errors import Corrupt, RestoreRefused, SourceError, printable
from vault.milestone import milestone
from vault.process import Command

_REFUSALS = {
    "orphan": ("cannot be made: its directory does not exist", "Make the directory first."),
    "denied": ("cannot be made: its directory is not ours to write to", ""),
    "other": ("is not a plain file", "Give the path of a file."),
    "full": ("exists already", "Restore to another path, or allow it to be replaced (--overwrite)."),
    "busy": (
        "lies in the working directory of a running Redis, which writes its own content there when it ends",
        "Stop the server first.",
    ),
}
_CHECK = r"""
target=$1; parent=$2; overwrite=$3
[ -d "$parent" ] || { echo orphan; exit; }
[ -w "$parent" ] && [ -x "$parent" ] || { echo denied; exit; }
if [ -e "$target" ] || [ -L "$target" ]; then
    [ -f "$target" ] && [ ! -L "$target" ] || { echo other; exit; }
    [ "$overwrite" = yes ] || { echo full; exit; }
fi
# The same directory, not the same path: in a container it has another one.
for one in /proc/[0-9]*; do
    [ "$one/cwd" -ef "$parent" ] || continue
    case $(tr '\0' ' ' < "$one/cmdline" 2>/dev/null) in *redis-server*|*valkey-server*) echo busy; exit ;; esac
done
"""
# Its owner is that of the file it replaces, or of the directory: a server has to be able to read it.
_PLACE = r"""
new=$1; target=$2; parent=$3; overwrite=$4; like=$parent
[ ! -f "$target" ] || like=$target
[ "$(id -u)" != 0 ] || chown --reference="$like" -- "$new" || exit
[ "$like" = "$parent" ] || chmod --reference="$like" -- "$new" || exit
if [ "$overwrite" = yes ]; then mv -T -f -- "$new" "$target" || exit
elif ! ln -T -- "$new" "$target" 2>/dev/null; then
    [ ! -e "$target" ] && [ ! -L "$target" ] || { echo full; exit; }
    mv -T -n -- "$new" "$target" || exit
fi
sync -- "$parent" 2>/dev/null || sync
"""


class RedisFile(Source):
    """
    A dump file of a Redis server that does not run: the place to which a backup of Redis is restored.

    Attributes:
        path: The file, as an absolute path.
        container: The Docker container in which it lies, and Redis's tools are run; empty where it lies in none.

    Example:
        Load a dump file and check it:
        ```python
        from blocks import RedisFile

        file = RedisFile.load("BLOCK_NAME")
        file.check()
        ```
    """

    kind: ClassVar[str] = "redis"
    category: ClassVar[Category] = "database"

    _block_type_name: ClassVar[str | None] = "Redis File"
    _block_type_slug: ClassVar[str | None] = "redis-file"
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL

    path: AbsolutePath = Field(description="The file, as an absolute path.")
    container: OptionalDockerName = Field(
        default="", description="The Docker container in which it lies, and Redis's tools are run; or empty."
    )

    @property
    def location(self) -> str:
        """The path, and on which server."""
        return self.placed(printable(str(self.path)) + (f" in container {self.container}" if self.container else ""))

    def runs_in(self) -> tuple[str, ...]:
        """See ``Source.runs_in``."""
        return (self.container,) if self.container else ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file, where it is on this machine."""
        return (self.path,) if self._place is self.server and isinstance(self.server, LocalServer) else ()

    def check(self) -> str:
        """It is there, and Redis's own check reads it to its end."""
        self._facts(self.path)
        return (
            self._place.run(Command((TOOL, "--version"), idle_timeout=30, ok=frozenset({0, 1}))).stdout.decode().strip()
        )

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """See ``Source.dump``. The proof is that of a dump from a server."""
        tool = self.check()
        with self._place.stream(Command(("cat", "--", str(self.path)))) as cat:
            dump = Dump(cat.stdout, "rdb", tool, RESTORE_WITH)
            with checked(self._place, dump, 600.0, cat.finish):
                yield dump

    def check_target(self, options: RestoreOptions) -> None:
        """See ``Source.check_target``. The directory of a running server is refused."""
        self._ask(_CHECK, str(self.path), str(self.path.parent), "yes" if options.overwrite else "no")

    def restore(self, content: Content, options: RestoreOptions) -> Facts:
        """See ``Source.restore``. The file is complete, checked and on disk before it gets its name."""
        self.check_target(options)
        tree = tree_at(self._place, self.path)
        with tree.staging() as place, content.open() as stream:
            new = place / "new"
            put(self._place, stream, new)
            tree.sync(place)
            facts = self._proven(new, content)
            milestone("restore:before-swap")
            overwrite = "yes" if options.overwrite else "no"
            self._ask(_PLACE, str(new), str(self.path), str(self.path.parent), overwrite)
            milestone("restore:after-swap")
        return facts

    @contextmanager
    def scratch(self) -> Iterator[Source]:
        """A file in a private directory, removed at exit."""
        with self._place.private_directory() as directory:
            yield RedisFile(server=self.server, path=Path(directory / "scratch.rdb"), container=self.container)

    @property
    def _place(self) -> Host:
        return host_of(self.server, self.container)

    def _proven(self, new: PurePath, content: Content) -> Facts:
        facts, recorded = self._facts(new), content.artifact.facts
        if recorded.get("keys", facts["keys"]) != facts["keys"]:
            raise Corrupt(
                f"{content.artifact.key} holds {facts['keys']} keys; its record says {recorded['keys']}",
                f"{self.location} was not touched. Restore an older backup.",
            )
        return facts

    def _facts(self, path: PurePath) -> Facts:
        """What Redis's own check finds in the file at *path*; ``SourceError`` where that is not sound."""
        found = self._place.run(Command((TOOL, str(path)), idle_timeout=None, ok=frozenset({0, 1})))
        said = found.stdout.decode(errors="replace")
        if "RDB looks OK!" not in said:
            raise SourceError(f"{printable(str(path))} is no sound dump of Redis: {complaint(said)}")
        return facts_of(said)

    def _ask(self, script: str, *arguments: str) -> None:
        """Run a shell *script*; a word of refusal is raised."""
        done = self._place.run(Command(("sh", "-c", script, "sh", *arguments), idle_timeout=None))
        word = done.stdout.decode(errors="replace").strip()
        if word:
            raise RestoreRefused(f"{self.location} {_REFUSALS[word][0]}", _REFUSALS[word][1])
