"""Kill a copy at each of its milestones: the target has the whole backup or none, and the next copy succeeds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from blocks import LocalDestination
from blocks.signing_key import keyring
from flows.copy_backup import copy_backup
from tests.flows.committed import commit
from tests.peers.command import Machine
from tests.peers.processes import descendants_gone
from tests.reduced import reduced
from vault.catalog import Catalog
from vault.workspace import leftovers

MILESTONES = {
    "upload:segment": "K05",
    "copy:read": "K05",
    "verify:done": "K07",
    "commit:before": "K08",
    "commit:done": "K09",
}


@pytest.mark.law(1, 2)
@pytest.mark.fault("K05", "K06", "K07", "K08", "K09", "X06")
@pytest.mark.parametrize("milestone", reduced(MILESTONES, "upload:segment", "commit:done"))
def test_a_killed_copy_leaves_the_whole_backup_or_none_and_the_next_one_succeeds(
    prefect_api: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, milestone: str
) -> None:
    origin, target = (LocalDestination(root=tmp_path / name) for name in "ab")
    origin.prepare()
    target.prepare()
    record = commit(origin, "copied", keyring().signer, {"large": os.urandom(1 << 20)})
    machine = Machine(tmp_path, str(PREFECT_API_URL.value()), {"BACKUPS_SPOOL_LIMIT": str(256 << 10)})
    where = ("--from", str(origin.root), "--to", str(target.root))
    descendants_gone(machine.kill_at(milestone, "copy", record.id, *where))
    history = Catalog(target, "copied", keyring().trust).history()
    assert [found.id for found in history.records] == ([record.id] if MILESTONES[milestone] == "K09" else [])
    assert history.damaged == ()
    if MILESTONES[milestone] == "K05":
        assert history.orphans == (), "an object was visible before its bytes were proven and sent"
    monkeypatch.setenv("BACKUPS_WORK_DIR", str(machine.work))
    copy_backup(record.id, str(origin.root), [str(target.root)])
    assert [found.id for found in Catalog(target, "copied", keyring().trust).history().records] == [record.id]
    assert leftovers(machine.work) == [], "the dead copy's directory is left"
    artifact = record.artifacts[0].key
    assert (target.root / artifact).read_bytes() == (origin.root / artifact).read_bytes()
