"""A real directory as a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocks.destinations.local import LocalDestination


@pytest.fixture
def store(tmp_path: Path) -> LocalDestination:
    destination = LocalDestination(root=tmp_path / "backups")
    destination.prepare()
    return destination
