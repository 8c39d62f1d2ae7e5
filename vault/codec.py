"""The codec: compress and encrypt a stream, and the way back. Standard formats only: zstd, gzip, age.

The plain stream is cut into blocks, each one zstd frame or gzip member, compressed by a few threads in
order. So it scales with cores, memory stays flat whatever the size, and `zstd -d` and `gzip -d` read it.
The inverse trusts nothing: it ends only after every byte was authenticated, decompressed and counted.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal

import zstandard
from isal import isal_zlib

from vault.age import decrypted, encrypt, parse_recipients
from vault.errors import ConfigError, Corrupt
from vault.parallel import ordered
from vault.spool import MIB, Buffer
from vault.streams import ChunkStream, Sink, fill

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
        parse_recipients(self.recipients)

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


@dataclass(frozen=True)
class Encoded:
    """What went in (`plain_*`) and how many bytes came out. The artifact's own digest is read back."""

    plain_size: int
    plain_sha256: str
    size: int


# -- encode


def encode(
    stream: BinaryIO,
    codec: Codec,
    write: Callable[[Buffer], object],
    *,
    threads: int | None = None,
    block: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Encoded:
    """Pass all of `stream` through `codec` to `write`, which keeps no buffer after it returned.

    An error of `stream` or `write` comes out as it was raised. `progress` gets the plain bytes so far.
    Memory: about two blocks (8 MiB, unless *block* says less) per thread and four, at any size.
    """
    plain, sink = _Plain(stream, block or BLOCK, progress or (lambda size: None)), Sink(write)
    with closing(_compressed(plain, codec, _thread_count(codec, threads))) as chunks:
        if codec.recipients:
            encrypt(chunks, sink, codec.recipients)
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

    def __init__(self, stream: BinaryIO, block: int, progress: Callable[[int], None]) -> None:
        self.sha256, self.size = hashlib.sha256(), 0
        self._stream, self._block, self._progress = stream, block, progress
        self._free: list[bytearray] = []

    def blocks(self, hashing: Executor) -> Iterator[_Block]:
        """At least one block, so that an empty stream becomes a valid frame too."""
        while True:
            buffer = self._free.pop() if self._free else bytearray(self._block)
            data = memoryview(buffer)[: fill(self._stream, memoryview(buffer))]
            if data or not self.size:
                self.size += len(data)
                self._progress(self.size)
                yield _Block(buffer, data, hashing.submit(self.sha256.update, data))
            if len(data) < self._block:
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
            chunks = stack.enter_context(closing(decrypted(chunks, identities, codec.recipients)))
        if codec.compression == "zstd":
            chunks = stack.enter_context(closing(_unzstd(chunks)))
        elif codec.compression == "gzip":
            chunks = _gunzip(chunks)
        yield stack.enter_context(io.BufferedReader(ChunkStream(_limited(chunks, max_size)), MIB))


def _limited(chunks: Iterator[Buffer], max_size: int | None) -> Iterator[Buffer]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if max_size is not None and size > max_size:
            raise Corrupt(f"the artifact expands to more than the {max_size} bytes that are allowed")
        yield chunk


def _unzstd(chunks: Iterator[Buffer]) -> Generator[Buffer]:
    """Each frame is one of our blocks, so that two threads can expand them side by side."""
    frames = _frames(io.BufferedReader(ChunkStream(chunks), MIB))
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
