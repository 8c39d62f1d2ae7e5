"""What ``run --app … --source … --to …`` describes, saved as blocks, so that the next run needs only a name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from blocks.app import App
from blocks.destinations import DESTINATIONS, LocalDestination
from blocks.destinations.base import Destination
from blocks.hook import HOOK_SLUG
from blocks.loading import AnyBlock, block_name, find, load, missing, problems, reference, saved
from blocks.named_server import LOCAL
from blocks.servers import SERVERS
from blocks.sources import SOURCES, Source, source_from
from cli.output import note
from vault.errors import ConfigError
from vault.store import NAME, absolute, check_name, is_path, split_named


@dataclass(frozen=True)
class Wanted:
    """What options say of an app: its sources and destinations as a person types them, and *others* of its fields."""

    sources: list[str]
    to: list[str]
    others: Mapping[str, Any]

    @property
    def given(self) -> dict[str, Any]:
        """What was asked for of an app's other fields."""
        fields = {field: value for field, value in self.others.items() if value not in (None, [])}
        for option, field in (("encrypt_to", "recipients"), ("container", "containers")):
            if option in fields:
                fields[field] = fields.pop(option)
        if "containers_on" in fields:
            named = fields["containers_on"]
            fields["containers_on"] = named if named in ("", LOCAL) else find(named, SERVERS, "server")
        for side in {"before", "after"} & set(fields):
            fields[side] = fields[side] and find(fields[side], [HOOK_SLUG], "hook")
        return fields


def save_app(name: str, wanted: Wanted) -> None:
    """Save the app and what it needs. An app of that name with other sources is not replaced."""
    check_name(name, "app")
    if not wanted.to:
        raise ConfigError("no destination is named", "Add --to, with a directory or a saved destination.")
    existing = f"{App.get_block_type_slug()}/{name}"
    before = None if missing(existing) else load(existing, App)
    sources = [_meant(name, text) for text in wanted.sources]
    if before is not None and sorted(before.sources) != sorted(source.ref for source in sources):
        raise ConfigError(
            f"app {name} is saved with other sources: {', '.join(map(block_name, before.sources))}",
            f"Choose another name, or change it: backups app update {name} --source …",
        )
    fields = {"sources": _save_sources(sources), "destinations": destinations_for(wanted.to)}
    _save_fields(name, before, {**fields, **wanted.given})


def change_app(name: str, wanted: Wanted) -> None:
    """Save what *wanted* says of encryption, compression and retention with the app, for this and every later run."""
    if wanted.given:
        _save_fields(name, load(f"{App.get_block_type_slug()}/{name}", App), wanted.given)
        note(f"Saved with app {name}: {', '.join(f'{key} {value}' for key, value in wanted.given.items())}")


def change_saved_app(name: str, wanted: Wanted) -> None:
    """Save what *wanted* says with the saved app; what it does not say stays."""
    before = load(f"{App.get_block_type_slug()}/{check_name(name, 'app')}", App)
    fields = wanted.given
    if wanted.sources:
        fields["sources"] = _save_sources([_meant(name, text) for text in wanted.sources])
    if wanted.to:
        fields["destinations"] = destinations_for(wanted.to)
    if not fields:
        raise ConfigError("nothing is to be changed", "Give an option: see `backups app update --help`.")
    _save_fields(name, before, fields)


def _save_fields(name: str, before: App | None, fields: dict[str, Any]) -> None:
    """An option that is not given stays as it was: encryption is never switched off in silence."""
    kept = {field: getattr(before, field) for field in App.model_fields} if before else {}
    try:
        app = App(**{**kept, **fields})
    except ValidationError as error:
        raise ConfigError(f"app {name}: {problems(error)}") from None
    app.save(name, overwrite=True)


@dataclass(frozen=True)
class _Meant:
    """A source by its reference: a saved one, or the *block* that is to be saved so."""

    ref: str
    block: Source | None = None


def _meant(app: str, text: str) -> _Meant:
    """The source that *text* means: a saved one, or a place (``NAME=…`` names it)."""
    if NAME.fullmatch(text) and (not Path(text).exists() or text in map(block_name, saved(SOURCES))):
        return _Meant(find(text, SOURCES, "source"))
    name, place = split_named(text)
    source = source_from(place)
    return _Meant(reference(source, check_name(name or source_name(app, source), "source")), source)


def _save_sources(sources: list[_Meant]) -> list[str]:
    """Their references. What is new is tested first, all of it: what does not work must not stand in the way later."""
    for source in sources:
        if source.block is not None and missing(source.ref):
            source.block.check()
    return [source.ref if source.block is None else _save(source.block, source.ref, "source") for source in sources]


def save_block(source: Source, name: str) -> str:
    """Save *source* as *name*, after a test of it where it is new; returns the name."""
    return block_name(_save_sources([_Meant(reference(source, name), source)])[0])


def source_name(app: str, source: Source) -> str:
    """``shop-uploads`` for ``./uploads``, ``shop-db`` for the database ``shop``."""
    # Behind the ? of a URL is how its server is reached.
    place = source.location.partition("?")[0] if source.category == "database" else source.location
    last = re.split(r"[/:]", place.rstrip("/"))[-1].lower()
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
    return _save(destination, reference(destination, check_name(stem, "destination")), "destination")


def _save(block: Source | Destination, ref: str, what: str) -> str:
    """Save *block* as *ref*; the same one twice is no error, another one of that name is."""
    name = block_name(ref)
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
