"""OpenSSH's SFTP server behind a go-between that breaks what it is told to break, request by request.

It is the ``Subsystem sftp`` command of a real sshd: ``python odd_sftp.py FILE``. FILE holds a JSON object of faults, of
``Oddities``; it is read again for each request, so that a test can change them under way.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

SERVER = "/usr/lib/openssh/sftp-server"
OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, READDIR, RENAME, EXTENDED = 3, 4, 5, 6, 7, 8, 12, 18, 200
VERSION, STATUS, DATA, NAME, ATTRS, REPLY = 2, 101, 103, 104, 105, 201
FAILURE, UNSUPPORTED = 4, 8
FOR_READING = b"\0\0\0\1"
FSYNC, HARDLINK, STATVFS = b"fsync@openssh.com", b"hardlink@openssh.com", b"statvfs@openssh.com"


@dataclass
class Oddities:
    """What is odd. All are off by default."""

    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By the kind of a request, or the name of an extension: the status that it gets instead of being done."""
    refuse_from: int = 0
    """Reads and writes that end below this offset are not refused."""
    refuse_only_writing: bool = False
    """Opening a file only to read it is not refused."""
    without: list[str] = field(default_factory=list)
    """Extensions that the server does not have."""
    no_size: bool = False
    """Attributes come without a size."""
    free: int | None = None
    """Bytes that ``statvfs`` says are free."""
    read_only: bool = False
    """``statvfs`` says that the file system is mounted read-only."""
    replacing_rename: bool = False
    """A rename replaces what is there."""
    short: int | None = None
    """A read gives so many bytes at most."""
    ends_at: int | None = None
    """Every file ends there for who reads it, whatever its attributes say."""
    flip_at: int | None = None
    """The byte at that offset is read wrongly."""
    forget_from: int | None = None
    """Writes from that offset on are acknowledged, and not done."""
    hold: int | None = None
    """The write that begins there is not done and not answered; what comes after it is."""
    breaks_at: int | None = None
    """The session ends instead of doing the write that begins there; what came before it is done."""
    clock: int = 0
    """Seconds that are added to every time."""
    backwards: bool = False
    """Answers come in pairs, the second one first, while more than one request is under way."""
    dies_at: str = ""
    """The session ends instead of doing a request of that kind, or that extension."""
    dies_after: str = ""
    """The session ends when such a request was done, before its answer."""


def command(file: Path) -> str:
    """For sshd's ``Subsystem sftp``; the faults are in *file*."""
    return f"{sys.executable} {Path(__file__).resolve()} {file}"


def put(file: Path, oddities: Oddities) -> None:
    """From the next request on, be as odd as that."""
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(oddities)))
    temporary.replace(file)


