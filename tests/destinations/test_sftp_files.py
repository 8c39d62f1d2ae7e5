"""What somebody else can do to the directory of an SFTP destination: exchange it, plant links, look into it."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from blocks.destinations.places import MARKER
from blocks.destinations.sftp import SftpDestination
from tests.contract.destination import KEY, OTHER, cut, digest, get, keys, put
from tests.destinations.test_sftp import at, lies_in, on
from tests.peers.child import NOBODY, in_child
from tests.peers.sshd import SshServer
from vault.errors import AccessDenied, ConfigError, DestinationError, NotFound, Transient
from vault.spool import Segment


@pytest.fixture
def destination(sshd: SshServer, tmp_path: Path) -> SftpDestination:
    prepared = on(sshd, tmp_path)
    prepared.prepare()
    return prepared


@pytest.fixture
def root(sshd: SshServer, destination: SftpDestination) -> Path:
    return at(sshd, destination)


USES: dict[str, Callable[[SftpDestination], object]] = {
    "check": lambda d: d.check(),
    "upload": lambda d: d.upload(KEY),
    "open": lambda d: get(d, KEY),
    "stat": lambda d: d.stat(KEY),
    "list": lambda d: d.list("shop/"),
    "remove": lambda d: d.remove(KEY),
    "digest": lambda d: d.digest(KEY),
    "free_space": lambda d: d.free_space(),
    "clean": lambda d: d.clean(datetime.now(UTC)),
    "prepare": lambda d: d.prepare(),
}
each_use = pytest.mark.parametrize("use", USES.values(), ids=USES)

# -- the place: prepared once, and the same ever after


def test_prepare_makes_a_private_directory_with_a_marker(root: Path, destination: SftpDestination) -> None:
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert json.loads((root / MARKER).read_text()) == {"format": 1, "id": destination.marker}
    assert stat.S_IMODE((root / MARKER).stat().st_mode) == 0o600


def test_prepare_refuses_a_directory_that_holds_other_things_unless_told_to_adopt_it(
    sshd: SshServer, tmp_path: Path
) -> None:
    destination = on(sshd, tmp_path)
    (at(sshd, destination) / "photos").mkdir(parents=True)
    with pytest.raises(DestinationError, match="holds other things"):
        destination.prepare()
    assert os.listdir(at(sshd, destination)) == ["photos"]
    destination.prepare(adopt=True)
    assert keys(destination) == set()
    destination.check()


@pytest.mark.fault("D05")
def test_prepare_never_makes_the_parents_of_a_missing_disk(sshd: SshServer, tmp_path: Path) -> None:
    destination = on(sshd, tmp_path, root=f"{sshd.seen}/mnt/disk/backups")
    with pytest.raises(DestinationError, match="parent directory is missing"):
        destination.prepare()
    assert not (sshd.served / "mnt").exists()


def test_many_who_prepare_the_same_directory_agree_on_one_marker(sshd: SshServer, tmp_path: Path) -> None:
    everybody = [on(sshd, tmp_path) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(SftpDestination.prepare, everybody))
    assert len({destination.marker for destination in everybody}) == 1
    assert os.listdir(at(sshd, everybody[0])) == [MARKER]


@pytest.mark.fault("D05")
@each_use
@pytest.mark.parametrize("left", ["an empty mount point", "nothing"])
def test_a_disk_that_is_not_mounted_is_refused_and_nothing_is_put_in_its_place(
    destination: SftpDestination, root: Path, use: Callable[[SftpDestination], object], left: str
) -> None:
    root.rename(root.with_name(f"{root.name}-unmounted"))
    if left == "an empty mount point":
        root.mkdir()
    with pytest.raises(DestinationError, match="is its disk mounted") as caught:
        use(destination)
    assert not isinstance(caught.value, Transient | NotFound)
    assert not root.exists() or os.listdir(root) == []


@pytest.mark.fault("D05")
@each_use
def test_another_disk_at_the_same_place_is_refused(
    destination: SftpDestination, root: Path, use: Callable[[SftpDestination], object]
) -> None:
    root.rename(root.with_name(f"{root.name}-away"))
    SftpDestination.model_validate({**destination.model_dump(), "marker": ""}).prepare()
    with pytest.raises(DestinationError, match="not the disk that it was"):
        use(destination)
    assert lies_in(root) == set()


@pytest.mark.fault("D05")
@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2, "id": "x"}', '{"format": 1, "id": 7}', "null"])
def test_a_marker_that_cannot_be_understood_is_refused(destination: SftpDestination, root: Path, text: str) -> None:
    (root / MARKER).write_text(text)
    with pytest.raises(DestinationError, match="cannot be understood"):
        destination.list("")


@pytest.mark.fault("N03", "N04")
@pytest.mark.parametrize("bad", ["backups", "../x", "/a/../b", "/", "", "/a\0", "/a\n", "//", "/a//b", "/./a"])
def test_a_root_that_is_no_absolute_path_is_refused(bad: str) -> None:
    with pytest.raises(ValidationError, match="absolute path"):
        SftpDestination(host="h", user="u", root=bad)


@pytest.mark.fault("N01", "N02")
@pytest.mark.parametrize(
    "fields", [{"host": "-oProxyCommand=x"}, {"host": "h;x"}, {"host": ""}, {"user": "a b"}, {"user": ""}, {"port": 0}]
)
def test_a_host_a_user_or_a_port_that_cannot_be_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        SftpDestination(**{"host": "h", "user": "u", "root": "/r", **fields})


@pytest.mark.parametrize("host", ["nas", "192.0.2.7", "2001:db8::7", "::1", "a-b.example.org"])
def test_a_location_is_a_url(host: str) -> None:
    place = SftpDestination(host=host, user="me", root="/backups/", port=2222)
    assert place.location == f"sftp://me@{f'[{host}]' if ':' in host else host}:2222/backups"


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
@each_use
def test_a_link_in_place_of_the_root_is_refused(
    destination: SftpDestination, root: Path, victim: Path, use: Callable[[SftpDestination], object]
) -> None:
    real = root.with_name(f"{root.name}-real")
    root.rename(real)
    root.symlink_to(real)
    with pytest.raises(AccessDenied, match="symbolic link"):
        use(destination)


@pytest.mark.fault("D14")
@pytest.mark.parametrize("name", ["upload", "open", "stat", "list", "remove", "digest"])
def test_a_link_in_place_of_an_app_is_refused(
    destination: SftpDestination, root: Path, victim: Path, name: str
) -> None:
    (root / "shop").symlink_to(victim)
    with pytest.raises(AccessDenied):
        USES[name](destination)
    assert keys(destination, "") == set()


@pytest.mark.fault("D14")
def test_a_link_in_place_of_an_object_is_neither_read_nor_listed_nor_written_through(
    destination: SftpDestination, root: Path, victim: Path
) -> None:
    path = root / KEY
    path.parent.mkdir()
    path.symlink_to(victim / path.name)
    for use in (get, SftpDestination.stat, SftpDestination.digest, lambda d, key: put(d, key, b"x")):
        with pytest.raises(AccessDenied):
            use(destination, KEY)
    assert keys(destination) == set()
    destination.remove(KEY)
    assert not path.is_symlink()


@pytest.mark.fault("D14")
@pytest.mark.parametrize("place", ["an unfinished upload", "the marker"])
def test_a_link_in_place_of_another_file_of_ours_is_refused(
    destination: SftpDestination, root: Path, victim: Path, place: str
) -> None:
    upload = destination.upload(KEY)
    path = root / MARKER if place == "the marker" else root / "shop" / upload.token.partition(":")[0]
    path.rename(root / "moved")
    path.symlink_to(root / "moved" if place == "the marker" else victim / KEY.partition("/")[2])
    with pytest.raises(AccessDenied):
        destination.upload(KEY, resume=upload.token)


@pytest.mark.fault("D14")
def test_a_fifo_in_place_of_an_object_does_not_hang(destination: SftpDestination, root: Path) -> None:
    (root / "shop").mkdir()
    os.mkfifo(root / KEY)
    for use in (get, SftpDestination.stat, SftpDestination.digest):
        with pytest.raises(AccessDenied):
            use(destination, KEY)
    assert keys(destination) == set()


@pytest.mark.fault("D14")
@pytest.mark.parametrize(
    "token",
    ["../x", "/etc/passwd:0", ".x.partial:0", "", ".shop.0123456789abcdef.partial:0", MARKER, f"../{MARKER}:0"],
)
def test_a_token_that_is_not_of_this_key_is_not_found(destination: SftpDestination, token: str) -> None:
    put(destination, OTHER, b"x")
    with pytest.raises(NotFound):
        destination.upload(KEY, resume=token)
    with pytest.raises(NotFound):
        destination.upload(KEY, resume=destination.upload(OTHER).token)


@pytest.mark.fault("D14")
def test_files_and_directories_are_private(destination: SftpDestination, root: Path) -> None:
    put(destination, KEY, b"x")
    assert stat.S_IMODE((root / "shop").stat().st_mode) == 0o700
    assert stat.S_IMODE((root / KEY).stat().st_mode) == 0o600


@pytest.mark.fault("D15")
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
def test_check_refuses_a_root_that_everybody_may_write_to(destination: SftpDestination, root: Path, mode: int) -> None:
    root.chmod(mode)
    with pytest.raises(AccessDenied, match="may write") as caught:
        destination.check()
    assert f"chmod o-w {destination.root}" in caught.value.remedy


@pytest.mark.fault("D15")
def test_check_warns_when_the_root_belongs_to_somebody_else(
    sshd_chroot: SshServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    destination = on(sshd_chroot, tmp_path)
    destination.prepare()
    destination.check()
    assert "can remove backups" not in caplog.text
    os.chown(at(sshd_chroot, destination), NOBODY - 1, NOBODY)
    at(sshd_chroot, destination).chmod(0o770)
    destination.check()
    assert "can remove backups" in caplog.text


@pytest.mark.fault("D03", "T06")
@pytest.mark.parametrize("name", ["check", "upload"])
def test_a_root_without_the_right_to_write_is_access_denied(sshd_chroot: SshServer, tmp_path: Path, name: str) -> None:
    destination = on(sshd_chroot, tmp_path)
    destination.prepare()
    at(sshd_chroot, destination).chmod(0o555)
    with pytest.raises(AccessDenied, match="permission denied") as caught:
        USES[name](destination)
    assert "right to write" in caught.value.remedy


# -- digests


@pytest.mark.law(7)
@pytest.mark.fault("N01")
@pytest.mark.parametrize(
    "name", ["it's", 'a "b"', "$(touch pwned)", "`touch pwned`", "a;touch pwned", "a b*?", "-x", "ü"]
)
def test_a_root_with_any_name_is_quoted_for_the_shell(sshd: SshServer, tmp_path: Path, name: str) -> None:
    (sshd.served / tmp_path.name).mkdir(exist_ok=True)
    destination = on(sshd, tmp_path, root=f"{sshd.seen}/{tmp_path.name}/{name}")
    destination.prepare()
    data = os.urandom(100_000)
    put(destination, KEY, data)
    found = destination.digest(KEY)
    assert found is not None
    assert found.value == digest(data)
    assert not [path for base in (Path.home(), sshd.served) for path in base.rglob("pwned")]


def test_an_account_that_may_run_nothing_has_no_digest_and_is_not_asked_again(
    sshd_chroot: SshServer, tmp_path: Path
) -> None:
    destination = on(sshd_chroot, tmp_path)
    destination.prepare()
    put(destination, KEY, b"x")
    assert destination.digest(KEY) is None
    asked = sshd_chroot.log().count("request exec")  # what else it says of that may come later
    assert asked
    assert destination.digest(KEY) is None
    assert sshd_chroot.log().count("request exec") == asked
    assert get(destination, KEY) == b"x"  # the connection is still of use


def test_the_digest_of_what_is_missing_is_not_found(destination: SftpDestination) -> None:
    with pytest.raises(NotFound):
        destination.digest(KEY)


# -- listing and cleaning


@pytest.mark.fault("Z06")
def test_times_are_the_files_own_in_utc(destination: SftpDestination, root: Path) -> None:
    put(destination, KEY, b"x")
    os.utime(root / KEY, (1_000_000_000, 1_000_000_000))
    assert destination.stat(KEY).modified == datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    for seconds in (0, 2**32 - 1):
        os.utime(root / KEY, (seconds, seconds))
        assert keys(destination) == {KEY}


@pytest.mark.fault("D07", "X03", "D08")
def test_clean_removes_uploads_that_were_left_for_a_day_and_nothing_else(
    destination: SftpDestination, root: Path
) -> None:
    put(destination, KEY, b"x")
    old, new = (destination.upload(OTHER).token.partition(":")[0] for _ in range(2))
    for name in (".foreign.partial", ".x y.0123456789abcdef.partial", "plain.partial"):
        (root / "shop" / name).write_text("foreign")
    now = datetime.now(UTC)
    for path in (root / "shop").iterdir():
        moment = (now - timedelta(hours=23 if path.name == new else 25)).timestamp()
        os.utime(path, (moment, moment))
    left = lies_in(root) - {f"shop/{old}"}
    assert destination.clean(now) == (f"shop/{old}",)
    assert destination.clean(now) == ()
    assert lies_in(root) == left


def test_a_listing_is_one_stream_of_reads_without_a_request_for_each_object(
    destination: SftpDestination, root: Path
) -> None:
    (root / "shop").mkdir()
    for number in range(3000):
        (root / "shop" / f"{number:04}").touch()
    destination.list("")
    with destination._connected() as connection:
        before = connection.sftp._number
    assert len(list(destination.list("shop/"))) == 3000
    with destination._connected() as connection:
        assert connection.sftp._number - before < 3000 / 50


def test_checks_at_the_same_time_do_not_disturb_each_other(destination: SftpDestination, root: Path) -> None:
    def check(_: int) -> None:
        for _ in range(20):
            destination.check()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(check, range(3)))
    assert lies_in(root) == set()


# -- processes


@pytest.mark.fault("K05")
def test_a_killed_upload_leaves_only_what_clean_takes_and_resume_continues(
    destination: SftpDestination, root: Path, tmp_path: Path
) -> None:
    data = os.urandom(300_000)
    token = tmp_path / "token"

    def die() -> None:
        upload = SftpDestination.model_validate(destination.model_dump()).upload(KEY)
        upload.append(Segment.of(data[:200_000]))
        token.write_text(upload.token)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die) == ("", -signal.SIGKILL)
    assert keys(destination) == set()
    upload = destination.upload(KEY, resume=token.read_text())
    assert upload.offset == 200_000
    for segment in cut(data, 100_000, tmp_path):
        upload.append(segment)
    upload.commit()
    assert get(destination, KEY) == data
    assert lies_in(root) == {KEY}


@pytest.mark.fault("F04")
def test_connections_are_used_again_and_descriptors_are_not_leaked(
    destination: SftpDestination, sshd: SshServer
) -> None:
    put(destination, KEY, b"x")
    before, logins = len(os.listdir("/proc/self/fd")), sshd.log().count("Accepted publickey")
    for _ in range(20):
        destination.upload(OTHER).abort()
        put(destination, KEY, b"x")
        get(destination, KEY)
        keys(destination)
        destination.stat(KEY)
        with pytest.raises(NotFound):
            get(destination, "shop/missing")
    assert len(os.listdir("/proc/self/fd")) <= before
    assert sshd.log().count("Accepted publickey") == logins


def test_a_name_that_no_key_can_have_never_reaches_the_server(destination: SftpDestination, root: Path) -> None:
    with pytest.raises(ConfigError):
        destination.upload("../x/y")
    assert os.listdir(root) == [MARKER]
