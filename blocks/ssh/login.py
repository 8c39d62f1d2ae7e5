"""The way into an SSH server: to the right one only, by strong means, with each kind of key."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, cast

import paramiko
from pydantic import SecretStr

from blocks.ssh.errors import Refusal
from blocks.ssh.keys import fingerprint, line_of, private_key
from blocks.ssh.wire import PatientChannel, PatientSocket, Wire
from vault.errors import ConfigError, HostKeyRejected

# The fastest first.
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
_MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
_SIGNATURES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}  # other types sign with the algorithm of their own name
_ALIVE = 15  # seconds between signs of life, for firewalls that forget, and to notice a dead server

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
    door: Literal["destination", "server"] = "destination"
    """What it is saved as: the noun of the command that changes it."""
    jump: Login | None = None
    """The server through which this one is reached."""

    @property
    def server(self) -> str:
        """Where, for a person."""
        return f"{self.host}:{self.port}"


@contextmanager
def logged_in(login: Login) -> Iterator[tuple[paramiko.Transport, Wire]]:
    """A connection to the right server, logged in; closed when what is done with it fails.

    What fails is raised as it comes: ``Refusal``, ``HostKeyRejected``, ``ConfigError`` or one of ``PROBLEMS``.
    """
    ways = _ways_in(login)
    while True:
        with _transport(login) as (transport, wire):
            check_host_key(login, line_of(transport.get_remote_server_key()))
            with wire.within(login.connect_timeout):
                taken = _log_in(transport, login, ways)
            if taken:
                transport.set_keepalive(_ALIVE)
                _notice_death(wire, login.idle_timeout)
                yield transport, wire
                return
            close(transport, wire)


def read_host_key(login: Login) -> str:
    """The key that the server shows now, as ``TYPE BASE64``; nobody logs in there."""
    with _transport(replace(login, host_key="")) as (transport, wire):
        key = line_of(transport.get_remote_server_key())
        close(transport, wire)
        return key


def check_host_key(login: Login, found: str) -> None:
    """Pass when *found* is the pinned key; ``HostKeyRejected`` with what to do otherwise (T15, T16)."""
    server, pinned = login.server, login.host_key
    if found == pinned:
        return
    compare = f"Compare {fingerprint(found)} with what `ssh-keygen -lf /etc/ssh/ssh_host_…_key.pub` says on the server."
    pin = f"If it is the same, pin it: backups {login.door} update NAME --host-key '{found}'"
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
def _transport(login: Login) -> Iterator[tuple[paramiko.Transport, Wire]]:
    """A connection whose keys are agreed; closed when what is done with it fails."""
    wire = _reached(login)
    try:
        transport = paramiko.Transport(cast("socket.socket", wire))
    except BaseException:
        wire.close()
        raise
    try:
        transport.set_log_channel(_LOG)
        _take_only_strong(transport.get_security_options(), login.host_key.partition(" ")[0])
        with wire.within(login.connect_timeout):
            transport.start_client()
        yield transport, wire
    except BaseException:
        close(transport, wire)
        raise


def _reached(login: Login) -> Wire:
    """A way to the server on which nothing was said yet."""
    if login.jump is None:
        wire = PatientSocket(socket.create_connection((login.host, login.port), login.connect_timeout))
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return wire
    with logged_in(login.jump) as (transport, outer):
        there = (login.host, login.port)
        channel = transport.open_channel("direct-tcpip", there, ("127.0.0.1", 0), timeout=login.connect_timeout)
        return PatientChannel(channel, lambda: close(transport, outer))


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
            raise Refusal(
                f"{login.server} wants more than one proof of {login.user}", "Use an account that logs in with one key."
            )
        return True


def _notice_death(wire: Wire, seconds: float) -> None:
    """The kernel ends the connection when what was sent is not acknowledged in time."""
    if isinstance(wire, PatientChannel):
        return  # the way to it has its own
    with suppress(OSError):  # not everywhere, and only a help
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def close(transport: paramiko.Transport, wire: Wire) -> None:
    """End a connection, at once."""
    with suppress(OSError):
        if isinstance(wire, PatientSocket):
            wire.shutdown(socket.SHUT_RDWR)  # else its thread would first wait for its own time-out
    transport.close()
