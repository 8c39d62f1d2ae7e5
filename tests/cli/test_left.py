"""`backups doctor` says what lies at a destination that no policy lets go, and the command for it."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blocks import LocalDestination
from deployments.checks.apps import Inventory
from deployments.checks.finding import Finding
from deployments.checks.left import left
from tests.flows.committed import commit, put
from vault.record import BackupId, artifact_key
from vault.signing import Signer

OURS = Signer.generate()


@pytest.fixture
def disk(tmp_path: Path) -> LocalDestination:
    disk = LocalDestination(root=tmp_path / "disk")
    disk.prepare()
    return disk


def found(disk: LocalDestination) -> list[Finding]:
    return [*left(Inventory(destinations={"local-destination/disk": disk}))["left at disk"]()]


def orphan(disk: LocalDestination, app: str, days: float) -> None:
    at = datetime.now(UTC) - timedelta(days=days)
    key = artifact_key(app, BackupId.new(at, "files"), "gone", "tar.zst")
    put(disk, key, b"x" * 2000)
    os.utime(disk.root / key, (at.timestamp(), at.timestamp()))


@pytest.mark.fault("D10")
def test_orphans_are_told_by_app_with_their_size_and_the_command_whether_or_not_the_app_is_saved(
    disk: LocalDestination,
) -> None:
    commit(disk, "shop", OURS, {"x": b"x"})
    assert [(one.level, one.what) for one in found(disk)] == [("ok", "each artifact has its record")]
    orphan(disk, "shop", days=0.5)
    assert [one.level for one in found(disk)] == ["ok"], "it may be that of a run"
    for app in ("shop", "removed", "removed", "shop-before-restore"):
        orphan(disk, app, days=2)
    (one,) = found(disk)
    assert one.level == "warning"
    assert one.what.endswith("2 of removed (3.9 KiB), 1 of shop (2.0 KiB), 1 of shop-before-restore (2.0 KiB)")
    assert one.remedy.splitlines() == [
        f"backups prune {app} --orphans --to disk --dry-run" for app in ("removed", "shop", "shop-before-restore")
    ]


def test_what_restores_backed_up_first_is_told_and_is_nothing_wrong(disk: LocalDestination) -> None:
    for _ in range(3):
        commit(disk, "shop-before-restore", OURS, {"x": b"x" * 5000})
    whole, safe = found(disk)
    assert (whole.level, safe.level) == ("ok", "ok")
    assert "3 of shop-before-restore (" in safe.what
    assert safe.remedy == "backups prune shop-before-restore --keep-last 1 --to disk --dry-run"


def test_a_destination_that_cannot_be_listed_is_told_once(disk: LocalDestination) -> None:
    shutil.rmtree(disk.root)
    assert [(one.level, one.what) for one in found(disk)] == [("skipped", "it cannot be listed: see destination disk")]
