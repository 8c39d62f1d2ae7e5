"""Connections to an SSH server: to the right one only, logged in, and kept for the next who needs one."""

from __future__ import annotations

import logging
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import paramiko
from pydantic import SecretStr

from blocks.destinations.sftp_client import WINDOW, SftpClient
from blocks.destinations.sftp_keys import fingerprint, line_of, private_key
from blocks.destinations.sftp_socket import PatientSocket
from vault.errors import AccessDenied, ConfigError, DestinationError, HostKeyRejected

# The fastest first.
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
_MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
_SIGNATURES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}  # other types sign with the algorithm of their own name
_ALIVE = 15  # seconds between signs of life, for firewalls that forget, and to notice a dead server
_KEPT, _KEPT_FOR = 8, 60.0  # connections that wait for their next use, and how many seconds
_ANSWER = 4096  # bytes of what a command says, at most

# What paramiko says while it fails comes as an exception too. Whoever wants to see more sets this logger's level.
_LOG = "backups.ssh"
if logging.getLogger(_LOG).level == logging.NOTSET:
    logging.getLogger(_LOG).setLevel(logging.CRITICAL)


_Way = Callable[[paramiko.Transport], list[str]]


@dataclass(frozen=True)
class Login:
    """Where to, as whom, and how long to wait for it."""

    host: str
    port: int
    user: str
    host_key: str
    private_key: SecretStr
    passphrase: SecretStr
    password: SecretStr
    agent: bool
    connect_timeout: float
    idle_timeout: float

    @property
    def server(self) -> str:
        return f"{self.host}:{self.port}"


class Connection:
    """A session of SFTP on a connection of its own. One user at a time."""

    def __init__(self, transport: paramiko.Transport, wire: PatientSocket, patience: float) -> None:
        self._transport, self._wire = transport, wire
        self.close = weakref.finalize(self, _close, transport, wire)
        with wire.within(patience):
            channel = transport.open_session(window_size=2 * WINDOW)
            _begin_sftp(transport, channel)
        self.sftp = SftpClient(channel, wire, patience)

    @property
    def usable(self) -> bool:
        """Whether it still stands, with nothing under way."""
        return self.close.alive and self._transport.is_active() and self.sftp.quiet and not self._wire.ended

    def run(self, command: str, seconds: float) -> bytes | None:
        """What *command* says when it succeeds; None where the account may not run it, it fails or takes too long."""
        try:
            with self._wire.within(seconds):
                return self._run(command)
        except (paramiko.SSHException, EOFError, OSError):
            return None

    def _run(self, command: str) -> bytes | None:
        channel = self._transport.open_session()
        with channel:
            channel.exec_command(command)
            channel.shutdown_write()  # whoever waits for input, such as a forced SFTP server, ends
            said = b""
            while block := channel.recv(_ANSWER):
                said += block
                if len(said) > _ANSWER:
                    return None
            return said if channel.recv_exit_status() == 0 else None


