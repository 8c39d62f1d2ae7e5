"""The codec: compress and encrypt a stream, and the way back. Standard formats only: zstd, gzip, age.

The plain stream is cut into blocks, each one zstd frame or gzip member, compressed by a few threads in
order. So it scales with cores, memory stays flat whatever the size, and `zstd -d` and `gzip -d` read it.
The inverse trusts nothing: it ends only after every byte was authenticated, decompressed and counted.
"""

from __future__ import annotations

import hashlib
import io
import os
import queue
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import BinaryIO, Literal

import pyrage  # type: ignore[import-untyped]
import zstandard
from isal import isal_zlib

from vault.errors import BackupError, ConfigError, Corrupt, WrongKey
from vault.parallel import ordered
from vault.spool import MIB, Buffer

BLOCK = 8 * MIB
LARGEST_FRAME = 2 * BLOCK  # a frame that declares more was not written here: refused before it is read
CONTEXT_MEMORY = 96 * MIB  # for all compression threads together; only high levels come near it

_LEVELS = {"zstd": range(1, 20), "gzip": range(4), "none": range(0)}  # gzip: the levels of isal
_EXTENSIONS = {"zstd": ".zst", "gzip": ".gz", "none": ""}


@dataclass(frozen=True)
class Codec:
    """How an artifact is compressed, and to whom (age recipients, `age1…`) it is encrypted."""

    compression: Literal["zstd", "gzip", "none"] = "zstd"
    level: int | None = None  # None: 1, which keeps up with any dump
    recipients: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.compression not in _LEVELS:
            raise ConfigError(f"unknown compression {self.compression!r}", "Use zstd, gzip or none.")
        if self.level is not None and self.level not in _LEVELS[self.compression]:
            raise ConfigError(f"{self.compression} has no level {self.level}")
        self._age_recipients()

    @property
    def extension(self) -> str:
        """What the name of an artifact ends with, such as `.zst.age`."""
        return _EXTENSIONS[self.compression] + (".age" if self.recipients else "")

    @property
    def decode_command(self) -> str:
        """The shell filter that turns an artifact into its plain stream with standard tools."""
        decrypt = ["age -d -i KEY.txt"] if self.recipients else []
        expand = {"zstd": ["zstd -d"], "gzip": ["gzip -d"], "none": []}[self.compression]
        return " | ".join(decrypt + expand) or "cat"

    def _age_recipients(self) -> list[pyrage.x25519.Recipient]:
        return [_recipient(number, text) for number, text in enumerate(self.recipients, 1)]


@dataclass(frozen=True)
class Encoded:
    """What went in (`plain_*`) and how many bytes came out. The artifact's own digest is read back."""

    plain_size: int
    plain_sha256: str
    size: int


# -- keys


def generate_identity() -> tuple[str, str]:
    """A new age key pair: the identity (secret, to be kept off this machine) and its recipient (public)."""
    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def parse_identities(text: str) -> tuple[str, ...]:
    """The identities of an age key file (`#` begins a comment line); at least one, all valid."""
    lines = (line.strip() for line in text.splitlines())
    identities = tuple(line for line in lines if line and not line.startswith("#"))
    if not identities:
        raise ConfigError("the key file holds no identity", "It needs a line AGE-SECRET-KEY-1….")
    for identity in identities:
        _identity(identity)
    return identities


def _identity(text: str) -> pyrage.x25519.Identity:
    try:
        return pyrage.x25519.Identity.from_str(text)
    except pyrage.IdentityError:  # its words are not repeated: this is about a secret
        raise ConfigError("an identity is not an age secret key (AGE-SECRET-KEY-1…)") from None


def _recipient(number: int, text: str) -> pyrage.x25519.Recipient:
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        shown = repr(text) if text.startswith("age1") else "what it holds"  # might be a secret key
        message = f"recipient {number}: {shown} is not an age recipient"
        raise ConfigError(message, "Give the public key that begins with age1.") from None


# -- encode


