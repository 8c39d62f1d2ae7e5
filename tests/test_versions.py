"""What is allowed and what is locked: the lock fits pyproject.toml, and holds all of it."""

from __future__ import annotations

import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


@pytest.mark.fault("O11")
def test_the_lock_has_each_requirement_in_a_version_that_is_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    pinned = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines()]
    assert all(str(one.specifier).startswith("==") for one in pinned)
    versions = {one.name: str(one.specifier).removeprefix("==") for one in pinned}
    for one in map(Requirement, wanted):
        assert one.specifier.contains(versions[one.name.lower()]), one


def test_what_broke_prefects_server_is_not_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = {one.name: one.specifier for one in map(Requirement, project["dependencies"])}
    assert not allowed["fastapi"].contains("0.165.0"), "Prefect 3.8.8's server dies with it"
    assert not allowed["sqlalchemy"].contains("2.1.0"), "nothing that is scheduled ever runs with it"
