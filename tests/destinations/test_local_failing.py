"""A local destination on a disk that fails: full, read-only, away, or not able to sync."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blocks.destinations import local_files
from blocks.destinations.local import LocalDestination
from blocks.destinations.places import MARKER
from tests.contract.destination import KEY, get, put
from tests.destinations.test_local import failing, lies_in
from tests.peers.child import as_nobody, in_child
from vault.errors import (
    AlreadyExists,
    DestinationError,
    DestinationUnavailable,
    NoSpace,
    NotFound,
    SpoolError,
    Transient,
)
from vault.spool import Segment


@pytest.fixture
def destination(tmp_path: Path) -> LocalDestination:
    prepared = LocalDestination(root=tmp_path / "backups")
    prepared.prepare()
    return prepared


@pytest.mark.fault("D03")
def test_a_root_without_the_right_to_write_fails_the_check() -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o711)  # noqa: S103  (nobody has to come through)
        destination = LocalDestination(root=Path(directory) / "backups")
        destination.prepare()
        (destination.root / MARKER).chmod(0o644)
        destination.root.chmod(0o555)
        assert as_nobody(destination.check).startswith("AccessDenied: ")
        destination.root.chmod(0o755)


SENT = 300_000


@pytest.mark.fault("D01", "F07")
@pytest.mark.parametrize("limit", [0, SENT // 2, SENT - 1])
def test_no_space_while_writing_is_no_space_and_leaves_nothing(destination: LocalDestination, limit: int) -> None:
    """The kernel's limit on a file's size stands for the full disk: it stops the same call, short or with an error."""

    def send() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        put(destination, KEY, b"x" * SENT, pieces=3)

    assert in_child(send)[0].startswith(f"NoSpace: {KEY} at ")
    assert lies_in(destination) == set()


@pytest.mark.law(5)
@pytest.mark.fault("D01")
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(
    ("module", "name"),
    [(os, "pwrite"), (os, "fsync"), (os, "close"), ("blocks.destinations.local_upload", "rename_new")],
    ids=["write", "fsync", "close", "rename"],
)
def test_no_space_at_any_later_call_is_no_space_and_leaves_nothing(
    destination: LocalDestination, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, number: int
) -> None:
    upload = destination.upload(KEY)
    if name == "pwrite":
        failing(monkeypatch, module, name, number, when=2)
        with pytest.raises(NoSpace):
            upload.append(Segment.of(b"x" * 3 * local_files.BLOCK))
    else:
        upload.append(Segment.of(b"x" * 3 * local_files.BLOCK))
        failing(monkeypatch, sys.modules[module] if isinstance(module, str) else module, name, number)
        with pytest.raises(NoSpace):
            upload.commit()
    monkeypatch.undo()
    assert lies_in(destination) == set()
    with pytest.raises(NotFound):
        destination.upload(KEY, resume=upload.token)


@pytest.mark.fault("D04")
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_is_taken_with_a_note(
    destination: LocalDestination, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    def cannot(_fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", cannot)
    put(destination, KEY, b"x")
    assert get(destination, KEY) == b"x"
    assert "power cut" in caplog.text


@pytest.mark.fault("D04")
def test_any_other_error_of_sync_is_fatal_and_the_upload_never_resumed(
    destination: LocalDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = destination.upload(KEY)
    upload.append(Segment.of(b"x"))
    failing(monkeypatch, os, "fsync", errno.EIO)
    with pytest.raises(DestinationError, match="Input/output error: the disk did not keep") as caught:
        upload.commit()
    assert not isinstance(caught.value, Transient)
    assert f"Check the disk of {destination.location} (dmesg" in caught.value.remedy
    with pytest.raises(NotFound):
        destination.upload(KEY, resume=upload.token)
    assert lies_in(destination) == set()


@pytest.mark.fault("D04")
@pytest.mark.parametrize(("name", "when"), [("fsync", 2), ("close", 1)], ids=["fsync of the directory", "close"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_no_later_failure_to_keep_the_file_is_tried_again(
    destination: LocalDestination, monkeypatch: pytest.MonkeyPatch, name: str, when: int, number: int
) -> None:
    upload = destination.upload(KEY)
    upload.append(Segment.of(b"x"))
    failing(monkeypatch, os, name, number, when)
    with pytest.raises(DestinationError, match="the disk did not keep") as caught:
        upload.commit()
    assert not isinstance(caught.value, Transient)


@pytest.mark.law(5)
@pytest.mark.fault("D04")
def test_a_failed_sync_is_told_though_the_file_cannot_be_removed_either(
    destination: LocalDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = destination.upload(KEY)
    upload.append(Segment.of(b"x"))
    failing(monkeypatch, os, "fsync", errno.EIO)
    failing(monkeypatch, os, "unlink", errno.EIO)
    with pytest.raises(DestinationError, match="the disk did not keep") as caught:
        upload.commit()
    assert not isinstance(caught.value, Transient)


def test_a_disk_that_goes_away_while_writing_is_transient_and_the_upload_resumes(
    destination: LocalDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(3 * local_files.BLOCK)
    upload = destination.upload(KEY)
    failing(monkeypatch, os, "pwrite", errno.EIO, when=2)
    with pytest.raises(DestinationUnavailable) as caught:
        upload.append(Segment.of(data))
    assert isinstance(caught.value, Transient)
    resumed = destination.upload(KEY, resume=upload.token)
    assert resumed.offset == local_files.BLOCK
    resumed.append(Segment.of(data))
    resumed.commit()
    assert get(destination, KEY) == data


def test_an_error_while_reading_is_the_destinations(
    destination: LocalDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(destination, KEY, b"x" * 100_000)
    with destination.open(KEY) as stream:
        directory = os.open("/", os.O_RDONLY)  # reading that fails with EISDIR, as a broken disk does with EIO
        os.dup2(directory, stream.fileno())
        os.close(directory)
        with pytest.raises(DestinationError, match=KEY):
            stream.read()


def test_an_error_of_the_spool_is_not_the_destinations(destination: LocalDestination, tmp_path: Path) -> None:
    upload = destination.upload(KEY)
    short = tmp_path / "000000.seg"
    short.write_bytes(b"x" * 10)
    for segment in (Segment(0, 0, 20, tmp_path / "gone"), Segment(0, 0, 20, tmp_path), Segment(0, 0, 20, short)):
        with pytest.raises(SpoolError):
            upload.append(segment)


def test_a_gap_between_segments_is_refused(destination: LocalDestination) -> None:
    upload = destination.upload(KEY)
    with pytest.raises(DestinationError, match="missing"):
        upload.append(Segment.of(b"x", 1, 10))


@pytest.mark.fault("T08")
def test_a_file_that_lost_bytes_is_not_committed(destination: LocalDestination) -> None:
    upload = destination.upload(KEY)
    upload.append(Segment.of(b"0123456789"))
    os.truncate(destination.root / "shop" / upload.token, 5)
    with pytest.raises(DestinationError):
        upload.commit()
    assert lies_in(destination) == set()


@pytest.mark.law(2)
@pytest.mark.fault("K14")
def test_a_file_is_on_disk_and_closed_before_its_name_and_its_name_before_success(
    destination: LocalDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(destination, "shop/before", b"x")
    upload = destination.upload(KEY)
    upload.append(Segment.of(b"x" * 100_000))
    calls: list[str] = []

    def recorded(module: Any, name: str, say: Callable[..., str]) -> None:
        real = getattr(module, name)

        def call(*args: Any, **options: Any) -> Any:
            said = say(*args)
            result = real(*args, **options)
            calls.append(said)
            return result

        monkeypatch.setattr(module, name, call)

    def opened(verb: str) -> Callable[[int], str]:
        return lambda fd: f"{verb} {os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))}"

    recorded(os, "fsync", opened("sync"))
    recorded(os, "close", opened("close"))
    recorded(sys.modules["blocks.destinations.local_upload"], "rename_new", lambda _fd, old, new: f"rename {old} {new}")
    upload.commit()
    name = KEY.partition("/")[2]
    assert calls[:4] == [
        f"sync {upload.token}",
        f"close {upload.token}",
        f"rename {upload.token} {name}",
        "sync shop",
    ]


@pytest.mark.law(7)
def test_what_is_read_back_after_commit_is_the_disk_and_not_the_cache(destination: LocalDestination) -> None:
    put(destination, KEY, os.urandom(4_000_000))
    control = destination.root / "control"  # nothing stays cached of it, where the file system is on a disk at all
    control.write_bytes(os.urandom(4_000_000))
    with control.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert cached_pages(destination.root / KEY) == cached_pages(control)


def cached_pages(path: Path) -> int:
    """How many pages of a file lie in memory."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        pages = (ctypes.c_ubyte * -(-len(memory) // mmap.PAGESIZE))()
        first = ctypes.c_char.from_buffer(memory)
        failed = ctypes.CDLL(None).mincore(ctypes.byref(first), ctypes.c_size_t(len(memory)), pages)
        del first
    assert not failed
    return sum(page & 1 for page in pages)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_where_the_file_system_knows_no_such_rename_a_link_does_not_replace_either(
    destination: LocalDestination, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    class Old:
        @staticmethod
        def renameat2(*_: object) -> int:
            return -1

    monkeypatch.setattr(local_files, "_libc", Old)
    monkeypatch.setattr("ctypes.get_errno", lambda: number)
    put(destination, KEY, b"first")
    assert get(destination, KEY) == b"first"
    with pytest.raises(AlreadyExists):
        put(destination, KEY, b"other")
    assert get(destination, KEY) == b"first"
    assert lies_in(destination) == {KEY}
