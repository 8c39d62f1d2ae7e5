"""The ``backups`` command as a person or a script uses it: the real one, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

import cli
from tests.cli.conftest import Command
from tests.peers.command import TIMEOUT, Machine
from tests.peers.prefect_server import prefect_server
from tests.peers.prefect_worker import until


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        yield Machine(tmp_path_factory.mktemp("home"), url)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    (root / "uploads").mkdir(parents=True)
    (root / "uploads/a.txt").write_text("a")
    with closing(sqlite3.connect(root / "shop.sqlite")) as database, database:
        database.execute("CREATE TABLE t (x)")
        database.execute("INSERT INTO t VALUES (42)")
    return root


def test_an_app_is_described_once_then_run_listed_shown_and_restored_by_name(
    machine: Machine, data: Path, tmp_path: Path
) -> None:
    disk = str(tmp_path / "disk")
    first = machine.json(
        *(
            "run",
            "--app",
            "shop",
            "--source",
            str(data / "shop.sqlite"),
            "--source",
            str(data / "uploads"),
            "--to",
            disk,
        )
    )
    second = machine.json("run", "shop")
    assert first["type"] == second["type"] == "full"
    assert {artifact["source"] for artifact in first["artifacts"]} == {"shop-db", "shop-uploads"}
    assert [place["status"] for place in first["destinations"]] == ["committed"]
    listed = machine.json("list", "shop", "--from", disk)
    assert [row["id"] for row in listed] == [first["id"], second["id"]]
    assert {row["verified"] for row in listed} == {"read-back"}
    shown = machine.run("show", first["id"][-6:], "--from", disk).stdout
    assert "tar -xpf -" in shown
    record = machine.json("show", first["id"], "--from", disk)
    assert f"files read from {record['offset']:.1f} s after its last database" in shown
    assert shown.count("s of the run") == 2
    target = tmp_path / "restored"
    machine.run("restore", "shop", first["id"], "--from", disk, "--to", str(target))
    assert (target / "shop-uploads/a.txt").read_text() == "a"
    with closing(sqlite3.connect(target / "shop-db.sqlite")) as database:
        assert database.execute("SELECT x FROM t").fetchall() == [(42,)]


@pytest.mark.law(8)
@pytest.mark.fault("A10", "C08")
def test_encrypted_backups_need_their_identity_and_a_new_machine_needs_the_key_id(
    machine: Machine, data: Path, tmp_path: Path
) -> None:
    key, disk = tmp_path / "key", str(tmp_path / "disk")
    recipient = machine.run("keys", "generate", "--output", str(key)).stdout.strip()
    assert key.stat().st_mode & 0o777 == 0o600
    source = f"sealed-files={data / 'uploads'}"
    ran = machine.run("run", "--app", "sealed", "--source", source, "--to", disk, "--encrypt-to", recipient)
    assert "--identity FILE" in ran.stdout
    new = Machine(tmp_path / "new-home", None)
    new.home.mkdir()
    restore = ["restore", "sealed", "latest", "--from", disk, "--to", str(tmp_path / "restored")]
    refused = new.run(*restore, ok=False)
    assert refused.returncode == 1
    trusted = re.search(r"--trust ([0-9a-f]{32})", refused.stderr)
    assert trusted, refused.stderr
    assert machine.run("keys", "show").stdout.strip() == trusted[1]
    without = new.run(*restore, "--trust", trusted[1], ok=False)
    assert "--identity" in without.stderr
    machine.run("keys", "generate", "--output", str(tmp_path / "other"))
    wrong = new.run(*restore, "--trust", trusted[1], "--identity", str(tmp_path / "other"), ok=False)
    assert recipient in wrong.stderr
    assert not (tmp_path / "restored").exists()
    new.run(*restore, "--trust", trusted[1], "--identity", str(key))
    assert (tmp_path / "restored/a.txt").read_text() == "a"
    again = new.run(*restore, "--trust", trusted[1], "--identity", str(key), ok=False)
    assert again.returncode == 1
    assert "--overwrite" in again.stderr


@pytest.mark.fault("N01", "N02", "N03", "N04")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run",), "no app is named"),
        (("nosuch",), "nosuch"),
        (("run", "$(touch canary)"), "not a valid name"),
        (("run", "../etc"), "not a valid name"),
        (("run", "a\x1b[31mb"), r"\x1b"),
        (("run", "--app", "x", "--source", "postgresql://u:secret@h/d", "--to", "/tmp/x"), "password"),
        (("run", "--app", "x", "--source", "ftp://h/d", "--to", "/tmp/x"), "ftp"),
        (("run", "--app", "x", "--source", "/nosuch/dir", "--to", "/tmp/x"), "/nosuch/dir"),
        (("restore", "shop", "latest", "--from", "/x"), "--to"),
        (("restore", "shop", "latest", "--from", "/x", "--to", "y", "--trust", "z"), "32 hex digits"),
        (("keys", "trust", "z"), "64 hex digits"),
        (("show", "nosuch"), "nosuch"),
    ],
)
def test_bad_usage_exits_with_2_and_says_what_and_what_to_do(
    command: Command, arguments: tuple[str, ...], said: str
) -> None:
    done = command(*arguments, code=2)
    assert said in done.err
    assert "secret" not in done.err
    assert "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) <= 3
    assert not (Path.cwd() / "canary").exists()


def test_a_failure_exits_with_1_and_debug_shows_the_traceback(machine: Machine, data: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    machine.run("run", "--app", "lost", "--source", f"lost-files={data / 'uploads'}", "--to", str(disk))
    (data / "uploads/a.txt").unlink()
    (data / "uploads").rmdir()
    failed = machine.run("run", "lost", ok=False)
    assert failed.returncode == 1
    assert str(data / "uploads") in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "Traceback" in machine.run("run", "lost", "--debug", ok=False).stderr
    rows = machine.json("list", "lost")
    assert [row["status"] for row in rows] == ["success", "failed", "failed"]


def test_a_saved_app_is_not_replaced_by_another_of_its_name(command: Command, data: Path, tmp_path: Path) -> None:
    disk = str(tmp_path / "disk")
    command("run", "--app", "twice", "--source", f"twice-files={data / 'uploads'}", "--to", disk)
    other = command("run", "--app", "twice", "--source", f"twice-db={data / 'shop.sqlite'}", "--to", disk, code=2)
    assert "saved with other sources" in other.err
    assert "twice-db" not in command("source", "list").out


def test_an_app_whose_new_source_does_not_work_leaves_nothing_saved(
    command: Command, data: Path, tmp_path: Path
) -> None:
    wrong = "postgresql://nobody@127.0.0.1:1/typo"
    tried = ("run", "--app", "typo", "--source", f"typo-files={data / 'uploads'}", "--source", f"typo-db={wrong}")
    assert "port 1 failed" in command(*tried, "--to", str(tmp_path / "disk"), code=1).err
    assert "typo" not in command("source", "list").out + command("app", "list").out


def test_nouns_are_added_listed_shown_tested_and_removed(command: Command, data: Path, tmp_path: Path) -> None:
    command("source", "add", "directory", "n-files", str(data / "uploads"))
    command("destination", "add", "local", "n-disk", str(tmp_path / "disk"))
    command("app", "add", "n-app", "--source", "n-files", "--to", "n-disk")
    assert {"name": "n-files", "kind": "directory"} in command("source", "list", "--json").json
    assert command("destination", "show", "n-disk", "--json").json["root"] == str(tmp_path / "disk")
    command("destination", "test", "n-disk")
    command("source", "test", "n-files")
    assert "used by app n-app" in command("source", "remove", "n-files", code=2).err
    for noun in ("app", "source", "destination"):
        name = f"n-{'files' if noun == 'source' else 'disk' if noun == 'destination' else 'app'}"
        command(noun, "remove", name)
        assert name not in command(noun, "list").out


def test_a_source_that_does_not_work_is_not_saved(command: Command, tmp_path: Path) -> None:
    command("source", "add", "sqlite", "ghost", tmp_path / "ghost.sqlite", code=1)
    assert "ghost" not in command("source", "list").out
    command("source", "add", "sqlite", "ghost", tmp_path / "ghost.sqlite", "--no-test")
    assert "ghost" in command("source", "list").out
    command("source", "remove", "ghost")


def _commands(help_text: str) -> list[str]:
    return re.findall(r"^│ ([a-z]+) ", help_text, re.MULTILINE)


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    leaves = 0
    pending: list[list[str]] = [[]]
    while pending:
        words = pending.pop()
        with pytest.raises(SystemExit, match="0"):
            cli.app([*words, "--help"])
        shown = capsys.readouterr().out
        below = _commands(shown)
        pending += [[*words, word] for word in below]
        if not below:
            leaves += 1
            assert "Example: backups" in shown, f"{words} has no example"
    assert leaves >= 20


def test_help_and_a_list_of_a_path_do_not_need_prefect(machine: Machine) -> None:
    code = "import sys; sys.argv = ['backups', '--help']\nimport cli\ntry:\n cli.main()\nexcept SystemExit: pass\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "print('prefect' in sys.modules)"],
        env=machine.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.fault("O01", "O09")
def test_restore_and_list_from_a_path_work_where_no_prefect_api_can_be_had(
    machine: Machine, data: Path, tmp_path: Path
) -> None:
    disk = str(tmp_path / "disk")
    machine.run("run", "--app", "offline", "--source", f"offline-files={data / 'uploads'}", "--to", disk)
    alone = Machine(machine.home, None, {"PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////nosuch/db"})
    assert len(alone.json("list", "offline", "--from", disk)) == 1
    alone.run("restore", "offline", "latest", "--from", disk, "--to", str(tmp_path / "restored"))
    assert (tmp_path / "restored/a.txt").read_text() == "a"


def test_the_demo_needs_no_server_and_leaves_none_behind(tmp_path: Path) -> None:
    machine = Machine(tmp_path, None, {"TMPDIR": str(tmp_path)})
    done = machine.run("demo")
    assert "rows and 201 files are equal" in done.stdout
    assert "Next:" in done.stdout
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and entry.name != str(os.getpid()):
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            assert f"PREFECT_HOME={tmp_path}".encode() not in environment, "a process of the demo lives on"


def history(database: Path, days: int = 0) -> list[str]:
    """The runs that have ended, the first of them made older by so many *days*."""
    older = (
        "UPDATE flow_run SET end_time = strftime('%Y-%m-%d %H:%M:%f000', end_time, ?) WHERE id ="
        " (SELECT id FROM flow_run WHERE end_time IS NOT NULL ORDER BY end_time LIMIT 1)"
    )
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        if days:
            connection.execute(older, (f"-{days} days",))
        ended = "SELECT id FROM flow_run WHERE end_time IS NOT NULL ORDER BY end_time"
        return [row[0] for row in connection.execute(ended)]


def test_up_serves_the_ui_and_a_worker_and_ctrl_c_ends_all_of_it(data: Path, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "home", None)
    machine.home.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "cli", "up", "--port", "0", "--console-port", "0"],
        env=machine.environment(PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS="1"),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as up:
        assert up.stderr is not None
        try:
            lines = []
            for line in up.stderr:
                lines.append(line)
                if "Ctrl-C" in line:
                    break
            else:
                pytest.fail(f"it ended: {lines}")
            (console,) = [line.split()[1] for line in lines if line.startswith("Backups: http://127.0.0.1:")]
            assert httpx.get(f"{console}/api/session", timeout=60).json()["via"] == "nobody"
            state = json.loads((machine.home / "prefect/backups/up.json").read_text())
            disk = str(tmp_path / "disk")
            machine.run("run", "--app", "up", "--source", f"up-files={data / 'uploads'}", "--to", disk)
            prefect = subprocess.run(
                [sys.executable, "-m", "prefect", "deployment", "run", "backup/on-demand", "-p", "app=up", "--watch"],
                env=machine.environment(**state["environment"]),
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
            )
            assert prefect.returncode == 0, prefect.stdout + prefect.stderr
            assert len(machine.json("list", "up", "--from", disk)) == 2
            old, new = history(machine.home / "prefect/prefect.db", days=91)
            until(lambda: old not in history(machine.home / "prefect/prefect.db"))
            assert history(machine.home / "prefect/prefect.db") == [new], "Prefect forgets what is older than 90 days"
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(timeout=300)
    assert up.returncode == 0
    assert not (machine.home / "prefect/backups/up.json").exists()
