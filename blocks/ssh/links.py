"""Connections to servers that all steps of a run share: each carries several sessions, and is closed when unused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import paramiko

from blocks.ssh.errors import PROBLEMS
from blocks.ssh.login import Login, close, logged_in
from blocks.ssh.wire import Wire

SESSIONS = 8
"""Sessions on one connection: sshd takes 10 unless its MaxSessions says otherwise."""
_PACKET = 128 * 1024  # bytes in one packet to us: fewer and larger ones than the usual 32 KiB
UNUSED = 20.0
"""Seconds after its last session in which a connection waits for the next one."""


@dataclass(eq=False)
class Link:
    """One connection."""

    transport: paramiko.Transport
    wire: Wire
    sessions: int = 0
    room: int = SESSIONS
    """How many sessions it takes at most, as far as is known."""
    closing: threading.Timer | None = None
    """What closes it when it is not used until then."""

    @property
    def alive(self) -> bool:
        """Whether it still stands."""
        return self.transport.is_active() and not self.wire.ended

    def close(self) -> None:
        """End it, and whatever runs on it."""
        close(self.transport, self.wire)


@dataclass(eq=False)
class Links:
    """The connections to one server as one account. Every method may be called by any thread."""

    login: Login
    facts: dict[str, Any] = field(default_factory=dict)
    """What was found out about the server, and holds for all connections."""
    _open: list[Link] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _connecting: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def session(self, window: int) -> Iterator[tuple[paramiko.Channel, Link]]:
        """A new session, with *window* bytes under way at most. Raises as ``logged_in`` does, and ``PROBLEMS``."""
        channel, link = self._begin(window)
        try:
            yield channel, link
        finally:
            with suppress(*PROBLEMS):  # the connection may be gone already
                channel.close()
            self._give(link)

    def _begin(self, window: int) -> tuple[paramiko.Channel, Link]:
        while True:
            link = self._take()
            try:
                return link.transport.open_session(window, _PACKET, self.login.connect_timeout), link
            except paramiko.ChannelException:  # it takes no more of them: one less than it has now
                self._give(link)
                with self._lock:
                    link.room = link.sessions
                if not link.room:
                    raise
            except BaseException:
                self._give(link)
                raise

    def _take(self) -> Link:
        with self._connecting:  # whoever comes meanwhile shares what is made
            with self._lock:
                self._open = [link for link in self._open if link.alive or link.sessions]
                for link in self._open:
                    if link.alive and link.sessions < link.room:
                        link.sessions += 1
                        if link.closing is not None:
                            link.closing.cancel()
                        return link
            with logged_in(self.login) as (transport, wire):
                link = Link(transport, wire, sessions=1)
            with self._lock:
                self._open.append(link)
            return link

    def _give(self, link: Link) -> None:
        with self._lock:
            link.sessions -= 1
            if link.sessions:
                return
            link.closing = threading.Timer(UNUSED, self._close_unused, (link,))
            link.closing.daemon = True
            link.closing.start()

    def _close_unused(self, link: Link) -> None:
        with self._lock:
            if link.sessions or link.closing is not threading.current_thread():
                return  # it has been used since
            if link in self._open:
                self._open.remove(link)
        link.close()


_links: dict[Login, Links] = {}
_lock = threading.Lock()


def links_to(login: Login) -> Links:
    """Those of this process: every block that logs in so shares them."""
    with _lock:
        return _links.setdefault(login, Links(login))
