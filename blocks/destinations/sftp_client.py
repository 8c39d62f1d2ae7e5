"""An SFTP session: many requests in flight at a time, so that the wire is never idle, in memory that does not grow.

paramiko gives the encrypted channel. Its own SFTP client asks for a whole file at once, and keeps all that comes in
memory; and it reads and writes in requests of 32 KiB: those of 255 KiB, where the server takes them, are faster.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from blocks.destinations import sftp_messages as ask
from blocks.destinations.sftp_messages import Attributes, Fields, Garbled, Request, SftpStatus
from blocks.ssh.wire import Wire, gather

T = TypeVar("T")

WINDOW = 4 * 1024 * 1024
"""Bytes in flight at most, in each direction."""

_SAFE = 32 * 1024  # what every server takes in one request
_LARGEST = 255 * 1024  # what OpenSSH takes
_PACKET = 32 * 1024 - 64  # what the channel sends in one packet to OpenSSH: pieces of that size are not cut again
_TOO_LONG = 1024 * 1024  # a packet, whatever its header says
_DIRECTORY_READS = 8  # in flight


class Channel(Protocol):
    """What we need of ``paramiko.Channel``."""

    @property
    def in_buffer(self) -> Sized: ...
    def send(self, data: bytes) -> int: ...
    def recv(self, size: int) -> bytes: ...


@dataclass(frozen=True)
class Pending(Generic[T]):
    """A request that was sent."""

    number: int
    request: Request[T]


class SftpClient:
    """A session on *channel*. One thread at a time. Each whole answer has *patience* seconds to come."""

    def __init__(self, channel: Channel, wire: Wire, patience: float) -> None:
        self._channel, self._wire, self._patience = channel, wire, patience
        self._received = memoryview(b"")
        self._number = 0
        self._open: set[int] = set()
        self._answers: dict[int, tuple[int, Fields]] = {}
        self.extensions = self._hello()
        self.read_length, self.write_length = self._lengths()

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way: only then may somebody else use the session."""
        return not (self._open or self._answers or self._received)

    def has(self, extension: str) -> bool:
        """Whether the server says that it has *extension*."""
        return extension in self.extensions

    # -- requests and answers

    def do(self, request: Request[T], patience: float | None = None) -> T:
        """The answer to *request*; ``SftpStatus`` where the server refuses."""
        return self.wait(self.send(request), patience)

    def all(self, *requests: Request[Any]) -> list[Any]:
        """The answers to all *requests*, in one round trip; the ``SftpStatus`` itself where one is refused."""
        return [self._outcome(pending) for pending in [self.send(request) for request in requests]]

    def send(self, request: Request[T], data: memoryview | None = None) -> Pending[T]:
        """Send *request*, with *data* after it, and do not wait."""
        self._number = (self._number + 1) & 0xFFFFFFFF
        rest = memoryview(b"") if data is None else data
        size = 5 + len(request.payload) + len(rest)
        head = struct.pack(">IBI", size, request.kind, self._number) + request.payload
        self._open.add(self._number)
        with self._wire.within(self._patience):
            self._send_all(head, rest)
        return Pending(self._number, request)

    def wait(self, pending: Pending[T], patience: float | None = None) -> T:
        """The answer to what was sent; others that come before it are kept."""
        if pending.number not in self._answers:
            self._receive(pending.number, patience or self._patience)
        kind, fields = self._answers.pop(pending.number)
        return pending.request.parse(kind, fields)

    def drain(self, pendings: Iterable[Pending[Any]]) -> None:
        """Wait for answers that nobody wants any more."""
        for pending in pendings:
            self._outcome(pending)

    def _outcome(self, pending: Pending[Any]) -> Any:
        try:
            return self.wait(pending)
        except SftpStatus as status:
            return status

    def _send_all(self, head: bytes, rest: memoryview) -> None:
        room = max(0, _PACKET - len(head))
        piece, rest = head + bytes(rest[:room]), rest[room:]
        while piece:
            sent = self._channel.send(piece)
            if not sent:
                raise EOFError("the server closed the session")
            piece = piece[sent:]
            if not piece:
                piece, rest = bytes(rest[:_PACKET]), rest[_PACKET:]

    def _receive(self, wanted: int, patience: float) -> None:
        while wanted not in self._answers:
            with self._wire.within(patience):
                packet = self._packet()
            fields = Fields(packet)
            kind, number = fields.byte(), fields.number()
            if number not in self._open:
                raise Garbled(f"an answer came to request {number}, which was never made")
            self._open.remove(number)
            self._answers[number] = kind, fields

    def _packet(self) -> memoryview:
        head = self._take(4)
        size = int(struct.unpack(">I", head)[0])
        if size > _TOO_LONG:
            raise Garbled(f"a packet of {size} bytes was announced: {bytes(head)!r}")
        return self._take(size)

    def _take(self, size: int) -> memoryview:
        """The next *size* bytes, copied only where they came in pieces."""
        taken, self._received = self._received[:size], self._received[size:]
        if len(taken) == size:
            return taken
        pieces, missing = [taken], size - len(taken)
        if missing > _SAFE:
            gather(self._channel.in_buffer)
        while missing:
            # All that has come: paramiko would move what is left of it with each piece that is taken.
            received = memoryview(self._channel.recv(4 * WINDOW))
            if not received:
                raise EOFError("the server closed the session")
            pieces.append(received[:missing])
            missing -= len(pieces[-1])
            self._received = received[len(pieces[-1]) :]
        return memoryview(b"".join(pieces))

    # -- what the server can do

    def _hello(self) -> dict[str, str]:
        with self._wire.within(self._patience):
            self._send_all(struct.pack(">IBI", 5, ask.INIT, 3), memoryview(b""))
            fields = Fields(self._packet())
        if fields.byte() != ask.VERSION or fields.number() < 3:
            raise Garbled("the server does not speak SFTP version 3")
        extensions = {}
        while fields.left:
            name = fields.text()
            extensions[name] = fields.text()
        return extensions

    def _lengths(self) -> tuple[int, int]:
        """How much to read and to write in one request."""
        if not self.has(ask.LIMITS):
            return _SAFE, _SAFE
        try:
            packet, reads, writes = self.do(ask.limits())
        except SftpStatus:
            return _SAFE, _SAFE
        longest = min(_LARGEST, packet - 1024) if packet else _LARGEST
        return max(_SAFE, min(longest, reads or longest)), max(_SAFE, min(longest, writes or longest))

    # -- transfers

    def write(self, handle: bytes, offset: int, blocks: Iterable[memoryview]) -> Iterator[int]:
        """Write *blocks* from *offset* on; yields, again and again, the offset up to which all is acknowledged.

        At most ``WINDOW`` bytes beyond that are under way, so only those can be written with gaps when it breaks.
        """
        waiting: deque[tuple[Pending[None], int]] = deque()
        done = end = offset
        try:
            for block in blocks:
                while end + len(block) - done > WINDOW:
                    done = self._acknowledged(waiting)
                    yield done
                end += len(block)
                waiting.append((self.send(ask.write(handle, end - len(block), len(block)), block), end))
            while waiting:
                done = self._acknowledged(waiting)
                yield done
        except SftpStatus:
            self.drain(pending for pending, _ in waiting)
            raise

    def _acknowledged(self, waiting: deque[tuple[Pending[None], int]]) -> int:
        pending, end = waiting.popleft()
        self.wait(pending)
        return end

    def scan(self, path: str) -> Iterator[tuple[str, Attributes]]:
        """Everything in the directory *path*, as one stream of reads; it raises where that breaks."""
        handle = self.do(ask.open_directory(path))
        waiting: deque[Pending[list[tuple[str, Attributes]]]] = deque()
        try:
            while True:
                while len(waiting) < _DIRECTORY_READS:
                    waiting.append(self.send(ask.read_directory(handle)))
                yield from self.wait(waiting.popleft())
        except SftpStatus as status:
            self.drain([*waiting, self.send(ask.close(handle))])
            if status.code != ask.END:
                raise

    def size_of(self, handle: bytes) -> int:
        """How many bytes an open file has, where the server does not say: found by reading single bytes (T19)."""

        def reaches(offset: int) -> bool:
            answer = self.all(ask.read(handle, offset, 1))[0]
            if isinstance(answer, SftpStatus) and answer.code != ask.END:
                raise answer
            return not isinstance(answer, SftpStatus) and len(answer) > 0

        return first_false(reaches)


def first_false(holds: Callable[[int], bool]) -> int:
    """The smallest number for which *holds* does not hold: it does for all below, and for none above."""
    low, high = -1, 0
    while holds(high):
        low, high = high, 2 * high + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high
