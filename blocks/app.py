"""An app: what to back up together, where to, and who can decrypt it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, field_validator

from blocks.destinations.base import Destination
from blocks.docker.engine import DockerName
from blocks.docker.guard import How
from blocks.hook import HOOK_SLUG, Hook, OnError, Side
from blocks.loading import block_name, load
from blocks.look import DOCUMENTATION_URL, LOGO_URL
from blocks.named_server import SERVER_PATTERN, server_named
from blocks.sources import SOURCES
from blocks.sources.base import Category, Source
from blocks.still import Still, found_still
from vault.codec import Codec
from vault.errors import ConfigError
from vault.record import BackupType
from vault.retention import RetentionPolicy
from vault.store import NAME_PATTERN, check_name

APP_SLUG = "backup-app"
_HOOK = f"^({HOOK_SLUG}/{NAME_PATTERN[1:-1]})?$"


class App(Block):
    """An app: its sources, its usual destinations, and how its backups are encoded and kept.

    Attributes:
        sources: Its sources, each as block-type-slug/name.
        destinations: Where its backups go, each as block-type-slug/name.
        recipients: The age public keys (age1…) to which its backups are encrypted.
        compression: How its backups are compressed.
        level: The level of compression.
        keep_last: How many backups of each type stay at each destination.
        parallel: How many of its databases, and then of its directories and volumes, are read at once.
        before: What is run on the worker before the first source is read, as shell-operation/name.
        before_timeout: Seconds after which that is killed.
        before_on_error: Whether the backup fails with it, or goes on and says so.
        after: What is run when the last source was read, or reading failed.
        after_timeout: Seconds after which that is killed.
        after_on_error: Whether the run fails with it; the backup itself is kept.
        consistent: Hold its containers still while it is read, so that rows and files fit exactly.
        containers: The containers to hold still; empty: those that use its Docker volumes.
        containers_on: The server of these containers; empty: that of its sources.
        hold: Whether they are stopped or paused.
        most_seconds_down: Seconds after which they are had back in any case; the backup then fails.

    Example:
        Load an app:
        ```python
        from blocks import App

        app = App.load("BLOCK_NAME")
        ```
    """

    _block_type_name: ClassVar[str | None] = "Backup App"
    _block_type_slug: ClassVar[str | None] = APP_SLUG
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL

    sources: list[str] = Field(
        description='Its sources, as a list: `["postgres-database/shop-db", "directory/shop-uploads"]`.'
    )
    destinations: list[str] = Field(
        default_factory=list,
        description='Where its backups go, as a list: `["local-destination/disk", "b2-destination/offsite"]`.',
    )
    recipients: list[str] = Field(
        default_factory=list,
        description='The age public keys to which its backups are encrypted, as a list: `["age1…"]`; none: in clear.',
    )
    compression: Literal["zstd", "gzip", "none"] = Field(default="zstd", description="How its backups are compressed.")
    level: int | None = Field(
        default=None, ge=1, le=19, description="The level of compression; empty means the fast default."
    )
    keep_last: int | None = Field(
        default=None,
        ge=1,
        description="How many backups of each type stay at each destination; empty keeps all.",
    )
    parallel: int = Field(
        default=2,
        ge=1,
        le=8,
        description="How many of its databases, and then of its directories and volumes, are read at once.",
    )

    before: str = Field(
        default="",
        pattern=_HOOK,
        description="What is run before it is read, as shell-operation/name; empty: nothing.",
    )
    before_timeout: float = Field(default=300, gt=0, description="Seconds after which that is killed.")
    before_on_error: OnError = Field(default="fail", description="What becomes of the backup when that fails.")
    after: str = Field(
        default="",
        pattern=_HOOK,
        description="What is run when all was read, or reading failed, as shell-operation/name; empty: nothing.",
    )
    after_timeout: float = Field(default=300, gt=0, description="Seconds after which that is killed.")
    after_on_error: OnError = Field(
        default="fail", description="What becomes of the run when that fails; the backup itself is kept."
    )

    consistent: bool = Field(
        default=False, description="Hold its containers still while it is read, so that rows and files fit exactly."
    )
    containers: list[DockerName] = Field(
        default_factory=list,
        description="The containers to hold still; empty: those that use its Docker volumes. Databases that are sources"
        " have to run on: do not name theirs.",
    )
    containers_on: str = Field(
        default="",
        pattern=SERVER_PATTERN.replace("^(", "^(|"),
        description="The server of these containers, as ssh-server/name, or local; empty: that of its sources.",
    )
    hold: How = Field(default="stop", description="How they are held still.")
    most_seconds_down: float = Field(
        default=3600, ge=1, description="Seconds after which they are had back in any case; the backup then fails."
    )

    @field_validator("sources", "destinations")
    @classmethod
    def _are_references(cls, refs: list[str]) -> list[str]:
        for ref in refs:
            slug, slash, name = ref.partition("/")
            if not (slug and slash):
                raise ValueError(f"{ref!r} is not of the form block-type-slug/name")
            try:
                check_name(name, "block")
            except ConfigError as error:
                raise ValueError(error.message) from error
        if len({block_name(ref) for ref in refs}) < len(refs):
            raise ValueError("two entries have the same name")
        return refs

    @property
    def codec(self) -> Codec:
        """How its artifacts are encoded."""
        return Codec(self.compression, self.level, tuple(self.recipients))

    @property
    def keep(self) -> RetentionPolicy | None:
        """Which of its backups stay; None keeps all."""
        return RetentionPolicy(keep_last=self.keep_last) if self.keep_last else None

    @property
    def type(self) -> BackupType:
        """The type of a backup of all that it has, for which only sources of an unknown kind are loaded."""
        kinds = [SOURCES.get(ref.partition("/")[0]) or load(ref, Source) for ref in self.sources]  # type: ignore[type-abstract]
        return _type({kind.category for kind in kinds})

    def load_hooks(self) -> dict[Side, Hook]:
        """What is run before and after it is read. ``ConfigError`` where a block is missing, or does not fit."""
        hooks: dict[Side, Hook] = {}
        if self.before:
            hooks["before"] = Hook.load("before", self.before, self.before_timeout, self.before_on_error)
        if self.after:
            hooks["after"] = Hook.load("after", self.after, self.after_timeout, self.after_on_error)
        return hooks

    def find_still(self, sources: Mapping[str, Source]) -> list[Still]:
        """The containers to hold still for a consistent backup of *sources*; see ``found_still``."""
        where = server_named(self.containers_on) if self.containers_on else None
        return found_still(sources, self.containers, where, self.hold, self.most_seconds_down)

    def load_sources(self, backup_type: BackupType | None) -> dict[str, Source]:
        """Its sources of *backup_type* by name, databases first, so that what rows name is in the files.

        ``None`` means all of them. ``ConfigError`` where there is none, or a block is missing.
        """
        sources = {block_name(ref): load(ref, Source) for ref in self.sources}  # type: ignore[type-abstract]
        wanted = ("database", "files") if backup_type in (None, "full") else (backup_type,)
        chosen = {
            name: source for category in wanted for name, source in sources.items() if source.category == category
        }
        if not chosen:
            raise ConfigError(f"the app has no {backup_type or ''} source".replace("  ", " "), "Add one to it.")
        return chosen


def type_of(sources: dict[str, Source]) -> BackupType:
    """The type of a backup of all of *sources*."""
    return _type({source.category for source in sources.values()})


def _type(categories: set[Category]) -> BackupType:
    return "full" if len(categories) > 1 else categories.pop()


def load_destinations(refs: list[str]) -> dict[str, Destination]:
    """Destinations by name; ``ConfigError`` where there is none, or a block is missing."""
    if not refs:
        raise ConfigError("no destination is named", "Give one with --to, or save one in the app.")
    return {block_name(ref): load(ref, Destination) for ref in refs}  # type: ignore[type-abstract]