def encode(
    stream: BinaryIO,
    codec: Codec,
    write: Callable[[Buffer], object],
    *,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Encoded:
    """Pass all of `stream` through `codec` to `write`, which keeps no buffer after it returned.

    An error of `stream` or `write` comes out as it was raised. `progress` gets the plain bytes so far.
    Memory: about 16 MiB per thread and 32 MiB, at any size.
    """
    plain, sink = _Plain(stream, progress or (lambda size: None)), _Sink(write)
    with closing(_compressed(plain, codec, _thread_count(codec, threads))) as chunks:
        if codec.recipients:
            _encrypt(chunks, sink, codec)
        else:
            for chunk in chunks:
                sink.write(chunk)
    return Encoded(plain.size, plain.sha256.hexdigest(), sink.size)


def _thread_count(codec: Codec, threads: int | None) -> int:
    threads = threads or min(4, len(os.sched_getaffinity(0)))
    if codec.compression != "zstd":
        return threads
    parameters = zstandard.ZstdCompressionParameters.from_level(codec.level or 1, source_size=BLOCK)
    return min(threads, CONTEXT_MEMORY // parameters.estimated_compression_context_size() or 1)


@dataclass(frozen=True)
class _Block:
    buffer: bytearray
    data: memoryview  # the part of `buffer` that is filled
    hashed: Future[None]


class _Plain:
    """The plain stream in blocks, hashed once by a thread of its own; buffers are used again."""

    def __init__(self, stream: BinaryIO, progress: Callable[[int], None]) -> None:
        self.sha256, self.size = hashlib.sha256(), 0
        self._stream, self._progress = stream, progress
        self._free: list[bytearray] = []

    def blocks(self, hashing: Executor) -> Iterator[_Block]:
        """At least one block, so that an empty stream becomes a valid frame too."""
        while True:
            buffer = self._free.pop() if self._free else bytearray(BLOCK)
            data = memoryview(buffer)[: _fill(self._stream, memoryview(buffer))]
            if data or not self.size:
                self.size += len(data)
                self._progress(self.size)
                yield _Block(buffer, data, hashing.submit(self.sha256.update, data))
            if len(data) < BLOCK:
                return

    def recycle(self, block: _Block) -> None:
        block.hashed.result()
        self._free.append(block.buffer)


def _compressed(plain: _Plain, codec: Codec, threads: int) -> Generator[Buffer]:
    def compress(block: _Block) -> tuple[_Block, Buffer]:
        return block, _compress(block.data, codec)

    with (
        ThreadPoolExecutor(threads) as pool,
        ThreadPoolExecutor(1) as hashing,
        closing(ordered(pool, compress, plain.blocks(hashing), threads)) as results,
    ):
        for block, chunk in results:
            yield chunk
            plain.recycle(block)


def _compress(data: memoryview, codec: Codec) -> Buffer:
    level = 1 if codec.level is None else codec.level
    if codec.compression == "zstd":
        return zstandard.ZstdCompressor(level, write_checksum=True, write_content_size=True).compress(data)
    if codec.compression == "gzip":
        return isal_zlib.compress(data, level, wbits=31)
    return data


def _encrypt(chunks: Iterator[Buffer], sink: _Sink, codec: Codec) -> None:
    source, failure = _Stream(chunks), None
    try:
        # pyrage reads 8 KiB at a time: the buffer in between answers that in C.
        pyrage.encrypt_io(io.BufferedReader(source, MIB), sink, codec._age_recipients())
    except Exception as error:  # noqa: BLE001  pyrage rewords what its callbacks raise, or swallows it
        failure = error
    if original := source.error or sink.error:
        raise original
    if failure:
        raise BackupError("age could not encrypt the stream") from failure


# -- decode


@contextmanager
def decode(
    stream: BinaryIO, codec: Codec, identities: Sequence[str] = (), *, max_size: int | None = None
) -> Iterator[BinaryIO]:
    """The plain stream of an artifact; `read` returns `b""` only after all was authenticated and consumed.

    `Corrupt` for bytes that are flipped, missing or too many, or more than `max_size` plain bytes;
    `WrongKey` when no identity fits. An error of `stream` comes out as it was raised. Leaving early is
    safe: it waits for at most one `stream.read`. zstd frames other than our own blocks are refused.
    """
    chunks: Iterator[Buffer] = iter(lambda: stream.read(MIB), b"")
    with ExitStack() as stack:
        if codec.recipients:
            keys = [_identity(text) for text in identities]
            chunks = stack.enter_context(closing(_decrypted(chunks, codec, keys)))
        if codec.compression == "zstd":
            chunks = stack.enter_context(closing(_unzstd(chunks)))
        elif codec.compression == "gzip":
            chunks = _gunzip(chunks)
        yield stack.enter_context(io.BufferedReader(_Stream(_limited(chunks, max_size)), MIB))


def _limited(chunks: Iterator[Buffer], max_size: int | None) -> Iterator[Buffer]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if max_size is not None and size > max_size:
            raise Corrupt(f"the artifact expands to more than the {max_size} bytes that are allowed")
        yield chunk


def _decrypted(chunks: Iterator[Buffer], codec: Codec, keys: list[pyrage.x25519.Identity]) -> Generator[Buffer]:
    """Decrypt in a thread, a few MiB ahead. age releases no byte before its 64 KiB chunk is authentic."""
    handover = _Handover()
    thread = Thread(target=_decrypt, args=(chunks, handover, codec, keys), name="age", daemon=True)
    thread.start()
    try:
        yield from handover
    finally:
        handover.leave()
        thread.join()


def _decrypt(chunks: Iterator[Buffer], handover: _Handover, codec: Codec, keys: list[pyrage.x25519.Identity]) -> None:
    source = _Stream(chunks)
    failure: BaseException | None = None
    try:
        pyrage.decrypt_io(io.BufferedReader(source, MIB), handover, keys)
    except (pyrage.DecryptError, OSError) as error:
        failure = _age_failure(error, codec)
    except BaseException as error:  # noqa: BLE001  whatever it is, the reader raises it
        failure = error
    handover.end(source.error or failure)


def _age_failure(error: Exception, codec: Codec) -> BackupError:
    failure: BackupError
    if "No matching keys" in str(error):
        failure = WrongKey(
            f"no identity that was given decrypts this; it is encrypted to {', '.join(codec.recipients)}",
            "Give the identity (AGE-SECRET-KEY-1…) that belongs to one of these recipients.",
        )
    else:
        cut = any(words in str(error) for words in ("fill whole buffer", "Incomplete", "truncated"))
        failure = Corrupt(f"the encrypted artifact {'is' if cut else 'was altered or'} truncated: {error}")
    failure.__cause__ = error
    return failure


def _unzstd(chunks: Iterator[Buffer]) -> Generator[Buffer]:
    """Each frame is one of our blocks, so that two threads can expand them side by side."""
    frames = _frames(io.BufferedReader(_Stream(chunks), MIB))
    with ThreadPoolExecutor(2) as pool, closing(ordered(pool, _expand, frames, 2)) as blocks:
        yield from blocks


def _expand(frame: bytes) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Corrupt(f"a zstd frame is damaged: {error}") from error


def _frames(reader: BinaryIO) -> Iterator[bytes]:
    """Cut at the frames' own lengths (RFC 8878, 3.1.1); nothing may stand between or after them."""
    head = _exactly(reader, 6)
    while head:
        yield _frame(reader, head)
        head = reader.read(6)


def _frame(reader: BinaryIO, head: bytes) -> bytes:
    try:
        head += _exactly(reader, zstandard.frame_header_size(head) - len(head))
        header = zstandard.get_frame_parameters(head)
    except zstandard.ZstdError as error:
        raise Corrupt(f"this is no zstd frame: {error}") from error
    absurd = max(header.content_size, header.window_size) > LARGEST_FRAME
    if absurd or header.dict_id or not header.has_checksum:
        raise Corrupt("a zstd frame of absurd size, with a dictionary or no checksum, was not written here")
    parts, size, last = [head], 0, False
    while not last:
        block = _exactly(reader, 3)
        field = int.from_bytes(block, "little")
        last, kind, length = bool(field & 1), field >> 1 & 3, field >> 3
        stored = 1 if kind == 1 else length  # 1: one byte, repeated
        size += 3 + stored
        if size > header.content_size + header.content_size // 64 + 1024:
            raise Corrupt("a zstd frame is longer than its content")
        parts += [block, _exactly(reader, stored)]
    return b"".join([*parts, _exactly(reader, 4)])


def _exactly(reader: BinaryIO, size: int) -> bytes:
    data = reader.read(size)
    if len(data) < size:
        raise Corrupt("the compressed artifact is truncated")
    return data


def _gunzip(chunks: Iterator[Buffer]) -> Iterator[Buffer]:
    member = isal_zlib.decompressobj(31)
    for chunk in chunks:
        rest = bytes(chunk)
        while rest:
            if member.eof:
                member = isal_zlib.decompressobj(31)
            try:
                yield member.decompress(rest, MIB)
            except isal_zlib.error as error:  # type: ignore[misc]
                raise Corrupt(f"a gzip member is damaged: {error}") from error
            rest = member.unused_data if member.eof else member.unconsumed_tail
    if not member.eof:
        raise Corrupt("the compressed artifact is truncated")


# -- streams and threads


class Digesting(io.RawIOBase):
    """A stream whose `size` and `sha256` are those of what was read through it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.size, self._hash, self._stream = 0, hashlib.sha256(), stream

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def readable(self) -> bool:
        return True

    def readinto(self, target: Buffer) -> int:  # type: ignore[override]
        view = memoryview(target)[:MIB]
        count = _fill(self._stream, view)
        self._hash.update(view[:count])
        self.size += count
        return count


class _Stream(io.RawIOBase):
    """A file made of chunks. An error is raised again by each later read, lest it be taken for the end."""

    def __init__(self, chunks: Iterator[Buffer]) -> None:
        self._chunks, self._rest = chunks, memoryview(b"")
        self.error: BaseException | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, target: Buffer) -> int:  # type: ignore[override]
        while not self._rest:
            if self.error:
                raise self.error
            try:
                self._rest = memoryview(next(self._chunks))
            except StopIteration:
                return 0
            except BaseException as error:
                self.error = error
                raise
        count = min(len(target), len(self._rest))
        memoryview(target)[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class _Sink:
    """A writer for pyrage that counts, and keeps the first error: pyrage may swallow or reword it."""

    def __init__(self, write: Callable[[Buffer], object]) -> None:
        self.size = 0
        self.error: BaseException | None = None
        self._write = write

    def write(self, data: Buffer) -> int:
        if self.error:
            raise self.error
        try:
            self._write(data)
        except BaseException as error:
            self.error = error
            raise
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


class _Handover:
    """From the decrypting thread (`write`, `end`) to the reader (iteration, `leave`), at most 4 MiB."""

    def __init__(self) -> None:
        self._queue: queue.Queue[bytearray | BaseException | None] = queue.Queue(3)
        self._left = Event()
        self._filling = bytearray()  # pyrage writes 8 KiB at a time

    def write(self, data: bytes) -> int:
        if self._left.is_set():
            raise BrokenPipeError("the reader left early")
        self._filling += data
        if len(self._filling) >= MIB:
            self._queue.put(self._filling)
            self._filling = bytearray()
        return len(data)

    def flush(self) -> None:
        """Held back until a MiB is full, or the end."""

    def end(self, error: BaseException | None) -> None:
        """Nothing follows: the stream was authenticated to its end, or failed."""
        for item in [error] if error else [self._filling, None]:
            if not self._left.is_set():
                self._queue.put(item)

    def __iter__(self) -> Iterator[Buffer]:
        while isinstance(item := self._queue.get(), bytearray):
            yield item
        if item:
            raise item

    def leave(self) -> None:
        """Free the thread: a `put` that waits gets its place, and any later step sees `_left`."""
        self._left.set()
        while not self._queue.empty():  # nobody else takes from it
            self._queue.get_nowait()


def _fill(stream: BinaryIO, view: memoryview) -> int:
    """Read until `view` is full or the stream ends; the number of bytes read."""
    filled = 0
    while filled < len(view):
        rest = view[filled:]
        if isinstance(stream, io.RawIOBase | io.BufferedIOBase):
            count = stream.readinto(rest)
        else:
            data = stream.read(min(len(rest), MIB))
            count = len(data)
            rest[:count] = data
        if count is None:
            raise BlockingIOError("the plain stream must block")
        if count == 0:
            break
        filled += count
    return filled
