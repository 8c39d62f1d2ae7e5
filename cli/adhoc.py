"""What ``run --app … --source … --to …`` describes, saved as blocks, so that the next run needs only a name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from blocks.app import App
from blocks.destinations import DESTINATIONS, LocalDestination
from blocks.destinations.base import Destination
from blocks.loading import AnyBlock, block_name, find, load, missing, problems, reference, saved
from blocks.sources import SOURCES, Source, source_from
from cli.output import note
from vault.errors import ConfigError
from vault.store import NAME, absolute, check_name, is_path, split_named


@dataclass(frozen=True)
class Wanted:
    """The options of ``run`` that describe an app."""

    sources: list[str]
    to: list[str]
    recipients: list[str]
    compression: Literal["zstd", "gzip", "none"] | None = None
    keep_last: int | None = None

    @property
    def given(self) -> dict[str, Any]:
        """What was asked for of an app's other fields."""
        fields = {"recipients": self.recipients, "compression": self.compression, "keep_last": self.keep_last}
        return {field: value for field, value in fields.items() if value not in (None, [])}


def save_app(name: str, wanted: Wanted) -> None:
    """Save the app and what it needs. An app of that name with other sources is not replaced."""
    check_name(name, "app")
    if not wanted.to:
        raise ConfigError("no destination is named", "Add --to, with a directory or a saved destination.")
    existing = f"{App.get_block_type_slug()}/{name}"
    before = None if missing(existing) else load(existing, App)
    refs = [source_ref(name, text) for text in wanted.sources]
    if before is not None and sorted(before.sources) != sorted(refs):
        raise ConfigError(
            f"app {name} is saved with other sources: {', '.join(map(block_name, before.sources))}",
            f"Choose another name, or remove it: backups app remove {name}",
        )
    fields = {"sources": refs, "destinations": destinations_for(wanted.to)}
    _save_fields(name, before, {**fields, **wanted.given})


def change_app(name: str, wanted: Wanted) -> None:
    """Save what *wanted* says of encryption, compression and retention with the app, for this and every later run."""
    if wanted.given:
        _save_fields(name, load(f"{App.get_block_type_slug()}/{name}", App), wanted.given)
        note(f"Saved with app {name}: {', '.join(f'{key} {value}' for key, value in wanted.given.items())}")


def _save_fields(name: str, before: App | None, fields: dict[str, Any]) -> None:
    """An option that is not given stays as it was: encryption is never switched off in silence."""
    kept = {field: getattr(before, field) for field in App.model_fields} if before else {}
    try:
        app = App(**{**kept, **fields})
    except ValidationError as error:
        raise ConfigError(f"app {name}: {problems(error)}") from None
    app.save(name, overwrite=True)


def source_ref(app: str, text: str) -> str:
    """The reference of the source that *text* means: a saved one, or one that is saved now (``NAME=…`` names it)."""
    if NAME.fullmatch(text) and (not Path(text).exists() or text in map(block_name, saved(SOURCES))):
        return find(text, SOURCES, "source")
    name, place = split_named(text)
    source = source_from(place)
    return _save(source, name or source_name(app, source), "source")


def source_name(app: str, source: Source) -> str:
    """``shop-uploads`` for ``./uploads``, ``shop-db`` for the database ``shop``."""
    last = re.split(r"[/:]", source.location.rstrip("/"))[-1].lower()
    stem = re.sub(r"[^a-z0-9]+", "-", last.removesuffix(".sqlite").removesuffix(".db")).strip("-")
    part = stem if stem and stem != app else ("db" if source.category == "database" else "files")
    return check_name(f"{app}-{part}"[:63].rstrip("-"), "source")


def destinations_for(texts: list[str]) -> list[str]:
    """The references of the destinations that *texts* mean; a path is saved, and claimed when it is new or empty."""
    return [_local_ref(text) if is_path(text) else find(text, DESTINATIONS, "destination") for text in texts]


def _local_ref(text: str) -> str:
    root = Path(absolute(text))
    slug = LocalDestination.get_block_type_slug()
    for ref in saved([slug]):
        known = load(ref, LocalDestination)
        if known.root == root:
            return ref
    destination = LocalDestination(root=root)
    destination.prepare()
    stem = re.sub(r"[^a-z0-9]+", "-", str(root).lower()).strip("-")[-63:].strip("-") or "root"
    return _save(destination, stem, "destination")


def _save(block: Source | Destination, name: str, what: str) -> str:
    """Save *block* under *name*; the same one twice is no error, another one of that name is."""
    ref = reference(block, check_name(name, what))
    if missing(ref):
        block.save(name)
        note(f"Saved {what} {name}: {block.location}")
    elif not _same(load(ref, type(block)), block):
        raise ConfigError(
            f"{what} {name} is saved already, and is not {block.location}",
            f"Name the new one: NAME={block.location}" if what == "source" else "Give the saved one by its name.",
        )
    return ref


def _same(one: AnyBlock, other: AnyBlock) -> bool:
    return one.location == other.location  # type: ignore[attr-defined, no-any-return]
