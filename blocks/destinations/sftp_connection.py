"""Connections for SFTP, kept for the next who needs one."""

from __future__ import annotations

import threading
import time
import weakref

import paramiko

from blocks.destinations.sftp_client import WINDOW, SftpClient
from blocks.ssh.login import Login, close, logged_in
from blocks.ssh.wire import Wire
from vault.errors import DestinationError

_KEPT, _KEPT_FOR = 8, 60.0  # connections that wait for their next use, and how many seconds
_ANSWER = 4096  # bytes of what a command says, at most


class Connection:
    """A session of SFTP on a connection of its own. One user at a time."""

    def __init__(self, transport: paramiko.Transport, wire: Wire, patience: float) -> None:
        self._transport, self._wire = transport, wire
        self.close = weakref.finalize(self, close, transport, wire)
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
    with logged_in(login) as (transport, wire):
        return Connection(transport, wire, login.idle_timeout)


def _begin_sftp(transport: paramiko.Transport, channel: paramiko.Channel) -> None:
    try:
        channel.invoke_subsystem("sftp")
    except paramiko.SSHException as error:
        if not transport.is_active():
            raise
        raise DestinationError(
            "the server does not offer SFTP to this account", "Have `Subsystem sftp internal-sftp` in its sshd_config."
        ) from error
