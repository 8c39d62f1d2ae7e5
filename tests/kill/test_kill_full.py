"""Kill a full backup, which has hooks, at each place of its own; ask it to end; and look at what is left."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from blocks.destinations.local import LocalDestination
from tests.peers.command import Machine
from tests.peers.prefect_server import prefect_server
from tests.peers.processes import descendants_gone
from tests.reduced import reduced
from vault import known_signers
from vault.catalog import Catalog, History
from vault.signing import Trust
from vault.workspace import leftovers

APP = "whole"


@dataclass(frozen=True)
class Sample:
    """An app with a database, a directory and both hooks, which note that they were run."""

    machine: Machine
    root: Path

    @property
    def history(self) -> History:
        trust = Trust(known_signers.read(self.machine.home / "prefect/backups/known-signers"))
        return Catalog(LocalDestination(root=self.root / "disk"), APP, trust).history()

    def hooks(self) -> list[str]:
        """What the hooks have noted since this was asked last."""
        said = (self.root / "log").read_text().split()
        (self.root / "log").write_text("")
        return said


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    root = tmp_path_factory.mktemp("sample")
    (root / "files").mkdir()
    (root / "files/large").write_bytes(os.urandom(2 * 1024 * 1024))
    (root / "log").touch()
    with closing(sqlite3.connect(root / "db.sqlite")) as database, database:
        database.execute("CREATE TABLE t AS SELECT 1 AS x")
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        machine = Machine(tmp_path_factory.mktemp("home"), url)
        for side in ("before", "after"):
            machine.run("hook", "add", f"on-{side}", "--command", f"echo {side}$BACKUPS_READ >> {root / 'log'}")
        sources = ("--source", f"w-db={root / 'db.sqlite'}", "--source", f"w-files={root / 'files'}")
        hooks = ("--before", "on-before", "--after", "on-after")
        machine.run("app", "add", APP, *sources, "--to", str(root / "disk"), *hooks)
        yield Sample(machine, root)


@pytest.mark.law(1, 2)
@pytest.mark.fault("K01", "K02", "K03", "M05")
@pytest.mark.parametrize(
    "milestone", reduced(["hook:before", "dump:begun", "read:database", "read:files", "hook:after"], "read:database")
)
def test_a_run_that_is_killed_leaves_no_backup_and_the_next_one_says_that_its_after_hook_was_not_run(
    sample: Sample, milestone: str
) -> None:
    before = sample.history.records
    descendants_gone(sample.machine.kill_at(milestone, "run", APP))
    assert sample.history.records == before
    assert "afterwhole" not in sample.hooks()
    said = sample.machine.run("run", APP).stderr
    assert "was killed before its after hook on-after" in said
    assert sample.hooks() == ["before", "afterwhole"]
    record = sample.history.records[-1]
    assert [artifact.source for artifact in record.artifacts] == ["w-db", "w-files"]
    assert any("was killed" in warning for warning in record.warnings)
    assert leftovers(sample.machine.work) == []
    assert "was killed" not in sample.machine.run("run", APP).stderr, "it is said once"
    sample.hooks()


@pytest.mark.fault("K13")
@pytest.mark.parametrize("number", reduced([signal.SIGTERM, signal.SIGINT], signal.SIGTERM))
def test_a_run_that_is_asked_to_end_runs_its_after_hook(sample: Sample, number: int) -> None:
    before = sample.history.records
    descendants_gone(sample.machine.kill_at("read:database", "run", APP, signal_number=number))
    assert sample.hooks() == ["before", "afterfailed"]
    assert sample.history.records == before
    assert leftovers(sample.machine.work) == []
    assert "was killed" not in sample.machine.run("run", APP).stderr
    sample.hooks()
