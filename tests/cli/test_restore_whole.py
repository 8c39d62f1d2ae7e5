"""``backups restore APP ID``: the whole app goes back to where its saved sources lie, after a look at the plan."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from blocks import App, Directory
from tests.cli.conftest import Command
from tests.peers.command import Machine
from tests.peers.prefect_server import prefect_server
from tests.peers.ssh_host import over, ssh_host
from tests.peers.sshd import SshServer as Sshd
from vault.workspace import leftovers


@dataclass(frozen=True)
class Shop:
    """An app with a database and a directory, backed up once, and changed since."""

    name: str
    root: Path
    id: str

    @property
    def state(self) -> tuple[object, str]:
        """What the app holds now."""
        with closing(sqlite3.connect(self.root / "db.sqlite")) as database:
            rows = database.execute("SELECT x FROM t").fetchone()
        return rows[0], (self.root / "files/content").read_text()

    def become(self, content: str) -> None:
        with closing(sqlite3.connect(self.root / "db.sqlite")) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS t (x)")
            database.execute("DELETE FROM t")
            database.execute("INSERT INTO t VALUES (?)", (content,))
        (self.root / "files").mkdir(exist_ok=True)
        (self.root / "files/content").write_text(content)

    def vanish(self) -> None:
        (self.root / "db.sqlite").unlink()
        shutil.rmtree(self.root / "files")


def shop_at(root: Path, name: str) -> Shop:
    root.mkdir()
    shop = Shop(name, root, "")
    shop.become("old")
    return shop


def described(shop: Shop) -> list[str]:
    sources = [f"{shop.name}-db={shop.root / 'db.sqlite'}", f"{shop.name}-files={shop.root / 'files'}"]
    return [shop.name, "--source", sources[0], "--source", sources[1], "--to", str(shop.root / "disk")]


@pytest.fixture
def shop(command: Command, tmp_path: Path) -> Iterator[Shop]:
    new = shop_at(tmp_path / "shop", "s-shop")
    command("app", "add", *described(new))
    made = command("run", "s-shop", "--json").json
    yield Shop(new.name, new.root, made["id"])
    command("app", "remove", "s-shop")
    for name in ("s-shop-db", "s-shop-files"):
        command("source", "remove", name)
    for row in command("destination", "list", "--json").json:
        if str(tmp_path).lower().replace("/", "-").strip("-")[-20:] in row["name"]:
            command("destination", "remove", row["name"])


@pytest.fixture(scope="module")
def host() -> Iterator[Sshd]:
    with ssh_host() as server:
        yield server


@pytest.mark.law(8)
def test_an_app_that_is_gone_comes_back_whole_with_one_command(command: Command, shop: Shop) -> None:
    shop.vanish()
    done = command("restore", "s-shop", shop.id, "--yes")
    assert shop.state == ("old", "old")
    plan = [line for line in done.err.splitlines() if line.startswith("s-shop-")]
    assert [line.split()[0] for line in plan] == ["s-shop-db", "s-shop-files"]
    assert all(line.endswith("new") for line in plan)
    assert str(shop.root / "db.sqlite") in plan[0]


@pytest.mark.law(8)
@pytest.mark.fault("A10")
def test_what_lives_is_replaced_only_when_that_is_allowed_and_the_plan_says_so(command: Command, shop: Shop) -> None:
    shop.become("new")
    refused = command("restore", "s-shop", "latest", "--yes", code=1)
    assert "refused" in refused.err
    assert "--overwrite" in refused.err
    assert shop.state == ("new", "new")
    plan = command("restore", "s-shop", "latest", "--overwrite", "--dry-run", "--json").json
    assert [one["target"] for one in plan["artifacts"]] == [str(shop.root / "db.sqlite"), str(shop.root / "files")]
    assert all(one["replaces"] and not one["refused"] for one in plan["artifacts"])
    assert "replaced: " in command("restore", "s-shop", "latest", "--overwrite", "--dry-run").out
    assert shop.state == ("new", "new"), "a dry run changed something"
    command("restore", "s-shop", "latest", "--overwrite", "--yes")
    assert shop.state == ("old", "old")


@pytest.mark.law(8)
def test_without_a_terminal_and_without_yes_nothing_is_done_and_the_plan_is_shown(
    command: Command, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.vanish()
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        asked = command("restore", "s-shop", "latest", code=2)
    assert "--yes" in asked.err
    assert str(shop.root / "files") in asked.err
    assert not (shop.root / "files").exists()
    assert not (shop.root / "db.sqlite").exists()


@pytest.mark.fault("A15", "O07")
def test_targets_are_those_of_the_saved_app_and_what_it_lacks_is_asked_for(
    command: Command, shop: Shop, tmp_path: Path
) -> None:
    """The record names the old place; the operator has moved the source since."""
    Directory(path=tmp_path / "moved").save("s-shop-files", overwrite=True)
    shop.vanish()
    command("restore", "s-shop", "latest", "--yes")
    assert (tmp_path / "moved/content").read_text() == "old"
    assert not (shop.root / "files").exists()
    app = App.load("s-shop")
    app.model_copy(update={"sources": ["sqlite-database/s-shop-db"]}).save("s-shop", overwrite=True)
    told = command("restore", "s-shop", "latest", "--yes", code=2)
    assert "--to s-shop-files=TARGET" in told.err
    app.save("s-shop", overwrite=True)
    Directory(path=shop.root / "files").save("s-shop-files", overwrite=True)
    gone = command("restore", "nosuch", "latest", "--from", shop.root / "disk", "--yes", code=2)
    assert "--to" in gone.err


@pytest.mark.fault("A11")
def test_another_server_is_named_for_all_and_a_target_for_one(
    command: Command, shop: Shop, host: Sshd, tmp_path: Path
) -> None:
    over(host).save("s-web2", overwrite=True)
    shop.vanish()
    to = f"s-shop-files={tmp_path / 'elsewhere'}"
    done = command("restore", "s-shop", "latest", "--to-server", "s-web2", "--to", to, "--yes")
    plan = [line for line in done.err.splitlines() if line.startswith("s-shop-")]
    assert all("ssh://" in line and str(host.port) in line for line in plan)
    assert (tmp_path / "elsewhere/content").read_text() == "old"
    assert not (shop.root / "files").exists()
    alone = ("--source", "s-shop-files", "--server", "s-web2", "--to", tmp_path / "third")
    command("restore", "s-shop", "latest", *alone)
    assert (tmp_path / "third/content").read_text() == "old"
    command("restore", "s-shop", "latest", "--to-server", "local", "--source", "s-shop-files", "--yes")
    assert shop.state == ("old", "old")
    missing = command("restore", "s-shop", "latest", "--to-server", "nosuch", "--yes", code=2)
    assert "no server 'nosuch'" in missing.err
    command("server", "remove", "s-web2")


def test_the_newest_backup_of_all_destinations_that_answer_is_taken(
    command: Command, shop: Shop, tmp_path: Path
) -> None:
    command("destination", "add", "local", "s-second", tmp_path / "second")
    shop.become("newer")
    newer = command("run", "s-shop", "--to", "s-second", "--json").json["id"]
    app = App.load("s-shop")
    first = app.destinations[0]
    app.model_copy(update={"destinations": [first, "local-destination/s-second"]}).save("s-shop", overwrite=True)
    shop.vanish()
    done = command("restore", "s-shop", "--yes", "--json").json
    assert done["id"] == newer
    assert shop.state == ("newer", "newer")
    shutil.rmtree(tmp_path / "second")
    shop.vanish()
    done = command("restore", "s-shop", "--yes")
    assert "second" in done.err, "it is not said that a destination did not answer"
    assert shop.state == ("old", "old")
    app.save("s-shop", overwrite=True)
    command("destination", "remove", "s-second")


@pytest.mark.law(5)
@pytest.mark.fault("A14")
def test_where_one_of_several_fails_it_is_said_what_was_restored_and_how_to_go_on(
    command: Command, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vault.errors import RestoreRefused

    def fail(*_: object) -> None:
        raise RestoreRefused("the disk of files is full", "Free space there.")

    shop.vanish()
    with monkeypatch.context() as patch:
        patch.setattr(Directory, "restore", fail)
        failed = command("restore", "s-shop", "latest", "--yes", code=1)
    assert "s-shop-files was not restored: the disk of files is full" in failed.err
    assert f"restored: s-shop-db to {shop.root / 'db.sqlite'}" in failed.err
    assert "--source s-shop-files" in failed.err
    command("restore", "s-shop", shop.id, "--source", "s-shop-files", "--yes")
    assert shop.state == ("old", "old")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, Shop]]:
    shop = shop_at(tmp_path_factory.mktemp("s") / "shop", "asked")
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        machine = Machine(tmp_path_factory.mktemp("home"), url)
        machine.run("app", "add", *described(shop))
        machine.run("run", "asked")
        shop.become("new")
        yield machine, shop


def answered(machine: Machine, answer: bytes) -> tuple[int, str]:
    """Exit code of a restore at a terminal where *answer* is typed, and what it said."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "cli", "restore", "asked", "latest", "--overwrite"],
        env=machine.environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_own_terminal,
    ) as process:
        os.close(theirs)
        said = b""
        while b"[y/N]" not in said:
            said += os.read(ours, 4096)
        os.write(ours, answer)
        try:
            while data := os.read(ours, 4096):
                said += data
        except OSError:  # how a terminal ends whose other side is gone
            pass
        code = process.wait(timeout=300)
    os.close(ours)
    return code, said.decode()


def _own_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.fault("K16")
@pytest.mark.parametrize(("answer", "code"), [(b"\x03", 130), (b"n\n", 1), (b"\n", 1), (b"\x04", 1)])
def test_whoever_does_not_say_yes_changes_nothing(machine: tuple[Machine, Shop], answer: bytes, code: int) -> None:
    where, shop = machine
    before = {path: path.stat().st_mtime_ns for path in shop.root.rglob("*")}
    ended, said = answered(where, answer)
    assert ended == code, said
    assert "replaced: " in said
    assert {path: path.stat().st_mtime_ns for path in shop.root.rglob("*")} == before
    assert leftovers(where.work) == []


def test_whoever_says_yes_has_the_app_as_it_was(machine: tuple[Machine, Shop]) -> None:
    where, shop = machine
    ended, said = answered(where, b"y\n")
    assert ended == 0, said
    assert shop.state == ("old", "old")
    shop.become("new")
    listed = json.loads(where.run("list", "asked", "--json").stdout)
    assert len(listed) == 1