class Between:
    """Packets from the client to the server, and back."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._server = subprocess.Popen([SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._asked: dict[int, tuple[int, bytes, str]] = {}  # by number: kind, body and name of a request
        self._lock = threading.Lock()
        self._held_back: bytes | None = None

    @property
    def odd(self) -> Oddities:
        return Oddities(**json.loads(self._file.read_text()))

    def run(self) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        answering = threading.Thread(target=self._answer, args=(self._server.stdout,), daemon=True)
        answering.start()
        while (packet := packet_from(sys.stdin.buffer)) is not None:
            passed = self._request(packet)
            if passed is not None:
                send(self._server.stdin, passed)
        self._finish()

    def _finish(self) -> None:
        """Have done what was passed on, and end."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()
        os._exit(0)

    def _request(self, packet: bytes) -> bytes | None:
        kind = packet[0]
        if kind == 1:
            return packet
        number, body = struct.unpack(">I", packet[1:5])[0], packet[5:]
        odd, name = self.odd, string(body)[0] if kind == EXTENDED else b""
        called = name.decode() or str(kind)
        if odd.dies_at == called:
            os._exit(1)
        offset = offset_of(body) if kind in (READ, WRITE) else 0
        with self._lock:
            self._asked[number] = kind, body, called
        reading = kind == OPEN and string(body)[1][:4] == FOR_READING
        before = kind in (READ, WRITE) and end_of(body) <= odd.refuse_from
        if called in odd.refuse and not before and not (reading and odd.refuse_only_writing):
            return self._say(number, *odd.refuse[called])
        if kind == WRITE and odd.forget_from is not None and offset >= odd.forget_from:
            return self._say(number, 0, "")
        if kind == WRITE and odd.hold == offset:
            return None
        if kind == WRITE and odd.breaks_at == offset:
            self._finish()
        if kind == RENAME and odd.replacing_rename:
            return struct.pack(">BI", EXTENDED, number) + pack(b"posix-rename@openssh.com") + body
        return packet

    def _say(self, number: int, code: int, text: str) -> None:
        self._out(struct.pack(">BII", STATUS, number, code) + pack(text.encode()) + pack(b""))

    def _answer(self, answers: BinaryIO) -> None:
        while (packet := packet_from(answers)) is not None:
            self._out(self._changed(packet))

    def _changed(self, packet: bytes) -> bytes:
        kind, odd = packet[0], self.odd
        if kind == VERSION:
            return packet[:5] + b"".join(
                pack(name) + pack(value) for name, value in pairs(packet[5:]) if name.decode() not in odd.without
            )
        number = struct.unpack(">I", packet[1:5])[0]
        with self._lock:
            asked, body, called = self._asked[number]
        if odd.dies_after == called:
            os._exit(1)
        if kind == ATTRS:
            return packet[:5] + attributes(packet[5:], odd)[0]
        if kind == NAME and asked == READDIR:
            return packet[:5] + names(packet[5:], odd)
        if kind == DATA:
            return self._data(number, offset_of(body), string(packet[5:])[0], odd)
        if kind == REPLY and string(body)[0] == STATVFS:
            numbers = list(struct.unpack(">11Q", packet[5:]))
            if odd.free is not None:
                numbers[3] = numbers[4] = odd.free // numbers[1]
            numbers[9] |= int(odd.read_only)
            return packet[:5] + struct.pack(">11Q", *numbers)
        return packet

    def _data(self, number: int, offset: int, data: bytes, odd: Oddities) -> bytes:
        if odd.ends_at is not None:
            data = data[: max(0, odd.ends_at - offset)]
            if not data:
                return struct.pack(">BII", STATUS, number, 1) + pack(b"End of file") + pack(b"")
        if odd.flip_at is not None and offset <= odd.flip_at < offset + len(data):
            at = odd.flip_at - offset
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        return struct.pack(">BI", DATA, number) + pack(data[: odd.short])

    def _out(self, packet: bytes) -> None:
        with self._lock:
            if packet[0] != VERSION:
                self._asked.pop(struct.unpack(">I", packet[1:5])[0])
            if self._held_back is None and self._asked and self.odd.backwards:
                self._held_back = packet
                return
            send(sys.stdout.buffer, packet)
            if self._held_back is not None:
                send(sys.stdout.buffer, self._held_back)
                self._held_back = None


def packet_from(stream: BinaryIO) -> bytes | None:
    head = stream.read(4)
    return stream.read(struct.unpack(">I", head)[0]) if len(head) == 4 else None


def send(stream: BinaryIO, packet: bytes) -> None:
    stream.write(struct.pack(">I", len(packet)) + packet)
    stream.flush()


def pack(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def string(data: bytes) -> tuple[bytes, bytes]:
    """The string at the beginning of *data*, and what follows it."""
    size = struct.unpack(">I", data[:4])[0]
    return data[4 : 4 + size], data[4 + size :]


def offset_of(body: bytes) -> int:
    """Of a read or a write."""
    return int(struct.unpack(">Q", string(body)[1][:8])[0])


def end_of(body: bytes) -> int:
    """Where a read or a write ends."""
    return offset_of(body) + int(struct.unpack(">I", string(body)[1][8:12])[0])


def pairs(data: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    while data:
        name, data = string(data)
        value, data = string(data)
        found.append((name, value))
    return found


def attributes(data: bytes, odd: Oddities) -> tuple[bytes, bytes]:
    """Attributes as they are to be, and what follows them. OpenSSH gives them all, and no others."""
    flags, size, uid, gid, mode, accessed, modified = struct.unpack(">IQIIIII", data[:32])
    times = struct.pack(">II", accessed + odd.clock, modified + odd.clock)
    changed = struct.pack(">I", flags & ~1 if odd.no_size else flags)
    changed += b"" if odd.no_size else struct.pack(">Q", size)
    return changed + struct.pack(">III", uid, gid, mode) + times, data[32:]


def names(data: bytes, odd: Oddities) -> bytes:
    count, rest = data[:4], data[4:]
    found = [count]
    for _ in range(struct.unpack(">I", count)[0]):
        name, rest = string(rest)
        shown, rest = string(rest)
        changed, rest = attributes(rest, odd)
        found += [pack(name), pack(shown), changed]
    return b"".join(found)


if __name__ == "__main__":
    Between(Path(sys.argv[1])).run()
