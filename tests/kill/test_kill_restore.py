"""Kill a restore at each of its milestones: the target is as it was, or complete; the next restore succeeds."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.peers.command import Machine
from tests.peers.prefect_server import prefect_server
from tests.peers.processes import descendants_gone
from tests.reduced import reduced

MILESTONES = ["restore:fetched", "restore:applying", "restore:before-swap", "restore:after-swap", "restore:applied"]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with a backup of ``new`` content; its restores need no Prefect."""
    home = tmp_path_factory.mktemp("home")
    data = home / "app"
    (data / "files").mkdir(parents=True)
    (data / "files/content").write_text("new")
    with closing(sqlite3.connect(data / "db.sqlite")) as database, database:
        database.execute("CREATE TABLE t AS SELECT 'new' AS content")
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        sources = ("--source", f"k-db={data / 'db.sqlite'}", "--source", f"k-files={data / 'files'}")
        Machine(home, url).run("run", "--app", "k", *sources, "--to", str(home / "disk"))
    return Machine(home, url)  # where nobody answers any more


def content_of(target: Path) -> str:
    if target.is_dir():
        return (target / "content").read_text()
    with closing(sqlite3.connect(target)) as database:
        return str(database.execute("SELECT content FROM t").fetchone()[0])


def old_target(tmp_path: Path, source: str) -> Path:
    target = tmp_path / "target"
    if source == "k-files":
        target.mkdir()
        (target / "content").write_text("old")
    else:
        with closing(sqlite3.connect(target)) as database, database:
            database.execute("CREATE TABLE t AS SELECT 'old' AS content")
    return target


def restore(machine: Machine, source: str, target: Path) -> list[str]:
    where = ["--from", str(machine.home / "disk"), "--to", str(target)]
    return ["restore", "k", "latest", "--source", source, "--overwrite", *where]


@pytest.mark.law(8)
@pytest.mark.fault("K12", "A14")
@pytest.mark.parametrize("source", ["k-db", "k-files"])
@pytest.mark.parametrize("milestone", reduced(MILESTONES, "restore:before-swap", "restore:after-swap"))
def test_a_killed_restore_leaves_the_old_or_the_new_and_nothing_between(
    machine: Machine, tmp_path: Path, source: str, milestone: str
) -> None:
    target = old_target(tmp_path, source)
    descendants_gone(machine.kill_at(milestone, *restore(machine, source, target)))
    swapped = milestone in ("restore:after-swap", "restore:applied")
    assert content_of(target) == ("new" if swapped else "old")
    machine.run(*restore(machine, source, target))
    assert content_of(target) == "new"


@pytest.mark.fault("K16")
def test_ctrl_c_during_a_restore_changes_nothing(machine: Machine, tmp_path: Path) -> None:
    target = old_target(tmp_path, "k-files")
    command = restore(machine, "k-files", target)
    descendants_gone(machine.kill_at("restore:applying", *command, signal_number=signal.SIGINT))
    assert content_of(target) == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["target"]
