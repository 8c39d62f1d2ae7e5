"""Blocks by reference (``slug/name``): load them with errors that name the block (O07)."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from inspect import isabstract
from typing import Any, TypeVar

from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from vault.errors import ConfigError, printable
from vault.store import check_name

AnyBlock = TypeVar("AnyBlock", bound=Block)

_CORRECT = "Correct it in Prefect's UI, or remove and add it again."
_PAGE = 200  # the server's own limit for one answer
_HOW_TO_ADD = "See `backups app|source|destination list`; save it with `add`, or an app by `run --source`."


def reference(block: Block, name: str) -> str:
    """How flows and apps name a saved block: ``slug/name``."""
    return f"{block.get_block_type_slug()}/{name}"


def block_name(ref: str) -> str:
    """The name in a reference."""
    return ref.rpartition("/")[2]


def load(ref: str, kind: type[AnyBlock]) -> AnyBlock:
    """The block saved as *ref*, checked; ``ConfigError`` that names it where it is missing or does not fit."""
    check_name(block_name(ref), "block")
    own = _own_class(ref.partition("/")[0], kind)
    try:
        # By its own class: to look for one, Prefect imports every package that has blocks, for half a second.
        block = own.load(block_name(ref)) if own else Block.load(ref)
    except ValidationError as error:
        raise ConfigError(f"block {ref} does not fit: {problems(error)}", _CORRECT) from None
    except (ValueError, RuntimeError) as error:
        if isinstance(error.__cause__, ValidationError):
            raise ConfigError(f"block {ref} does not fit: {problems(error.__cause__)}", _CORRECT) from None
        if missing(ref):
            raise ConfigError(f"nothing is saved as {printable(ref)}", _HOW_TO_ADD) from error
        raise ConfigError(f"block {ref} cannot be loaded: {printable(str(error))[:300]}") from error
    if not isinstance(block, kind):
        raise ConfigError(f"block {ref} is a {type(block).__name__}, not a {kind.__name__}")
    return block


def _own_class(slug: str, kind: type[AnyBlock]) -> type[AnyBlock] | None:
    """The class of ours for *slug*, of *kind*, among those that are imported."""
    if kind.__module__.startswith("blocks.") and not isabstract(kind) and kind.get_block_type_slug() == slug:
        return kind
    return next(filter(None, (_own_class(slug, below) for below in kind.__subclasses__())), None)


def problems(error: ValidationError) -> str:
    """What does not fit, field by field; without the values, which pydantic's own text quotes (law 10)."""
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))


def missing(ref: str) -> bool:
    """Whether no block is saved as *ref*."""
    slug, _, name = ref.partition("/")
    with get_client(sync_client=True) as client:
        try:
            client.read_block_document_by_name(name, slug, include_secrets=False)
        except ObjectNotFound:
            return True
    return False


def saved(kinds: Collection[str]) -> list[str]:
    """The reference of every saved block whose slug is one of *kinds*."""
    return sorted(documents(kinds))


def documents(kinds: Collection[str]) -> dict[str, dict[str, Any]]:
    """What is written in each of them, unchecked and without its secrets, by reference: a request for 200."""
    found: dict[str, dict[str, Any]] = {}
    with get_client(sync_client=True) as client:
        for offset in itertools.count(0, _PAGE):
            page = client.read_block_documents(offset=offset, limit=_PAGE, include_secrets=False)
            for document in page:
                slug = document.block_type.slug if document.block_type else ""
                if slug in kinds and document.name:
                    found[f"{slug}/{document.name}"] = document.data
            if len(page) < _PAGE:
                return found
    raise AssertionError("unreachable")


def find(name: str, kinds: Collection[str], what: str) -> str:
    """The reference of the one saved block that is called *name* and whose slug is one of *kinds*."""
    if "/" in name:
        return name
    check_name(name, what)
    found = [ref for ref in saved(kinds) if block_name(ref) == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{what} {name!r} is saved {len(found)} times", f"Say which: {', '.join(found)}")
    raise ConfigError(f"there is no {what} {name!r}", f"See `backups {what} list`, or add it: `backups {what} add`.")
