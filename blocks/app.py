"""An app: what to back up together, where to, and who can decrypt it."""

from __future__ import annotations

from typing import ClassVar, Literal

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, field_validator

from blocks.destinations.base import Destination
from blocks.loading import block_name, load
from blocks.look import DOCUMENTATION_URL, LOGO_URL
from blocks.sources.base import Source
from vault.codec import Codec
from vault.errors import ConfigError
from vault.record import BackupType
from vault.store import check_name


class App(Block):
    """An app: its sources, its usual destinations, and how its backups are encoded and kept.

    Attributes:
        sources: Its sources, each as block-type-slug/name.
        destinations: Where its backups go, each as block-type-slug/name.
        recipients: The age public keys (age1…) to which its backups are encrypted.
        compression: How its backups are compressed.
        level: The level of compression.
        keep_last: How many backups of each type stay at each destination.

    Example:
        Load an app:
        ```python
        from blocks import App

        app = App.load("BLOCK_NAME")
        ```
    """

    _block_type_name: ClassVar[str | None] = "Backup App"
    _block_type_slug: ClassVar[str | None] = "backup-app"
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL

    sources: list[str] = Field(
        description="Its sources, each as block-type-slug/name, such as postgres-database/shop-db."
    )
    destinations: list[str] = Field(
        default_factory=list,
        description="Where its backups go, each as block-type-slug/name, such as local-destination/disk.",
    )
    recipients: list[str] = Field(
        default_factory=list,
        description="The age public keys (age1…) to which its backups are encrypted; none means no encryption.",
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
    categories = {source.category for source in sources.values()}
    return "full" if len(categories) > 1 else categories.pop()


def load_destinations(refs: list[str]) -> dict[str, Destination]:
    """Destinations by name; ``ConfigError`` where there is none, or a block is missing."""
    if not refs:
        raise ConfigError("no destination is named", "Give one with --to, or save one in the app.")
    return {block_name(ref): load(ref, Destination) for ref in refs}  # type: ignore[type-abstract]
