"""Kill the real command at each of its milestones; then the laws must hold, and the next run must succeed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from blocks.destinations.local import LocalDestination
from tasks.resolve import RestoreRequest
from tasks.restore import restore_backup
from tests.peers.command import Machine
from tests.peers.prefect_server import prefect_server
from tests.peers.processes import descendants_gone
from tests.reduced import reduced
from vault import known_signers
from vault.catalog import Catalog, History
from vault.signing import Trust
from vault.workspace import leftovers

BEFORE_COMMIT = {
    "preflight:begun": "K01",
    "dump:begun": "K02",
    "dump:read": "K03",
    "dump:proven": "K04",
    "upload:segment": "K05",
    "upload:sent": "K05",
    "upload:committed": "K06",
    "verify:done": "K07",
    "commit:before": "K08",
}
APP = "killed"
FILES = ("large", "small")
AFTER_COMMIT = {"commit:done": "K09", "cleanup:begun": "K10", "retain:removed": "K11"}


@pytest.fixture(scope="module")
def api_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture(scope="module")
def machine(api_url: str, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("home"), api_url)


@dataclass(frozen=True)
class Sample:
    """An app with one committed backup, kept as the last one: the laws are looked at from outside of its runs."""

    machine: Machine
    root: Path

    @property
    def history(self) -> History:
        trust = Trust(known_signers.read(self.machine.home / "prefect/backups/known-signers"))
        return Catalog(LocalDestination(root=self.root / "backups"), APP, trust).history()

    def kill_at(self, milestone: str) -> None:
        """Kill a run of the real command at *milestone*; the tools that it started end with it."""
        descendants_gone(self.machine.kill_at(milestone, "run", APP))

    def run(self) -> None:
        """The next run: it succeeds, and sweeps what the dead one left on this machine."""
        self.machine.run("run", APP)
        assert leftovers(self.machine.work) == [], "the dead run's directory is left"
        assert len(self.history.records) == 1, "retention did not replace the older ones"

    def restores(self, target: Path) -> bool:
        """Whether the newest backup gives every byte back."""
        trust = Trust(known_signers.read(self.machine.home / "prefect/backups/known-signers"))
        store = LocalDestination(root=self.root / "backups")
        restore_backup(RestoreRequest(APP, "latest", {"": str(target)}), store, trust)
        return all((target / name).read_bytes() == (self.root / "data" / name).read_bytes() for name in FILES)


@pytest.fixture(scope="module")
def sample(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    root = tmp_path_factory.mktemp("sample")
    (root / "data").mkdir()
    (root / "data/large").write_bytes(os.urandom(5 * 1024 * 1024))
    (root / "data/small").write_text("content")
    source, destination = f"{APP}-files={root / 'data'}", str(root / "backups")
    machine.run("run", "--app", APP, "--source", source, "--to", destination, "--keep-last", "1")
    return Sample(machine, root)


@pytest.mark.law(1, 2)
@pytest.mark.fault("K01", "K02", "K03", "K04", "K05", "K06", "K07", "K08")
@pytest.mark.parametrize(
    "milestone", reduced(BEFORE_COMMIT, "dump:read", "upload:segment", "verify:done", "commit:before")
)
def test_killed_before_the_commit_there_is_no_new_backup_and_the_next_run_succeeds(
    sample: Sample, tmp_path: Path, milestone: str
) -> None:
    (before,) = sample.history.records
    orphans = sample.history.orphans
    sample.kill_at(milestone)
    history = sample.history
    assert history.records == (before,)
    assert not history.damaged
    if BEFORE_COMMIT[milestone] < "K06":
        assert history.orphans == orphans, "an object was visible before its dump was proven and sent"
    assert sample.restores(tmp_path / "restored")
    sample.run()
    assert sample.history.records[0] != before


@pytest.mark.law(3, 4)
@pytest.mark.fault("K09", "K10", "K11")
@pytest.mark.parametrize("milestone", reduced(AFTER_COMMIT, "retain:removed"))
def test_killed_after_the_commit_the_new_backup_is_good(sample: Sample, tmp_path: Path, milestone: str) -> None:
    (before,) = sample.history.records
    sample.kill_at(milestone)
    history = sample.history
    assert history.records[-1] != before
    assert not history.damaged
    assert sample.restores(tmp_path / "restored")
    sample.run()


@pytest.mark.fault("K15")
def test_killed_twice_at_the_same_step_the_third_run_succeeds(sample: Sample) -> None:
    for _ in range(2):
        sample.kill_at("upload:sent")
    sample.run()


@pytest.mark.fault("K13")
@pytest.mark.parametrize("number", reduced([signal.SIGTERM, signal.SIGINT], signal.SIGTERM))
def test_a_run_that_is_asked_to_end_cleans_up_and_is_not_left_running(sample: Sample, number: int) -> None:
    (before,) = sample.history.records
    orphans = sample.history.orphans
    known = {row["id"] for row in sample.machine.json("list", APP)}
    descendants_gone(sample.machine.kill_at("dump:begun", "run", APP, signal_number=number))
    assert leftovers(sample.machine.work) == []
    assert sample.history.records == (before,)
    assert sample.history.orphans == orphans
    (row,) = [row for row in sample.machine.json("list", APP) if row["id"] not in known]
    assert row["status"] in ("crashed", "failed", "cancelled"), "Prefect still takes it for a running one"


@pytest.mark.fault("K13", "S09")
def test_a_run_whose_tool_hangs_ends_at_once_when_it_is_asked_to(sample: Sample, tmp_path: Path) -> None:
    hanging = tmp_path / "tar"
    started = tmp_path / "started"
    os.mkfifo(started)
    hanging.write_text(
        f'#!/bin/sh\ncase "$*" in *--create*) echo > {started}; exec sleep 1000;; esac\nexec /bin/tar "$@"\n'
    )
    hanging.chmod(0o755)
    run = sample.machine.start("run", APP, PATH=f"{tmp_path}:{os.environ['PATH']}")
    started.read_text()  # the tool has been started, and hangs
    run.send_signal(signal.SIGINT)
    assert run.wait(timeout=300) != 0
    descendants_gone(run.pid)
    assert leftovers(sample.machine.work) == []
    sample.run()
