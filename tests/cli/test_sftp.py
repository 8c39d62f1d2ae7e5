"""``backups destination add sftp`` as a person or a script uses it, on a real OpenSSH server."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cli.api import free_port
from tests.cli.conftest import Command
from tests.contract.source import CANARY
from tests.peers.command import TIMEOUT, Machine
from tests.peers.sshd import SshServer, new_key, running_sshd


@pytest.fixture
def machine(prefect_api: object, tmp_path: Path) -> Machine:
    """For what has to be a process of its own: who asks a person needs a terminal."""
    from prefect.settings import PREFECT_API_URL

    return Machine(tmp_path / "home", str(PREFECT_API_URL.value()))


@pytest.fixture(scope="module")
def server() -> Iterator[SshServer]:
    with running_sshd() as server:
        yield server


@pytest.fixture
def key(server: SshServer, tmp_path: Path) -> Path:
    path = tmp_path / "id"
    path.write_text(server.key(CANARY))
    (tmp_path / "passphrase").write_text(CANARY + "\n")
    return path


def add(server: SshServer, name: str, key: Path, *more: str, passphrase: bool = True) -> tuple[str, ...]:
    where = (
        "--host",
        server.host,
        "--port",
        str(server.port),
        "--user",
        server.user,
        "--root",
        f"{server.seen}/{name}",
    )
    opened = ("--passphrase-file", str(key.with_name("passphrase"))) if passphrase else ()
    return ("destination", "add", "sftp", name, *where, "--key", str(key), *opened, *more)


def test_a_destination_is_added_with_its_host_key_backed_up_to_and_restored_from(
    command: Command, server: SshServer, key: Path, tmp_path: Path
) -> None:
    added = command(*add(server, "office", key, "--host-key", server.host_key))
    url = f"sftp://{server.user}@{server.host}:{server.port}{server.seen}/office"
    assert f"Saved destination office: {url}" in added.err
    steps = command("destination", "test", "office", "--json").json["steps"]
    assert [step["step"] for step in steps] == ["reach", "write", "list", "read back", "compare", "delete"]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")
    source = f"site-files={tmp_path / 'data'}"
    made = command("run", "--app", "site", "--source", source, "--to", "office", "--json").json
    assert [place["status"] for place in made["destinations"]] == ["committed"]
    listed = command("list", "site", "--from", "office", "--json").json
    assert [(row["id"], row["verified"]) for row in listed] == [(made["id"], "server-digest")]
    command("restore", "site", made["id"], "--from", "office", "--to", tmp_path / "restored")
    assert (tmp_path / "restored" / "a.txt").read_text() == "a"


@pytest.mark.law(10)
@pytest.mark.fault("O12")
def test_no_secret_of_it_is_shown(command: Command, server: SshServer, key: Path) -> None:
    said = command(*add(server, "secret", key, "--host-key", server.host_key, "--no-test"))
    assert "(not tested)" in said.err
    shown = command("destination", "show", "secret")
    assert server.host_key in shown.out
    body = key.read_text().splitlines()[1]
    for text in (said.out, said.err, shown.out, command("destination", "show", "secret", "--json").out):
        assert CANARY not in text
        assert body not in text


@pytest.mark.fault("T15")
def test_without_a_terminal_and_a_host_key_it_is_refused_and_the_fingerprint_shown(
    command: Command, server: SshServer, key: Path
) -> None:
    refused = command(*add(server, "unpinned", key), code=2)
    assert "SHA256:" in refused.err
    assert f"--host-key '{server.host_key}'" in refused.err
    command("destination", "show", "unpinned", code=2)


@pytest.mark.fault("T16")
def test_another_host_key_is_refused_until_it_is_pinned(command: Command, server: SshServer, key: Path) -> None:
    with running_sshd() as other:
        refused = command(*add(server, "moved", key, "--host-key", other.host_key), code=1)
    assert "SECURITY" in refused.err
    assert "nothing was saved" in refused.err or "Saved" not in refused.err
    command(*add(server, "moved", key, "--host-key", server.host_key))
    command("destination", "update", "moved", "--host-key", other.host_key, code=1)
    command("destination", "update", "moved", "--host-key", other.host_key, "--no-test")
    assert "SECURITY" in command("destination", "test", "moved", code=1).err
    command("destination", "update", "sftp", "moved", "--host-key", server.host_key)
    command("destination", "test", "moved")


def test_a_key_and_a_place_can_be_changed_and_the_rest_stays(
    command: Command, server: SshServer, key: Path, tmp_path: Path
) -> None:
    command(*add(server, "changed", key, "--host-key", server.host_key))
    before = command("destination", "show", "changed", "--json").json
    (tmp_path / "other").write_text(server.key())
    (server.served / "changed").rename(server.served / "elsewhere")
    root = f"{server.seen}/elsewhere"
    command("destination", "update", "changed", "--key", tmp_path / "other", "--root", root)
    after = command("destination", "show", "changed", "--json").json
    assert {name for name in before if before[name] != after[name]} == {"root"}
    assert after["root"] == root
    (tmp_path / "unknown").write_text(new_key()[0])
    assert "ssh-copy-id" in command("destination", "update", "changed", "--key", tmp_path / "unknown", code=1).err
    command("destination", "test", "changed")


def test_a_server_that_is_away_can_be_saved_and_prepared_later(command: Command, server: SshServer, key: Path) -> None:
    away = replace(server, port=free_port())
    saved = command(*add(away, "away", key, "--host-key", server.host_key, "--no-test"))
    assert "could not be prepared" in saved.err
    command("destination", "test", "away", code=1)
    command("destination", "update", "away", "--port", server.port)
    command("destination", "test", "away")


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2), ("\n", 2)])
def test_at_a_terminal_the_fingerprint_is_shown_and_pinned_when_the_person_agrees(
    machine: Machine, command: Command, server: SshServer, key: Path, answer: str, code: int
) -> None:
    name = f"asked-{code}-{len(answer)}"
    said, returned = at_a_terminal(machine, add(server, name, key), "[y/N] ", answer)
    assert "SHA256:" in said
    assert returned == code, said
    command("destination", "show", name, code=0 if code == 0 else 2)


def test_a_passphrase_is_asked_for_at_a_terminal(machine: Machine, server: SshServer, key: Path) -> None:
    arguments = add(server, "asked-passphrase", key, "--host-key", server.host_key, passphrase=False)
    said, returned = at_a_terminal(machine, arguments, "Passphrase of", f"{CANARY}\n")
    assert returned == 0, said
    assert CANARY not in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "nothing is given to log in"),
        (("--password",), "no terminal to ask"),
        (("--key", "/nonexistent"), "cannot be read"),
        (("--key", "/dev/null"), "nothing is given"),
        (("--agent", "--host-key", "ssh-ed25519 AAAA"), "host_key"),
        (("--agent", "--root", "backups"), "absolute path"),
        (("--agent", "--port", "0"), "port"),
    ],
)
def test_what_does_not_fit_is_bad_usage_and_named(
    command: Command, server: SshServer, more: tuple[str, ...], said: str
) -> None:
    where = ("--host", server.host, "--user", server.user, "--host-key", server.host_key, "--root", "/backups")
    kept = [part for pair in zip(where[::2], where[1::2], strict=True) if pair[0] not in more for part in pair]
    assert said in command("destination", "add", "sftp", "bad", *kept, *more, code=2).err


def at_a_terminal(machine: Machine, arguments: tuple[str, ...], prompt: str, answer: str) -> tuple[str, int]:
    """What the command says at a terminal, when *answer* is typed at *prompt*; and its exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments],
        env=machine.environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,  # getpass opens the controlling terminal, if there is one
    )
    os.close(theirs)
    said = b""
    try:
        while select.select([ours], [], [], TIMEOUT)[0]:
            try:
                said += os.read(ours, 4096)
            except OSError:  # it has ended
                break
            if prompt.encode() in said and answer:
                os.write(ours, answer.encode())
                answer = ""
        return said.decode(), process.wait(timeout=TIMEOUT)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
