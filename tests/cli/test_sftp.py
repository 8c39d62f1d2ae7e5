"""``backups destination add sftp`` as a person or a script uses it, on a real OpenSSH server."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.source import CANARY
from tests.peers.command import TIMEOUT, Machine
from tests.peers.prefect_server import prefect_server
from tests.peers.sshd import SshServer, running_sshd


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        yield Machine(tmp_path_factory.mktemp("home"), url)


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
    machine: Machine, server: SshServer, key: Path, tmp_path: Path
) -> None:
    added = machine.run(*add(server, "office", key, "--host-key", server.host_key))
    assert (
        f"Saved destination office: sftp://{server.user}@{server.host}:{server.port}{server.seen}/office"
        in added.stderr
    )
    machine.run("destination", "test", "office")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")
    made = machine.json("run", "--app", "site", "--source", str(tmp_path / "data"), "--to", "office")
    assert [place["status"] for place in made["destinations"]] == ["committed"]
    listed = machine.json("list", "site", "--from", "office")
    assert [(row["id"], row["verified"]) for row in listed] == [(made["id"], "server-digest")]
    machine.run("restore", "site", made["id"], "--from", "office", "--to", str(tmp_path / "restored"))
    assert (tmp_path / "restored" / "a.txt").read_text() == "a"


@pytest.mark.law(10)
@pytest.mark.fault("O12")
def test_no_secret_of_it_is_shown_or_stored_in_clear(machine: Machine, server: SshServer, key: Path) -> None:
    said = machine.run(*add(server, "secret", key, "--host-key", server.host_key, "--no-test"))
    assert "(not tested)" in said.stderr
    shown = machine.run("destination", "show", "secret").stdout
    assert server.host_key in shown
    body = key.read_text().splitlines()[1]
    for text in (said.stdout, said.stderr, shown, machine.run("destination", "show", "secret", "--json").stdout):
        assert CANARY not in text
        assert body not in text


@pytest.mark.fault("T15")
def test_without_a_terminal_and_a_host_key_it_is_refused_and_the_fingerprint_shown(
    machine: Machine, server: SshServer, key: Path
) -> None:
    refused = machine.run(*add(server, "unpinned", key), ok=False)
    assert refused.returncode == 2
    assert "SHA256:" in refused.stderr
    assert f"--host-key '{server.host_key}'" in refused.stderr
    assert machine.run("destination", "show", "unpinned", ok=False).returncode == 2


@pytest.mark.fault("T16")
def test_another_host_key_than_the_given_one_is_refused(machine: Machine, server: SshServer, key: Path) -> None:
    with running_sshd() as other:
        refused = machine.run(*add(server, "forged", key, "--host-key", other.host_key), ok=False)
    assert refused.returncode == 1
    assert "SECURITY" in refused.stderr


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2), ("\n", 2)])
def test_at_a_terminal_the_fingerprint_is_shown_and_pinned_when_the_person_agrees(
    machine: Machine, server: SshServer, key: Path, answer: str, code: int
) -> None:
    name = f"asked-{code}-{len(answer)}"
    said, returned = at_a_terminal(machine, add(server, name, key), "[y/N] ", answer)
    assert "SHA256:" in said
    assert returned == code, said
    assert (machine.run("destination", "show", name, ok=False).returncode == 0) == (code == 0)


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
    machine: Machine, server: SshServer, more: tuple[str, ...], said: str
) -> None:
    where = ("--host", server.host, "--user", server.user, "--host-key", server.host_key, "--root", "/backups")
    kept = [part for pair in zip(where[::2], where[1::2], strict=True) if pair[0] not in more for part in pair]
    refused = machine.run("destination", "add", "sftp", "bad", *kept, *more, ok=False)
    assert refused.returncode == 2, refused.stderr
    assert said in refused.stderr


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
