"""Getting to an SFTP server: the right one, by strong means only, with each kind of key."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from blocks.destinations.sftp import SftpDestination
from blocks.ssh.keys import fingerprint, host_key_line, private_key_text
from tests.contract.destination import KEY, get, keys, put
from tests.contract.source import CANARY
from tests.destinations.test_sftp import on
from tests.peers.rclone_sftp import SftpOfRclone
from tests.peers.sshd import SshServer, new_key, running_sshd
from vault.errors import (
    AccessDenied,
    BackupError,
    ConfigError,
    DestinationError,
    HostKeyRejected,
    Transient,
)

KINDS = {
    "ed25519": ("-t", "ed25519"),
    "rsa": ("-t", "rsa", "-b", "2048"),
    "ecdsa 256": ("-t", "ecdsa", "-b", "256"),
    "ecdsa 521": ("-t", "ecdsa", "-b", "521"),
    "rsa as PEM": ("-t", "rsa", "-b", "2048", "-m", "PEM"),
    "ecdsa as PEM": ("-t", "ecdsa", "-m", "PEM"),
    "rsa as PKCS8": ("-t", "rsa", "-b", "2048", "-m", "PKCS8"),
}
"""Of private keys, as ``ssh-keygen`` makes them."""


@pytest.fixture
def own() -> Iterator[SshServer]:
    """A server that a test may change."""
    with running_sshd() as server:
        yield server


def refused(destination: SftpDestination, kind: type[BackupError]) -> BackupError:
    """The error that everything ends with; it is exactly of that *kind*, and holds no secret."""
    with pytest.raises(kind) as caught:
        destination.list("")
    assert type(caught.value) is kind
    assert CANARY not in str(caught.value)
    return caught.value


# -- the right server


@pytest.mark.fault("T15")
def test_a_host_key_that_is_not_pinned_is_refused_with_its_fingerprint_and_how_to_pin_it(
    own: SshServer, tmp_path: Path
) -> None:
    error = refused(on(own, tmp_path, host_key=""), HostKeyRejected)
    assert not isinstance(error, Transient)
    assert fingerprint(own.host_key) in error.message
    assert f"--host-key '{own.host_key}'" in error.remedy
    assert "ssh-keygen -lf" in error.remedy
    assert "userauth-request" not in own.log()


@pytest.mark.fault("T16", "T17")
@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_host_key_that_changed_is_refused_loudly_before_anything_is_sent(
    own: SshServer, tmp_path: Path, kind: str
) -> None:
    destination = on(own, tmp_path)
    destination.prepare()
    before = own.log()
    own.change_host_key(kind)
    error = refused(SftpDestination.model_validate(destination.model_dump()), HostKeyRejected)
    assert not isinstance(error, Transient)
    assert "SECURITY" in error.message
    assert fingerprint(own.host_key) in error.message
    assert error.message.count("SHA256:") == 2
    assert "userauth-request" not in own.log()[len(before) :]


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_of_a_server_with_several_host_keys_the_pinned_one_is_asked_for(tmp_path: Path, kind: str) -> None:
    with running_sshd() as server:
        lines = {"ed25519": server.host_key}
        for other in ("rsa", "ecdsa"):
            lines[other] = server.add_host_key(other)
        destination = on(server, tmp_path, host_key=lines[kind])
        destination.prepare()
        assert destination.shown_host_key() == (server.host_key, fingerprint(server.host_key))


@pytest.mark.fault("T17")
@pytest.mark.parametrize(
    "weak", ["Ciphers aes128-cbc", "Ciphers 3des-cbc", "KexAlgorithms diffie-hellman-group14-sha1"], ids=str.split
)
def test_a_server_that_has_only_weak_algorithms_is_refused(tmp_path: Path, weak: str) -> None:
    with running_sshd("shell", weak) as server:
        error = refused(on(server, tmp_path), DestinationError)
        assert "SHA-2" in error.remedy


@pytest.mark.fault("T17")
def test_a_weak_mac_is_not_taken_either(tmp_path: Path) -> None:
    with running_sshd("shell", "Ciphers aes128-ctr", "MACs hmac-sha1") as server:
        refused(on(server, tmp_path), DestinationError)
    with running_sshd("shell", "Ciphers aes256-ctr", "MACs hmac-sha2-256") as server:
        on(server, tmp_path).prepare()


@pytest.mark.parametrize(
    "text",
    [
        "ssh-ed25519",
        "AAAAC3NzaC1lZDI1NTE5AAAAIAsKkHejv55E",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAsKkHejv55E",
        "ssh-dss AAAAB3NzaC1kc3MAAACBAKs",
        "SHA256:3EBF3HZzCNpm1i9DV7cFe//BwcaChVnf/63XqwyyBvM",
        "ssh-ed25519 not base64",
    ],
)
def test_a_host_key_that_is_none_is_refused_when_it_is_entered(text: str) -> None:
    with pytest.raises(ValidationError, match="host_key"):
        SftpDestination(host="h", user="u", root="/r", host_key=text)


@pytest.mark.parametrize("before", ["", "[example.org]:2222 ", "|1|abc=|def= ", "@cert "])
def test_a_host_key_is_taken_from_a_line_of_known_hosts_or_of_a_file(before: str) -> None:
    _, public = new_key()
    line = " ".join(public.split()[:2])
    assert host_key_line(f"{before}{line} root@nas\n") == line


# -- logging in


@pytest.mark.parametrize("passphrase", ["", CANARY])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_of_key_logs_in(sshd: SshServer, tmp_path: Path, kind: tuple[str, ...], passphrase: str) -> None:
    key = sshd.key(passphrase, kind)
    destination = on(sshd, tmp_path, private_key=SecretStr(key), passphrase=SecretStr(passphrase))
    destination.prepare()
    put(destination, KEY, b"x")
    assert get(destination, KEY) == b"x"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("newline", [" ", "\\n", "\r\n", "\n  "])
def test_a_key_that_was_pasted_into_one_line_gets_its_lines_back(kind: tuple[str, ...], newline: str) -> None:
    for passphrase in ("", "secret"):
        text, _ = new_key(passphrase, kind)
        pasted = SftpDestination(
            host="h", user="u", root="/r", private_key=SecretStr(f" {text.strip()} ".replace("\n", newline))
        )
        assert "".join(pasted.private_key.get_secret_value().split()) == "".join(text.split())
        assert private_key_text(pasted.private_key.get_secret_value()) == pasted.private_key.get_secret_value()


@pytest.mark.parametrize("text", ["x", "-----BEGIN OPENSSH PRIVATE KEY-----", "ssh-ed25519 AAAA"])
def test_a_private_key_that_is_none_is_refused_when_it_is_entered(text: str) -> None:
    with pytest.raises(ValidationError, match="private key"):
        SftpDestination(host="h", user="u", root="/r", private_key=SecretStr(text))


def test_a_key_that_the_server_does_not_take_is_access_denied(sshd: SshServer, tmp_path: Path) -> None:
    text, _ = new_key()
    error = refused(on(sshd, tmp_path, private_key=SecretStr(text), passphrase=SecretStr("")), AccessDenied)
    assert "ssh-copy-id" in error.remedy


@pytest.mark.parametrize("passphrase", ["", "wrong"])
def test_a_passphrase_that_does_not_open_the_key_is_said(sshd: SshServer, tmp_path: Path, passphrase: str) -> None:
    error = refused(on(sshd, tmp_path, passphrase=SecretStr(passphrase)), ConfigError)
    assert "passphrase" in error.message


def test_a_key_of_another_type_is_said(sshd: SshServer, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    text = X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    error = refused(on(sshd, tmp_path, private_key=SecretStr(text), passphrase=SecretStr("")), ConfigError)
    assert "not supported" in error.message


def test_a_password_logs_in_and_a_wrong_one_is_access_denied(rclone_sftp: SftpOfRclone, tmp_path: Path) -> None:
    on(rclone_sftp, tmp_path).prepare()
    refused(on(rclone_sftp, tmp_path, password=SecretStr(f"{CANARY}!")), AccessDenied)


def test_a_key_that_is_refused_leaves_the_password_to_be_tried(rclone_sftp: SftpOfRclone, tmp_path: Path) -> None:
    text, _ = new_key()
    on(rclone_sftp, tmp_path, private_key=SecretStr(text)).prepare()


def test_the_agents_keys_log_in(sshd: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = {"private_key": SecretStr(""), "passphrase": SecretStr(""), "agent": True}
    said = refused(on(sshd, tmp_path, **nothing), ConfigError)
    assert "agent has no key" in said.message
    (tmp_path / "key").write_text(sshd.key())
    (tmp_path / "key").chmod(0o600)
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.PIPE)
    try:
        assert agent.stdout is not None
        agent.stdout.readline()  # it listens
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        add = ["ssh-add", "-q", str(tmp_path / "key")]
        subprocess.run(add, check=True, env={**os.environ, "SSH_AUTH_SOCK": str(socket)}, stdin=subprocess.DEVNULL)
        on(sshd, tmp_path, **nothing).prepare()
    finally:
        agent.terminate()
        agent.wait()


def test_without_any_way_to_log_in_it_is_said(sshd: SshServer, tmp_path: Path) -> None:
    error = refused(on(sshd, tmp_path, private_key=SecretStr(""), passphrase=SecretStr("")), ConfigError)
    assert "Give a private key, a password" in error.remedy


# -- accounts that are not made for it


@pytest.mark.parametrize(
    ("setting", "kind", "said"),
    [
        ("ForceCommand echo Welcome to this server", DestinationError, "not SFTP"),
        ("ForceCommand echo Hi; exec /usr/lib/openssh/sftp-server", DestinationError, "not SFTP"),
        ("AuthenticationMethods publickey,publickey", AccessDenied, "more than one proof"),
        ("DenyUsers *", AccessDenied, "Authentication failed"),
    ],
)
def test_an_account_that_cannot_be_used_is_said_to_be_so(
    tmp_path: Path, setting: str, kind: type[BackupError], said: str
) -> None:
    with running_sshd("shell", setting) as server:
        error = refused(on(server, tmp_path), kind)
        assert said in error.message


def test_an_account_without_sftp_is_said_to_be_so(tmp_path: Path) -> None:
    with running_sshd(sftp="/nonexistent/sftp-server") as server:
        server.without_sftp()
        error = refused(on(server, tmp_path), DestinationError)
        assert "does not offer SFTP" in error.message
        assert "Subsystem" in error.remedy


@pytest.mark.parametrize("sessions", [0, 1])
def test_a_server_that_takes_no_more_sessions_is_tried_again_later(tmp_path: Path, sessions: int) -> None:
    with running_sshd("shell", f"MaxSessions {sessions}") as server:
        destination = on(server, tmp_path)
        if sessions:  # enough for SFTP, not for a command beside it
            destination.prepare()
            put(destination, KEY, b"x")
            assert destination.digest(KEY) is None
            assert keys(destination) == {KEY}
        else:
            with pytest.raises(Transient):
                destination.prepare()
