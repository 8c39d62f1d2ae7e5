"""A local destination: the contract, and what only a file system can do to it."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.core import Block

from blocks.destinations.base import Destination
from blocks.destinations.local import LocalDestination
from blocks.destinations.places import MARKER
from tests.contract.destination import KEY, OTHER, DestinationContract, cut, get, keys, put
from tests.contract.source import BlockSuite
from tests.peers.child import NOBODY, in_child
from vault.errors import (
    AccessDenied,
    ConfigError,
    DestinationError,
    DestinationUnavailable,
    NotFound,
    Transient,
)
from vault.spool import Segment


@pytest.fixture
def destination(tmp_path: Path) -> LocalDestination:
    prepared = LocalDestination(root=tmp_path / "backups")
    prepared.prepare()
    return prepared


class TestLocalDestination(DestinationContract):
    @pytest.fixture
    def destination(self, destination: LocalDestination) -> LocalDestination:  # the one above
        return destination

    def lies_there(self, destination: Destination) -> set[str]:
        return lies_in(destination)

    def plant(self, destination: Destination, name: str) -> None:
        plant_in(destination, name)


class TestLocalDestinationBlock(BlockSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return LocalDestination


def lies_in(destination: Destination) -> set[str]:
    assert isinstance(destination, LocalDestination)
    root = destination.root
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()} - {MARKER}


def plant_in(destination: Destination, name: str) -> None:
    assert isinstance(destination, LocalDestination)
    path = destination.root / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"foreign")


def failing(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, number: int, when: int = 1) -> None:
    """The *when*-th call of *module.name* fails with *number*; those before and after it really happen."""
    real, count = getattr(module, name), 0

    def call(*args: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == when:
            raise OSError(number, os.strerror(number))
        return real(*args, **options)

    monkeypatch.setattr(module, name, call)


# -- the place: prepared once, and the same ever after


def test_prepare_makes_a_private_directory_with_a_marker(tmp_path: Path) -> None:
    destination = LocalDestination(root=tmp_path / "new")
    destination.prepare()
    assert stat.S_IMODE(destination.root.stat().st_mode) == 0o700
    assert json.loads((destination.root / MARKER).read_text()) == {"format": 1, "id": destination.marker}
    assert stat.S_IMODE((destination.root / MARKER).stat().st_mode) == 0o600


def test_prepare_takes_an_empty_directory_and_a_fresh_file_system(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    destination = LocalDestination(root=tmp_path)
    destination.prepare()
    destination.check()


def test_prepare_refuses_a_directory_that_holds_other_things_unless_told_to_adopt_it(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    destination = LocalDestination(root=tmp_path)
    with pytest.raises(DestinationError, match="holds other things"):
        destination.prepare()
    assert os.listdir(tmp_path) == ["photos"]
    destination.prepare(adopt=True)
    assert keys(destination) == set()
    destination.check()


@pytest.mark.fault("D05")
def test_prepare_never_makes_the_parents_of_a_missing_disk(tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match="parent directory is missing"):
        LocalDestination(root=tmp_path / "mnt" / "disk" / "backups").prepare()
    assert os.listdir(tmp_path) == []


def test_two_who_prepare_the_same_directory_agree_on_one_marker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = LocalDestination(root=tmp_path), LocalDestination(root=tmp_path)
    real = os.listdir

    def prepare_meanwhile(path: Any) -> list[str]:
        monkeypatch.setattr(os, "listdir", real)
        second.prepare()
        return []

    monkeypatch.setattr(os, "listdir", prepare_meanwhile)
    first.prepare()
    assert first.marker == second.marker
    assert os.listdir(tmp_path) == [MARKER]


USES: dict[str, Callable[[LocalDestination], object]] = {
    "check": lambda d: d.check(),
    "upload": lambda d: d.upload(KEY),
    "open": lambda d: get(d, KEY),
    "stat": lambda d: d.stat(KEY),
    "list": lambda d: d.list("shop/"),
    "remove": lambda d: d.remove(KEY),
    "free_space": lambda d: d.free_space(),
    "clean": lambda d: d.clean(datetime.now(UTC)),
    "prepare": lambda d: d.prepare(),
}


@pytest.mark.fault("D05")
@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("left", ["an empty mount point", "nothing"])
def test_a_disk_that_is_not_mounted_is_refused_and_nothing_is_put_in_its_place(
    destination: LocalDestination, use: Callable[[LocalDestination], object], left: str
) -> None:
    destination.root.rename(destination.root.with_name("unmounted"))
    if left == "an empty mount point":
        destination.root.mkdir()
    with pytest.raises(DestinationError, match="is its disk mounted") as caught:
        use(destination)
    assert not isinstance(caught.value, Transient | NotFound)
    assert not destination.root.exists() or os.listdir(destination.root) == []


@pytest.mark.fault("D05")
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_another_disk_at_the_same_place_is_refused(
    destination: LocalDestination, use: Callable[[LocalDestination], object]
) -> None:
    destination.root.rename(destination.root.with_name("away"))
    LocalDestination(root=destination.root).prepare()
    with pytest.raises(DestinationError, match="not the disk that it was"):
        use(destination)
    assert lies_in(destination) == set()


@pytest.mark.fault("D05")
@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2, "id": "x"}', '{"format": 1, "id": 7}', "null"])
def test_a_marker_that_cannot_be_understood_is_refused(destination: LocalDestination, text: str) -> None:
    (destination.root / MARKER).write_text(text)
    with pytest.raises(DestinationError, match="cannot be understood"):
        destination.list("")


@pytest.mark.parametrize("root", ["backups", "../backups", "/mnt/../etc", "/", "", "/mnt/\0"])
def test_a_root_that_is_no_absolute_path_is_refused(root: str) -> None:
    with pytest.raises(ValueError, match="absolute path"):
        LocalDestination(root=root)  # type: ignore[arg-type]


def test_a_tilde_is_the_home_directory() -> None:
    assert LocalDestination(root=Path("~/backups")).root == Path.home() / "backups"


# -- no symbolic link is followed


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A directory with a file that nobody may change, read or remove through a link."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / KEY.partition("/")[2]).write_text("precious")
    yield victim
    assert [path.read_text() for path in victim.iterdir()] == ["precious"]


@pytest.mark.fault("D14")
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_link_in_place_of_the_root_is_refused(
    destination: LocalDestination, victim: Path, use: Callable[[LocalDestination], object]
) -> None:
    destination.root.rename(destination.root.with_name("real"))
    destination.root.symlink_to(destination.root.with_name("real"))
    with pytest.raises(AccessDenied, match="symbolic link"):
        use(destination)


@pytest.mark.fault("D14")
@pytest.mark.parametrize("name", ["upload", "open", "stat", "list", "remove"])
def test_a_link_in_place_of_an_app_is_refused(destination: LocalDestination, victim: Path, name: str) -> None:
    (destination.root / "shop").symlink_to(victim)
    with pytest.raises(AccessDenied):
        USES[name](destination)
    assert keys(destination, "") == set()


@pytest.mark.fault("D14")
def test_a_link_in_place_of_an_object_is_neither_read_nor_listed_nor_written_through(
    destination: LocalDestination, victim: Path
) -> None:
    path = destination.root / KEY
    path.parent.mkdir()
    path.symlink_to(victim / path.name)
    for use in (lambda: get(destination, KEY), lambda: destination.stat(KEY), lambda: put(destination, KEY, b"x")):
        with pytest.raises(AccessDenied):
            use()
    assert keys(destination) == set()
    destination.remove(KEY)
    assert not path.is_symlink()


@pytest.mark.fault("D14")
def test_a_link_in_place_of_an_unfinished_upload_is_refused(destination: LocalDestination, victim: Path) -> None:
    upload = destination.upload(KEY)
    path = destination.root / "shop" / upload.token
    path.unlink()
    path.symlink_to(victim / path.name)
    with pytest.raises(AccessDenied):
        destination.upload(KEY, resume=upload.token)


@pytest.mark.fault("D14")
def test_a_fifo_in_place_of_an_object_does_not_hang(destination: LocalDestination) -> None:
    (destination.root / "shop").mkdir()
    os.mkfifo(destination.root / KEY)
    with pytest.raises(AccessDenied):
        get(destination, KEY)
    assert keys(destination) == set()


@pytest.mark.fault("D14")
@pytest.mark.parametrize("token", ["../x", "/etc/passwd", ".x.partial", "", ".shop.0123456789abcdef.partial", MARKER])
def test_a_token_that_is_not_of_this_key_is_not_found(destination: LocalDestination, token: str) -> None:
    put(destination, OTHER, b"x")
    with pytest.raises(NotFound):
        destination.upload(KEY, resume=token)


def test_a_token_of_another_key_is_not_found(destination: LocalDestination) -> None:
    upload = destination.upload(OTHER)
    with pytest.raises(NotFound):
        destination.upload(KEY, resume=upload.token)


@pytest.mark.fault("D14")
def test_files_and_directories_are_private_whatever_the_umask(destination: LocalDestination) -> None:
    before = os.umask(0)
    try:
        put(destination, KEY, b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((destination.root / "shop").stat().st_mode) == 0o700
    assert stat.S_IMODE((destination.root / KEY).stat().st_mode) == 0o600


@pytest.mark.fault("D15")
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
def test_check_refuses_a_root_that_everybody_may_write_to(destination: LocalDestination, mode: int) -> None:
    destination.root.chmod(mode)
    with pytest.raises(AccessDenied, match="everybody may write"):
        destination.check()


@pytest.mark.fault("D15")
def test_check_warns_when_the_root_belongs_to_somebody_else(
    destination: LocalDestination, caplog: pytest.LogCaptureFixture
) -> None:
    if os.geteuid() == 0:
        os.chown(destination.root, NOBODY, NOBODY)
        destination.check()
    else:  # the same from the other side: we are not who owns it
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "geteuid", lambda: NOBODY)
            destination.check()
    assert "can remove backups" in caplog.text


# -- listing and cleaning


def test_a_listing_that_cannot_be_read_raises_and_is_never_a_part(
    destination: LocalDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(destination, "a/x", b"x")
    put(destination, "b/x", b"x")
    failing(monkeypatch, os, "scandir", errno.EIO, when=3)  # the root, a, b
    with pytest.raises(DestinationUnavailable):
        destination.list("")


def test_a_file_with_an_absurd_time_is_listed_all_the_same(destination: LocalDestination) -> None:
    put(destination, KEY, b"x")
    for seconds in (2**40, -(2**40), 0):
        with_time = os.utime(destination.root / KEY, (seconds, seconds))
        assert with_time is None
        assert keys(destination) == {KEY}


@pytest.mark.fault("Z06")
def test_times_are_the_files_own_in_utc(destination: LocalDestination) -> None:
    put(destination, KEY, b"x")
    os.utime(destination.root / KEY, (1_000_000_000, 1_000_000_000))
    assert destination.stat(KEY).modified == datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)


@pytest.mark.fault("D07", "X03")
def test_clean_removes_uploads_that_were_left_for_a_day_and_nothing_else(destination: LocalDestination) -> None:
    put(destination, KEY, b"x")
    old, new = destination.upload(OTHER), destination.upload(OTHER)
    plant_in(destination, "shop/.foreign.partial")
    plant_in(destination, "shop/.x y.0123456789abcdef.partial")
    plant_in(destination, "shop/plain.partial")
    now = datetime.now(UTC)
    for path in (destination.root / "shop").iterdir():
        moment = now - timedelta(hours=23 if path.name == new.token else 25)
        os.utime(path, (moment.timestamp(), moment.timestamp()))
    left = lies_in(destination) - {f"shop/{old.token}"}
    assert destination.clean(now) == (f"shop/{old.token}",)
    assert destination.clean(now) == ()
    assert lies_in(destination) == left


def test_checks_at_the_same_time_do_not_disturb_each_other(destination: LocalDestination) -> None:
    def check() -> None:
        for _ in range(100):
            LocalDestination(root=destination.root).check()

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(check) for _ in range(3)]:
            done.result()
    assert lies_in(destination) == set()


@pytest.mark.fault("K05")
def test_a_killed_upload_leaves_only_what_clean_takes_and_resume_continues(
    destination: LocalDestination, tmp_path: Path
) -> None:
    data = os.urandom(300_000)
    token = tmp_path / "token"

    def die() -> None:
        upload = destination.upload(KEY)
        upload.append(Segment.of(data[:200_000]))
        token.write_text(upload.token)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die) == ("", -signal.SIGKILL)
    assert keys(destination) == set()
    upload = destination.upload(KEY, resume=token.read_text())
    for segment in cut(data, 100_000, tmp_path):
        upload.append(segment)
    upload.commit()
    assert get(destination, KEY) == data
    assert lies_in(destination) == {KEY}


@pytest.mark.fault("F04")
def test_descriptors_are_not_leaked(destination: LocalDestination) -> None:
    put(destination, KEY, b"x")
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(20):
        destination.upload(OTHER).abort()
        put(destination, KEY, b"x")
        get(destination, KEY)
        keys(destination)
        destination.stat(KEY)
        with pytest.raises(NotFound):
            get(destination, "shop/missing")
    assert set(os.listdir("/proc/self/fd")) <= before


@pytest.mark.fault("F04")
def test_too_many_open_files_is_a_clear_error(destination: LocalDestination) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(DestinationError, match="Too many open files"):
            destination.list("")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_name_that_no_key_can_have_never_reaches_the_disk(destination: LocalDestination) -> None:
    with pytest.raises(ConfigError):
        destination.upload("../x/y")
    assert os.listdir(destination.root) == [MARKER]
