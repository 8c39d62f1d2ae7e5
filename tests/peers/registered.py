"""Kinds of blocks that a Prefect server knows already are not registered there each time that one is saved."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from prefect.blocks.core import Block
from prefect.settings import PREFECT_API_URL


def register_once(patch: pytest.MonkeyPatch) -> None:
    """From now on, what Prefect does for each ``save`` in this process: ask for each kind, and each that it nests."""
    original = Block.register_type_and_schema.__func__  # type: ignore[attr-defined]
    known: dict[tuple[type[Block], str | None], tuple[UUID | None, UUID | None]] = {}

    def register_type_and_schema(kind: type[Block], *args: Any, **options: Any) -> Any:
        place = kind, PREFECT_API_URL.value()
        if place in known:
            kind._block_type_id, kind._block_schema_id = known[place]
            return None
        answer = original(kind, *args, **options)
        if answer is None:
            known[place] = kind._block_type_id, kind._block_schema_id
        return answer

    patch.setattr(Block, "register_type_and_schema", classmethod(register_type_and_schema))
