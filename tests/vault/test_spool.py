"""The spool: order, back-pressure, bounds, and what happens when somebody fails."""

import io
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vault.errors import ConfigError, SourceUnavailable, SpoolError, Transient
from vault.spool import MIB, Reader, Segment, Spool

PATIENCE = 60  # seconds until a test gives up on another thread; nothing waits for it when all is well


def make(directory: Path, **changes: object) -> Spool:
    options = {"limit": 40, "segment_size": 10, "reserve": 0, "stall_timeout": PATIENCE} | changes
    return Spool(directory / "spool", **options)  # type: ignore[arg-type]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


def collect(reader: Reader) -> bytes:
    data = b""
    for segment in reader:
        assert segment.offset == len(data)
        data += segment.read()
        reader.done(segment)
    return data


def wait_until(spool: Spool, condition: Callable[[], bool]) -> None:
    with spool._changed:
        assert spool._changed.wait_for(condition, PATIENCE)


class Announcing(threading.Condition):
    """Tells when a thread waits: whoever gets the lock after that finds it asleep."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.set()
        return super().wait(timeout)


def write_all(spool: Spool, chunks: list[bytes]) -> None:
    for chunk in chunks:
        spool.write(chunk)
    spool.close()


# -- the stream


@settings(deadline=None, max_examples=60)
@given(
    chunks=st.lists(st.binary(max_size=60), max_size=30),
    segment_size=st.integers(1, 25),
    segments=st.integers(2, 5),
    readers=st.integers(1, 4),
)
def test_every_reader_gets_the_stream_byte_for_byte_within_the_limit(chunks, segment_size, segments, readers):
    with TemporaryDirectory() as directory, ThreadPoolExecutor(readers) as pool:
        limit = segment_size * segments
        spool = make(Path(directory), limit=limit, segment_size=segment_size)
        results = [pool.submit(collect, spool.reader(f"upload {n}")) for n in range(readers)]
        write_all(spool, chunks)
        stream = b"".join(chunks)
        assert [r.result(PATIENCE) for r in results] == [stream] * readers
        assert spool.size == len(stream)
        assert min(len(stream), segment_size) <= spool.peak <= limit
        assert spool.bytes_on_disk == 0
        assert os.listdir(spool.directory) == []


def test_a_stream_far_larger_than_the_limit_never_takes_more_disk_than_the_limit(tmp_path, pool):
    spool = make(tmp_path, limit=128 * MIB, segment_size=32 * MIB)
    reader, largest = spool.reader("upload"), 0

    def follow() -> int:
        nonlocal largest
        for segment in reader:
            largest = max(largest, sum(e.stat().st_size for e in os.scandir(spool.directory)))
            reader.done(segment)
        return largest

    result = pool.submit(follow)
    block = bytes(3 * MIB)
    write_all(spool, [block] * 140)
    assert result.result(PATIENCE) <= 128 * MIB
    assert spool.size == 420 * MIB
    assert spool.peak <= 128 * MIB


def test_an_empty_stream_has_no_segments(tmp_path):
    spool = make(tmp_path)
    reader = spool.reader("upload")
    spool.write(b"")
    spool.close()
    assert list(reader) == []


def test_segments_are_numbered_files_that_hold_their_part_of_the_stream(tmp_path):
    spool = make(tmp_path)
    reader = spool.reader("upload")
    write_all(spool, [b"0123456789abcdef"])
    first, last = reader
    assert (first.index, first.offset, first.size, first.read()) == (0, 0, 10, b"0123456789")
    assert (last.index, last.offset, last.size, last.read()) == (1, 10, 6, b"abcdef")
    assert [p.name for p in sorted(spool.directory.iterdir())] == ["000000.seg", "000001.seg"]
    assert last.source == spool.directory / "000001.seg"


@pytest.mark.fault("C14")
def test_readers_get_what_is_on_disk_and_not_what_was_in_memory(tmp_path):
    spool = make(tmp_path)
    reader = spool.reader("checksum", essential=False)
    write_all(spool, [b"0123456789"])
    (segment,) = reader
    assert isinstance(segment.source, Path)
    segment.source.write_bytes(b"0123x56789")
    assert segment.read() == b"0123x56789"


def test_a_segment_in_memory_behaves_like_one_on_disk():
    segment = Segment.of(b"a record", index=1, offset=8)
    assert (segment.index, segment.offset, segment.size) == (1, 8, 8)
    assert segment.read() == segment.open().read() == b"a record"


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"short")])
def test_a_segment_that_is_gone_or_cut_is_a_spool_error(tmp_path, damage):
    spool = make(tmp_path)
    reader = spool.reader("upload")
    write_all(spool, [b"0123456789"])
    (segment,) = reader
    damage(segment.source)
    with pytest.raises(SpoolError, match=r"segment .*000000\.seg"):
        segment.read()


# -- back-pressure


def test_the_writer_waits_until_the_slowest_reader_is_done_with_a_segment(tmp_path, pool):
    spool = make(tmp_path, limit=20)
    fast, slow = spool.reader("local"), spool.reader("b2")
    writing = pool.submit(write_all, spool, [b"x" * 30])
    wait_until(spool, lambda: spool.bytes_on_disk == 20)
    fast_segments = iter(fast)
    for _ in range(2):
        fast.done(next(fast_segments))
    first = next(iter(slow))
    assert spool.bytes_on_disk == 20
    assert not writing.done()
    slow.done(first)
    writing.result(PATIENCE)
    assert [s.index for s in slow] == [1, 2]


def test_a_retried_upload_gets_again_what_it_was_not_done_with(tmp_path):
    spool = make(tmp_path)
    reader = spool.reader("b2")
    write_all(spool, [b"x" * 40])
    segments = list(reader)
    reader.done(segments[0])
    reader.done(segments[2])
    assert [s.index for s in reader] == [1, 3]
    assert sorted(p.name for p in spool.directory.iterdir()) == ["000001.seg", "000003.seg"]
    reader.done(segments[1])
    reader.done(segments[1])
    assert [s.index for s in reader] == [3]


def test_a_reader_begins_again_only_while_every_segment_is_still_there(tmp_path):
    spool = make(tmp_path, limit=100, segment_size=10)
    fast, slow = spool.reader("fast"), spool.reader("slow")
    spool.write(b"x" * 25)
    spool.close()
    for segment in fast:
        fast.done(segment)
    assert fast.rewind()
    assert [segment.index for segment in fast] == [0, 1, 2]
    first = next(iter(slow))
    fast.done(first)
    slow.done(first)
    assert not slow.rewind()
    assert [segment.index for segment in slow] == [1, 2]


def test_segments_grow_so_that_ten_thousand_of_them_hold_a_large_dump(tmp_path, monkeypatch):
    monkeypatch.setattr("vault.spool._GROWTH", ((4, 8), (2, 4), (0, 1)))
    spool = make(tmp_path, limit=200, segment_size=10)
    reader = spool.reader("reader")
    sizes = []
    for size in (10, 10, 40, 40, 50, 50, 7):
        spool.write(b"x" * size)
        if size == 7:
            spool.close()
        segment = next(iter(reader))
        sizes.append(segment.size)
        reader.done(segment)
    assert sizes == [10, 10, 40, 40, 50, 50, 7]  # eight times ten is more than a quarter of the limit


def test_a_reader_that_leaves_does_not_hold_back_the_others(tmp_path, pool):
    spool = make(tmp_path, limit=20)
    gone, stays = spool.reader("b2"), spool.reader("local")
    result = pool.submit(collect, stays)
    writing = pool.submit(write_all, spool, [b"x" * 55])
    wait_until(spool, lambda: spool.bytes_on_disk == 20)
    gone.close()
    gone.close()
    writing.result(PATIENCE)
    assert result.result(PATIENCE) == b"x" * 55
    with pytest.raises(SpoolError, match="b2 left the spool"):
        list(gone)


def test_a_reader_that_comes_after_a_segment_was_removed_is_refused(tmp_path):
    spool = make(tmp_path)
    reader = spool.reader("local")
    spool.write(b"x" * 10)
    reader.done(next(iter(reader)))
    with pytest.raises(SpoolError, match="too late"):
        spool.reader("b2")


# -- readers that stall


@pytest.mark.fault("D18")
def test_a_reader_that_stalls_is_dropped_and_the_others_get_everything(tmp_path, pool):
    spool = make(tmp_path, limit=20, stall_timeout=1)
    stalled, well = spool.reader("b2"), spool.reader("local")
    result = pool.submit(collect, well)
    next_segment = iter(stalled)
    write_all(spool, [b"x" * 95])
    assert result.result(PATIENCE) == b"x" * 95
    with pytest.raises(SpoolError, match=r"b2 held the dump back for 1 s and was dropped") as caught:
        list(next_segment)
    assert not isinstance(caught.value, Transient)
    assert spool.bytes_on_disk == 0


def test_each_segment_that_is_freed_grants_the_readers_their_time_again(tmp_path, pool, monkeypatch):
    spool = make(tmp_path, limit=1000, stall_timeout=10)
    reader, now, asked = spool.reader("sftp"), [0.0], threading.Event()

    def monotonic() -> float:
        asked.set()
        return now[0]

    monkeypatch.setattr("vault.spool.time", SimpleNamespace(monotonic=monotonic))
    spool.write(b"x" * 40)
    spool.reserve = 1 << 60  # the disk is full now, of others' files
    writing = pool.submit(spool.write, b"x")
    for segment in reader:
        assert asked.wait(PATIENCE)
        asked.clear()
        now[0] += 8
        if segment.index == 3:
            spool.reserve = 0
        reader.done(segment)
        if segment.index == 3:
            break
    writing.result(PATIENCE)
    assert reader._error is None


def test_a_reader_that_was_dropped_may_still_say_done(tmp_path, pool):
    spool = make(tmp_path, limit=20, stall_timeout=1)
    stalled, well = spool.reader("b2"), spool.reader("local")
    result = pool.submit(collect, well)
    spool.write(b"x" * 10)
    segment = next(iter(stalled))
    write_all(spool, [b"x" * 50])
    stalled.done(segment)
    stalled.close()
    assert len(result.result(PATIENCE)) == 60
    with pytest.raises(SpoolError, match="was dropped"):
        list(stalled)


def test_the_dump_ends_when_no_destination_is_left_though_the_checksum_follows(tmp_path, pool):
    spool = make(tmp_path, limit=20, stall_timeout=1)
    spool.reader("b2")
    checksum = pool.submit(collect, spool.reader("checksum", essential=False))
    with pytest.raises(SpoolError, match="no destination is left"):
        write_all(spool, [b"x" * 55])
    with pytest.raises(SpoolError, match="abandoned"):
        checksum.result(PATIENCE)


def test_a_short_dump_does_not_end_well_when_every_destination_left(tmp_path):
    spool = make(tmp_path)
    reader = spool.reader("b2")
    spool.write(b"x")
    reader.close()
    with pytest.raises(SpoolError, match="no destination is left"):
        spool.close()


def test_a_spool_that_nobody_reads_fails_when_it_is_full(tmp_path):
    spool = make(tmp_path, limit=20, stall_timeout=0.05)
    with pytest.raises(SpoolError, match="nobody read it"):
        spool.write(b"x" * 30)
    assert spool.peak == 20


# -- failures


def test_a_failed_dump_fails_every_reader_at_once_and_says_why(tmp_path, pool):
    spool = make(tmp_path)
    waiting, behind = spool.reader("b2"), spool.reader("local")
    spool._changed = announcing = Announcing()
    spool.write(b"x" * 25)
    result = pool.submit(collect, waiting)
    assert announcing.waited.wait(PATIENCE)
    cause = SourceUnavailable("pg_dump was killed")
    spool.abort(cause)
    with pytest.raises(SpoolError, match="abandoned") as caught:
        result.result(PATIENCE)
    assert caught.value.__cause__ is cause
    with pytest.raises(SpoolError, match="abandoned"):
        next(iter(behind))
    with pytest.raises(SpoolError, match="abandoned"):
        spool.write(b"x")


def test_abort_wakes_a_writer_that_waits_for_room(tmp_path, pool):
    spool = make(tmp_path, limit=20)
    spool.reader("b2")
    writing = pool.submit(spool.write, b"x" * 30)
    wait_until(spool, lambda: spool.bytes_on_disk == 20)
    spool.abort(KeyboardInterrupt())
    with pytest.raises(SpoolError, match="abandoned"):
        writing.result(PATIENCE)


def test_nothing_can_be_written_after_the_end(tmp_path):
    spool = make(tmp_path)
    spool.close()
    spool.close()
    with pytest.raises(SpoolError, match="closed"):
        spool.write(b"x")


@pytest.mark.fault("F02", "D01")
def test_a_full_disk_is_an_error_of_the_spool_and_no_reader_sees_an_end(tmp_path):
    spool = make(tmp_path)
    reader = spool.reader("local")
    spool.write(b"x" * 15)
    assert spool._file
    spool._file.close()
    spool._file = io.FileIO("/dev/full", "w")  # the kernel says ENOSPC
    with pytest.raises(SpoolError, match="No space left") as caught:
        spool.write(b"x")
    assert not isinstance(caught.value, Transient)
    assert "quota" in caught.value.remedy
    with pytest.raises(SpoolError, match="abandoned"):
        spool.close()
    with pytest.raises(SpoolError, match="abandoned"):
        list(reader)
    spool.destroy()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("F01", "F02")
def test_the_spool_leaves_the_reserve_on_the_disk_and_says_the_numbers(tmp_path):
    spool = make(tmp_path, reserve=1 << 60)
    spool.reader("local")
    with pytest.raises(SpoolError, match=r"\d+ MiB free; a segment and the reserve need 1099511627776 MiB"):
        spool.write(b"x")


@pytest.mark.fault("F02")
def test_a_disk_that_runs_short_holds_the_writer_until_a_segment_is_freed(tmp_path, pool, monkeypatch):
    spool = make(tmp_path, limit=1000, reserve=100)
    reader = spool.reader("local")
    real = os.statvfs(tmp_path)

    def statvfs(path: Path) -> os.statvfs_result:  # a disk of 140 bytes
        fields = list(real)
        fields[1], fields[4] = 1, 140 - spool.bytes_on_disk
        return os.statvfs_result(fields)

    monkeypatch.setattr(os, "statvfs", statvfs)
    writing = pool.submit(write_all, spool, [b"x" * 90])
    wait_until(spool, lambda: spool.bytes_on_disk == 40)
    assert not writing.done()
    assert collect(reader) == b"x" * 90
    writing.result(PATIENCE)
    assert spool.peak == 40


LIMITED = """
import resource, sys
from pathlib import Path
from vault.errors import SpoolError
from vault.spool import Spool
kind, soft, directory = getattr(resource, sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
spool = Spool(directory / "spool", limit=1 << 20, segment_size=1 << 18, reserve=0, stall_timeout=1)
reader = spool.reader("local")
before = resource.getrlimit(kind)
resource.setrlimit(kind, (soft, before[1]))
try:
    spool.write(bytes(1 << 18))
except SpoolError as error:
    print(error.message)
resource.setrlimit(kind, before)
spool.destroy()
print(list(directory.iterdir()))
"""


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        pytest.param("RLIMIT_FSIZE", 100_000, "File too large", marks=pytest.mark.fault("F07")),
        pytest.param("RLIMIT_NOFILE", 3, "Too many open files", marks=pytest.mark.fault("F04")),
    ],
)
def test_a_limit_of_the_process_is_an_error_of_the_spool(tmp_path, limit, value, words):
    argv = [sys.executable, "-c", LIMITED, limit, str(value), str(tmp_path)]
    child = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=PATIENCE)
    message, left = child.stdout.splitlines()
    assert message.startswith("the spool at ")
    assert words in message
    assert left == "[]"


# -- privacy and cleaning up


@pytest.mark.fault("K03")
def test_only_the_owner_can_read_the_spool_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        spool = make(tmp_path)
        spool.write(b"x" * 25)
    finally:
        os.umask(before)
    assert stat.S_IMODE(spool.directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in spool.directory.iterdir()} == {0o600}
    spool.destroy()


@pytest.mark.fault("D14")
@pytest.mark.parametrize("planted", ["directory", "link"])
def test_a_directory_that_somebody_made_before_is_refused(tmp_path, planted):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if planted == "link":
        (tmp_path / "spool").symlink_to(elsewhere)
    else:
        (tmp_path / "spool").mkdir()
    with pytest.raises(SpoolError, match="could not be created: File exists"):
        make(tmp_path)


@pytest.mark.fault("D14")
def test_a_link_that_was_planted_under_a_segments_name_is_not_followed(tmp_path):
    spool, victim = make(tmp_path), tmp_path / "victim"
    victim.write_text("untouched")
    (spool.directory / "000000.seg").symlink_to(victim)
    with pytest.raises(SpoolError, match="File exists"):
        spool.write(b"x")
    assert victim.read_text() == "untouched"


@pytest.mark.fault("K10")
def test_destroy_removes_everything_may_be_repeated_and_wakes_who_waits(tmp_path, pool):
    spool = make(tmp_path)
    reader = spool.reader("local")
    spool._changed = announcing = Announcing()
    spool.write(b"x" * 15)
    waiting = pool.submit(collect, reader)
    assert announcing.waited.wait(PATIENCE)
    spool.destroy()
    spool.destroy()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SpoolError):
        waiting.result(PATIENCE)
    with pytest.raises(SpoolError, match="abandoned"):
        spool.write(b"x")
    assert spool.bytes_on_disk == 0


def test_a_spool_whose_directory_vanished_fails_as_a_spool(tmp_path):
    spool = make(tmp_path)
    spool.directory.rmdir()
    with pytest.raises(SpoolError, match="No such file"):
        spool.write(b"x")
    spool.destroy()


@pytest.mark.parametrize(("limit", "segment_size"), [(19, 10), (0, 0), (10, -1)])
def test_a_limit_below_two_segments_is_refused(tmp_path, limit, segment_size):
    with pytest.raises(ConfigError, match="cannot hold two segments"):
        make(tmp_path, limit=limit, segment_size=segment_size)
    assert list(tmp_path.iterdir()) == []


def test_no_thread_is_left_behind(tmp_path):
    before = set(threading.enumerate())
    spool = make(tmp_path)
    write_all(spool, [b"x" * 15])
    spool.destroy()
    assert set(threading.enumerate()) <= before
