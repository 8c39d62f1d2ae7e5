"""Matrices in a reduced form: ``bin/test`` runs some of each, ``bin/test -m ''`` all of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def reduced(every: Iterable[Any], *kept: Any) -> list[Any]:
    """*every* as parameters of a test; those that are not *kept* are marked slow."""
    return [one if one in kept else pytest.param(one, marks=pytest.mark.slow) for one in every]


ESSENTIAL = (
    "test_a_dump_restores_to_equal_data",
    "test_overwrite_brings_back_what_was_dumped",
    "test_leaving_early_ends_the_tool_and_leaves_nothing",
    "test_check_and_dump_say_what_is_missing",
)
"""What is left of a contract of sources where it runs in reduced form: in a class that says ``reduced = True``."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow what such a class inherits from the contract, and is not essential."""
    from tests.contract.source import SourceContract

    for item in items:
        kind, name = getattr(item, "cls", None), getattr(item, "originalname", "")
        if getattr(kind, "reduced", False) and hasattr(SourceContract, name) and name not in ESSENTIAL:
            item.add_marker(pytest.mark.slow)