class Pool:
    """Connections that are not in use now. Every method may be called by any thread."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._lock = threading.Lock()
        self._kept: list[tuple[float, Connection]] = []

    def __deepcopy__(self, memo: object) -> Pool:
        return Pool(self._login)

    def take(self) -> Connection:
        """A connection for one user: the last one that was given back, or a new one."""
        now = time.monotonic()
        while True:
            with self._lock:
                if not self._kept:
                    break
                since, connection = self._kept.pop()
            if connection.usable and now - since < _KEPT_FOR:
                return connection
            connection.close()
        return connect(self._login)

    def give(self, connection: Connection) -> None:
        """Take it back; where it is of no use any more, it is closed."""
        with self._lock:
            if connection.usable and len(self._kept) < _KEPT:
                self._kept.append((time.monotonic(), connection))
                return
        connection.close()


def connect(login: Login) -> Connection:
    """Reach the server, make sure that it is the right one, and log in. What fails is raised as it comes."""
    ways = _ways_in(login)
    while True:
        with _transport(login.host, login.port, login.connect_timeout, login.host_key) as (transport, wire):
            check_host_key(login.server, line_of(transport.get_remote_server_key()), login.host_key)
            with wire.within(login.connect_timeout):
                logged_in = _log_in(transport, login, ways)
            if logged_in:
                transport.set_keepalive(_ALIVE)
                _notice_death(wire, login.idle_timeout)
                return Connection(transport, wire, login.idle_timeout)
            _close(transport, wire)


def read_host_key(host: str, port: int, timeout: float) -> str:
    """The key that the server shows now, as ``TYPE BASE64``; nobody logs in."""
    with _transport(host, port, timeout, "") as (transport, wire):
        key = line_of(transport.get_remote_server_key())
        _close(transport, wire)
        return key


def check_host_key(server: str, found: str, pinned: str) -> None:
    """Pass when *found* is the *pinned* key; ``HostKeyRejected`` with what to do otherwise (T15, T16)."""
    if found == pinned:
        return
    compare = f"Compare {fingerprint(found)} with what `ssh-keygen -lf /etc/ssh/ssh_host_…_key.pub` says on the server."
    pin = f"If it is the same, pin it: backups destination update NAME --host-key '{found}'"
    if not pinned:
        raise HostKeyRejected(
            f"the host key of {server} is not pinned: it is {fingerprint(found)}", f"{compare}\n{pin}"
        )
    raise HostKeyRejected(
        f"SECURITY: {server} has another host key than the one that was pinned. Somebody may have put a server of"
        f" their own in between. It shows {fingerprint(found)}; pinned is {fingerprint(pinned)}",
        f"Nothing was sent. Find out why it changed. {compare}\n{pin}",
    )


@contextmanager
def _transport(host: str, port: int, timeout: float, pinned: str) -> Iterator[tuple[paramiko.Transport, PatientSocket]]:
    """A connection whose keys are agreed; closed when what is done with it fails."""
    plain = socket.create_connection((host, port), timeout)
    wire = PatientSocket(fileno=plain.detach())
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        transport = paramiko.Transport(wire)
    except BaseException:
        wire.close()
        raise
    try:
        transport.set_log_channel(_LOG)
        _take_only_strong(transport.get_security_options(), pinned.partition(" ")[0])
        with wire.within(timeout):
            transport.start_client()
        yield transport, wire
    except BaseException:
        _close(transport, wire)
        raise


def _take_only_strong(options: Any, pinned_type: str) -> None:
    """No SHA-1, MD5, CBC or 3DES (T17); the pinned type of host key first, for a server that has several."""
    options.ciphers = _CIPHERS
    options.digests = _MACS
    options.kex = [name for name in options.kex if not name.endswith("-sha1")]
    first = _SIGNATURES.get(pinned_type, (pinned_type,))
    strong = [name for name in options.key_types if name not in ("ssh-rsa", "ssh-dss")]
    options.key_types = sorted(strong, key=lambda name: name not in first)


def _ways_in(login: Login) -> list[_Way]:
    """How to log in, in the order in which it is tried."""
    text, password = login.private_key.get_secret_value(), login.password.get_secret_value()
    keys = [private_key(text, login.passphrase.get_secret_value())] if text else []
    if login.agent:
        keys += paramiko.Agent().get_keys()
    ways: list[_Way] = [partial(_with_key, login.user, key) for key in keys]
    if password:
        ways.append(partial(_with_password, login.user, password))
    if ways:
        return ways
    raise ConfigError(
        f"nothing is given to log in to {login.server} with{': the SSH agent has no key' if login.agent else ''}",
        "Give a private key, a password, or an SSH agent that holds a key (ssh-add).",
    )


def _with_key(user: str, key: paramiko.PKey, transport: paramiko.Transport) -> list[str]:
    return transport.auth_publickey(user, key)


def _with_password(user: str, password: str, transport: paramiko.Transport) -> list[str]:
    return transport.auth_password(user, password)


def _log_in(transport: paramiko.Transport, login: Login, ways: list[_Way]) -> bool:
    """By the first of *ways* that is taken; those that are not are removed. False: the rest needs a new connection.

    Some servers close the connection at the second attempt (those in Go: paramiko begins each one anew).
    """
    first = True
    while True:
        try:
            more = ways[0](transport)
        except paramiko.AuthenticationException:
            lost = not transport.is_active()
            if first or not lost:
                if len(ways) == 1:
                    raise
                del ways[0]
            if lost:
                return False
            first = False
            continue
        if more:
            raise AccessDenied(
                f"{login.server} wants more than one proof of {login.user}", "Use an account that logs in with one key."
            )
        return True


def _begin_sftp(transport: paramiko.Transport, channel: paramiko.Channel) -> None:
    try:
        channel.invoke_subsystem("sftp")
    except paramiko.SSHException as error:
        if not transport.is_active():
            raise
        raise DestinationError(
            "the server does not offer SFTP to this account", "Have `Subsystem sftp internal-sftp` in its sshd_config."
        ) from error


def _notice_death(wire: PatientSocket, seconds: float) -> None:
    """The kernel ends the connection when what was sent is not acknowledged in time."""
    with suppress(OSError):  # not everywhere, and only a help
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def _close(transport: paramiko.Transport, wire: PatientSocket) -> None:
    with suppress(OSError):
        wire.shutdown(socket.SHUT_RDWR)  # else its thread would first wait for its own time-out
    transport.close()
