"""The deployment ``test-destination``: what the test found is kept as an artifact, also where it failed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.artifacts import Artifact

from blocks import LocalDestination
from flows.test_destination import check_destination
from vault.errors import ConfigError, DestinationError


@pytest.fixture
def disk(prefect_api: object, tmp_path: Path) -> tuple[str, Path]:
    name = f"disk-{uuid4().hex[:8]}"
    place = LocalDestination(root=tmp_path / "disk")
    place.prepare()
    place.save(name)
    return name, place.root


def kept(name: str) -> list[dict[str, Any]]:
    artifact = Artifact.get(f"test-{name}")
    assert artifact is not None
    rows: list[dict[str, Any]] = json.loads(str(artifact.data))
    return rows


@pytest.mark.parametrize("form", ["{}", "local-destination/{}"])
def test_each_step_of_the_test_is_kept_with_its_time(disk: tuple[str, Path], form: str) -> None:
    check_destination(form.format(disk[0]))
    rows = kept(disk[0])
    assert [row["step"] for row in rows] == ["reach", "write", "list", "read back", "compare", "delete"]
    assert {row["result"] for row in rows} == {"ok"}


@pytest.mark.fault("T06", "D05")
def test_a_test_that_fails_fails_the_run_and_keeps_the_remedy(disk: tuple[str, Path]) -> None:
    shutil.rmtree(disk[1])
    state = check_destination(disk[0], return_state=True)
    assert state.is_failed()
    with pytest.raises(DestinationError, match="is its disk mounted"):
        state.result()
    (row,) = kept(disk[0])
    assert (row["step"], row["remedy"]) == ("reach", "Mount it. If it is new, add it with `backups destination add`.")


@pytest.mark.fault("O07")
def test_a_block_that_does_not_fit_is_named(disk: tuple[str, Path]) -> None:
    place = LocalDestination.load(disk[0])
    place.root = Path("relative")  # as Prefect's UI saves it: without a look
    place.save(disk[0], overwrite=True)
    with pytest.raises(ConfigError, match="must be an absolute path"):
        check_destination(disk[0])
    assert kept(disk[0])[0]["step"] == "load"
