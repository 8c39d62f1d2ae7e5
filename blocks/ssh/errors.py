"""What can go wrong on the way through SSH, sorted, whoever travels on it: each door makes its own errors of it."""

from __future__ import annotations

import errno
import os
import socket
from enum import Enum

import paramiko

from vault.errors import printable

PROBLEMS = (paramiko.SSHException, EOFError, OSError)
"""What paramiko and the network raise."""


class Refusal(Exception):
    """The server does not let us in, for a reason that we know and paramiko has no exception for."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class Trouble(Enum):
    """The kinds of trouble, each with what to do about it."""

    AWAY = "Look at the server and the network to it; this is tried again."
    BUSY = "The server takes no more sessions now (see MaxSessions of sshd); this is tried again."
    LOGIN = "Give the server the public key (ssh-copy-id), or correct the user, the key or the password."
    ALGORITHMS = "Nothing older than AES and SHA-2 is taken: bring the server's SSH up to date."
    FORGED = "Find out what stands between this machine and the server."
    OTHER = ""

    @property
    def passes(self) -> bool:
        """Whether trying again may help."""
        return self in (Trouble.AWAY, Trouble.BUSY)


_PASSING = (  # what paramiko says when it was the network or a busy server, and may be gone next time
    *("Error reading SSH protocol banner", "No existing session", "SSH session not active", "Channel closed"),
    *("Server connection dropped", "Key-exchange timed out", "Negotiation failed", "Timeout opening channel"),
    *("Authentication timeout", "Authentication failed: transport shut down"),
)
_NETWORK = frozenset(
    {
        *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT, errno.ENOTCONN),
        *(errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ENETRESET, errno.ESHUTDOWN),
        *(errno.EADDRNOTAVAIL, errno.EBADF, None),  # paramiko: "Socket is closed"
    }
)


def trouble(error: BaseException) -> Trouble:
    """Of which kind *error* is, one of :data:`PROBLEMS`."""
    if isinstance(error, paramiko.AuthenticationException):
        return Trouble.AWAY if str(error).startswith(_PASSING) else Trouble.LOGIN
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return Trouble.ALGORITHMS
    if isinstance(error, paramiko.ChannelException):
        return Trouble.BUSY
    if isinstance(error, paramiko.ssh_exception.MessageOrderError):
        return Trouble.FORGED
    if isinstance(error, paramiko.SSHException):
        return Trouble.AWAY if str(error).startswith(_PASSING) else Trouble.OTHER
    if isinstance(error, EOFError | TimeoutError | socket.gaierror):
        return Trouble.AWAY
    return Trouble.AWAY if isinstance(error, OSError) and error.errno in _NETWORK else Trouble.OTHER


def reason(error: BaseException) -> str:
    """What *error* says, for a person."""
    if isinstance(error, EOFError):
        return "the connection was lost"
    if isinstance(error, socket.gaierror):
        return f"the host name cannot be resolved: {error.strerror}"
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror or os.strerror(error.errno)
    return printable(str(error))[:300] or type(error).__name__
