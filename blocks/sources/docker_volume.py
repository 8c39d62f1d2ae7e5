"""Docker volumes: what a directory's backup promises, with the containers that use the volume held still meanwhile."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, ClassVar, Literal, cast

from pydantic import Field, HttpUrl, field_validator

from blocks.docker.engine import DockerName, Volume, ask, containers_using, find_volume
from blocks.docker.guard import repair, stopped
from blocks.docker.helper import PLACE, helper
from blocks.look import DOCUMENTATION_URL, LOGO_URL
from blocks.servers import LocalServer
from blocks.sources.base import Category, Content, Dump, Facts, RestoreOptions, Source
from blocks.sources.tar import Patterns, Tar
from blocks.sources.tar_part import places_of
from blocks.sources.tree import Tree
from blocks.sources.tree_shell import ShellTree, tree_at
from vault.errors import BackupError, RestoreRefused, SourceError, Transient
from vault.streams import Ending

_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9_.:/@-]*")
_READ = ("readonly", "volume-nocopy")
_LABEL = "prefect-backups.restore"


class DockerVolume(Source):
    """
    A Docker volume, with all that is in it: owners, modes, links, holes and extended attributes, as for a directory.

    Attributes:
        volume: The name of the volume. It has to exist: a name that is none makes no new one.
        containers: What becomes of the containers that use it while it is read: they `run` on, or a `stop` or a
            `pause` holds them still. A process on their server has them back as soon as the volume is read, also
            when the worker or its connection dies meanwhile.
        most_seconds_down: After how many seconds they are had back in any case; the backup then fails.
        reach: How the volume is read: `direct` by its path on the server, for which the account needs root's rights;
            through a `helper` container; or `auto`, directly where that goes.
        helper_image: The image of that container. It has to be on the server, and to have GNU tar.
        exclude: What to leave out, as shell patterns: `*.tmp` at any depth, `/cache` only at the top.
        allow_unreadable: Make what cannot be read a warning; else it fails the backup.
        sparse: Keep holes in files as holes; else they are stored as zeros.
        min_entries: The fewest entries that the volume may have at its top; 0 allows an empty one.
        idle_timeout: After how many seconds without a sign of life tar is stopped.

    Example:
        Load a volume and check it:
        ```python
        from blocks import DockerVolume

        volume = DockerVolume.load("BLOCK_NAME")
        volume.check()
        ```
    """

    kind: ClassVar[str] = "docker-volume"
    category: ClassVar[Category] = "files"
    part: ClassVar[Literal["path", "table", ""]] = "path"

    _block_type_name: ClassVar[str | None] = "Docker Volume"
    _block_type_slug: ClassVar[str | None] = "docker-volume"
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL

    volume: DockerName = Field(description="The name of the volume, which has to exist.")
    containers: Literal["run", "stop", "pause"] = Field(
        default="run", description="What becomes of the containers that use the volume while it is read."
    )
    most_seconds_down: int = Field(
        default=3600, ge=1, description="Seconds after which containers that were stopped are had back in any case."
    )
    reach: Literal["auto", "direct", "helper"] = Field(
        default="auto", description="How the volume is read: by its path on the server, or through a helper container."
    )
    helper_image: str = Field(
        default="debian:stable-slim",
        description="The image of a helper container: it has to be on the server, and to have GNU tar.",
    )
    exclude: Patterns = Field(
        default_factory=list,
        description="Shell patterns of what to leave out: *.tmp at any depth, /cache only at the top.",
    )
    allow_unreadable: bool = Field(
        default=False, description="Make what cannot be read a warning, instead of failing the backup."
    )
    sparse: bool = Field(default=True, description="Keep holes in files as holes, instead of storing zeros.")
    min_entries: int = Field(
        default=1, ge=0, description="The fewest entries at the top of the volume; 0 allows an empty one."
    )
    idle_timeout: float = Field(
        default=600.0, gt=0, description="Seconds without a sign of life after which tar is stopped."
    )

    @field_validator("helper_image")
    @classmethod
    def _is_image(cls, image: str) -> str:
        if not _IMAGE.fullmatch(image):
            raise ValueError("must be the name of an image, such as debian:stable-slim")
        return image

    @property
    def location(self) -> str:
        """As it is typed: ``docker-volume:NAME``; and on which server."""
        return self.placed(f"docker-volume:{self.volume}")

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where the volume lies, if that is this machine."""
        found = find_volume(self.server, self.volume) if isinstance(self.server, LocalServer) else None
        return (Path(found.mountpoint),) if found and found.mountpoint else ()

    @property
    def is_urgent(self) -> bool:
        """Where containers are down meanwhile."""
        return self.containers != "run"

    # -- backup

    def check(self) -> str:
        """The volume is there and not suspiciously empty, and there is a GNU tar to read it with."""
        with self._seen(self._found()) as tree:
            return self._tar(tree).check()

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """See ``Source.dump``. Containers are down from before the first byte until the last one is read, no longer."""
        volume, warnings = self._found(), repair(self.server)
        users = containers_using(self.server, volume) if self.containers != "run" else []
        how: Literal["stop", "pause"] = "pause" if self.containers == "pause" else "stop"
        with (
            self._seen(volume) as tree,
            stopped(self.server, [one.id for one in users], how, self.most_seconds_down) as guard,
            self._tar(tree).dump() as dump,
        ):
            dump.stream = cast("BinaryIO", Ending(dump.stream, guard.release))
            yield dump
        dump.warnings += warnings + guard.warnings
        dump.facts["containers_down"] = list(guard.names)

    # -- restore

    def check_target(self, options: RestoreOptions) -> None:
        """Refuse a volume that must not be replaced, or may not be."""
        if volume := find_volume(self.server, self.volume):
            with self._target(volume, options) as tar:
                tar.check_target(options)
        else:
            places_of(options.paths)

    def restore(self, content: Content, options: RestoreOptions) -> Facts:
        """See ``Source.restore``. A volume that was not there is removed again where it fails; what is in another one
        stays until the new content is complete beside it, and only for the swap are its containers stopped. Parts are
        put into one in use while they run."""
        before = find_volume(self.server, self.volume)
        volume = before or self._made()
        try:
            with self._target(volume, options) as tar:
                return replace(tar, swapping=lambda: self._alone(volume)).restore(content, options)
        except BaseException:
            if before is None:
                with suppress(BackupError):  # the first error is the one to tell
                    ask(self.server, "volume", "rm", "--", self.volume)
            raise

    @contextmanager
    def scratch(self) -> Iterator[Source]:
        """A new volume beside this one."""
        name = f"{self.volume[:48]}-drill-{secrets.token_hex(6)}"
        other = self.model_copy(update={"volume": name, "containers": "run", "exclude": [], "min_entries": 0})
        try:
            yield other
        finally:
            if find_volume(self.server, name):
                ask(self.server, "volume", "rm", "--", name)

    @contextmanager
    def _target(self, volume: Volume, options: RestoreOptions) -> Iterator[Tar]:
        """*volume*, where it may be changed as *options* say."""
        if not volume.plain:
            raise RestoreRefused(
                f"volume {self.volume} is mounted from elsewhere, or of a plug-in: nothing in it can be swapped",
                "Restore to a volume of the driver `local` without options, or to a directory.",
            )
        with self._writable(volume) as tree:
            tar = self._tar(tree)
            if not tar.puts_parts(options):
                self._refuse_used(volume, options)
            yield tar

    def _refuse_used(self, volume: Volume, options: RestoreOptions) -> None:
        users = containers_using(self.server, volume)
        paused = [one.name for one in users if one.status != "running"]
        if paused:
            raise RestoreRefused(f"volume {self.volume} is used by {', '.join(paused)}, which is not just running")
        if users and not options.overwrite:
            names = ", ".join(one.name for one in users)
            raise RestoreRefused(
                f"volume {self.volume} is used by {names}", "Restore to a new one, or allow --overwrite: it stops them."
            )

    @contextmanager
    def _alone(self, volume: Volume) -> Iterator[None]:
        """Nobody uses *volume*: containers find by its path what is there when they start."""
        users = containers_using(self.server, volume)
        with stopped(self.server, [one.id for one in users], "stop", self.most_seconds_down):
            others = ", ".join(one.name for one in containers_using(self.server, volume))
            if others:
                raise RestoreRefused(f"volume {self.volume} is used by {others}", "Try again when it is not.")
            yield

    def _made(self) -> Volume:
        """A new volume, certainly made by us: ``docker volume create`` takes one that is there for a success."""
        token = secrets.token_hex(8)
        ask(self.server, "volume", "create", f"--label={_LABEL}={token}", "--", self.volume)
        volume = find_volume(self.server, self.volume)
        if volume is None or volume.labels.get(_LABEL) != token:
            raise RestoreRefused(f"volume {self.volume} was made by somebody else just now", "Try again.")
        return volume

    # -- where it is seen

    def _found(self) -> Volume:
        volume = find_volume(self.server, self.volume)
        if volume is None:
            what = f"there is no volume {self.volume} on {self.server.location}"
            raise SourceError(what, "See `docker volume ls` there.")
        return volume

    @contextmanager
    def _seen(self, volume: Volume) -> Iterator[Tree[Any]]:
        """The content of *volume*, to be read."""
        tree = tree_at(self.server, PurePosixPath(volume.mountpoint), self.location)
        if self._is_direct(volume, tree):
            yield tree
            return
        if volume.plain:  # unlike one of a volume, this mount never makes what is not there
            mount = ("type=bind", f"source={volume.mountpoint}", "readonly")
            with helper(self.server, self.helper_image, mount) as place:
                yield ShellTree(place, PurePosixPath(PLACE), self.location)
            return
        with helper(self.server, self.helper_image, ("type=volume", f"source={volume.name}", *_READ)) as place:
            tree = ShellTree(place, PurePosixPath(PLACE), self.location)
            made = self._found().plain and not tree.entries(1)  # by Docker, instead of one that is gone since we looked
            if not made:
                yield tree
        if made:
            ask(self.server, "volume", "rm", "--", volume.name)
            raise SourceError(f"volume {volume.name} was removed just now")

    @contextmanager
    def _writable(self, volume: Volume) -> Iterator[Tree[Any]]:
        """The directory that is *volume*, with room beside it for the one that is to take its place."""
        path = PurePosixPath(volume.mountpoint)
        tree = tree_at(self.server, path, self.location)
        if self._is_direct(volume, tree):
            yield tree
            return
        mount = ("type=bind", f"source={path.parent}")
        with helper(self.server, self.helper_image, mount, writes=True) as place:
            yield ShellTree(place, PurePosixPath(PLACE) / path.name, self.location)

    def _is_direct(self, volume: Volume, tree: Tree[Any]) -> bool:
        """Whether the path of *volume* is one of this server, of a daemon that runs there, and ours to read."""
        if self.reach == "helper" or not volume.plain:
            return False
        daemon = ask(self.server, "context", "inspect", "--format={{.Endpoints.docker.Host}}")
        if daemon.startswith("unix://") and (tree.is_root or self.reach == "direct"):
            try:
                tree.entries(1)
            except SourceError as error:
                if isinstance(error, Transient) or self.reach == "direct":
                    raise
            else:
                return True
        if self.reach == "direct":
            raise SourceError(f"the daemon of volume {self.volume} is not on {self.server.location}", "Use a helper.")
        return False

    def _tar(self, tree: Tree[Any]) -> Tar:
        return Tar(
            tree,
            self.location,
            exclude=tuple(self.exclude),
            allow_unreadable=self.allow_unreadable,
            sparse=self.sparse,
            min_entries=self.min_entries,
            idle_timeout=self.idle_timeout,
        )
