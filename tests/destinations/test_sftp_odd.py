"""An SFTP destination whose server fails, lies, or can do less than others: request by request."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blocks.destinations.places import GRACE
from blocks.destinations.sftp import SftpDestination
from blocks.destinations.sftp_client import WINDOW
from blocks.destinations.sftp_messages import FSYNC, HARDLINK, LIMITS, STATVFS
from tasks.run import Sum
from tasks.verify import verify_object
from tests.contract.destination import KEY, OTHER, digest, get, keys, put
from tests.destinations.test_sftp import at, lies_in, on
from tests.peers import odd_sftp
from tests.peers.odd_sftp import Oddities
from tests.peers.sshd import SshServer, running_sshd
from vault.errors import (
    AccessDenied,
    AlreadyExists,
    DestinationError,
    DestinationUnavailable,
    NoSpace,
    NotFound,
    ReadBackMismatch,
    Transient,
)
from vault.spool import Segment

FULL = odd_sftp.FAILURE, "Failure"  # all that OpenSSH says
READ, WRITE, CLOSE, READDIR, RENAME = (
    str(kind) for kind in (odd_sftp.READ, odd_sftp.WRITE, odd_sftp.CLOSE, odd_sftp.READDIR, odd_sftp.RENAME)
)
Odd = Callable[..., None]


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("odd") / "faults.json"


@pytest.fixture(scope="module")
def server(faults: Path) -> Iterator[SshServer]:
    with running_sshd(sftp=odd_sftp.command(faults)) as server:
        yield server


@pytest.fixture
def odd(faults: Path) -> Iterator[Odd]:
    def be(**changes: object) -> None:
        odd_sftp.put(faults, Oddities(**changes))  # type: ignore[arg-type]

    be()
    yield be
    be()


@pytest.fixture
def destination(server: SshServer, odd: Odd, tmp_path: Path) -> SftpDestination:
    prepared = on(server, tmp_path)
    prepared.prepare()
    return prepared


def fresh(destination: SftpDestination) -> SftpDestination:
    """The same place, as another process would load it: connected anew."""
    return SftpDestination.model_validate(destination.model_dump())


# -- what a server does not have


@pytest.mark.fault("T19")
@pytest.mark.parametrize("size", [0, 1, 2, 4095, 65_536, 300_001])
def test_a_server_that_tells_no_sizes_is_read_to_the_end_and_its_sizes_are_found_out(
    destination: SftpDestination, odd: Odd, size: int
) -> None:
    odd(no_size=True)
    data = os.urandom(size)
    assert put(destination, KEY, data, pieces=3).size == size
    assert destination.stat(KEY).size == size
    assert [found.size for found in destination.list("shop/")] == [size]
    assert get(destination, KEY) == data
    assert get(destination, KEY, size // 2) == data[size // 2 :]
    with pytest.raises(AlreadyExists):
        put(destination, KEY, data + b"x")


@pytest.mark.fault("T19", "T02")
def test_without_sizes_an_upload_goes_on_after_what_was_acknowledged(destination: SftpDestination, odd: Odd) -> None:
    odd(no_size=True)
    upload = destination.upload(KEY)
    upload.append(Segment.of(b"0123456789"))
    resumed = fresh(destination).upload(KEY, resume=upload.token)
    assert resumed.offset == 10
    resumed.append(Segment.of(b"abc", 1, 10))
    assert resumed.commit().size == 13
    assert get(destination, KEY) == b"0123456789abc"


@pytest.mark.fault("T18")
@pytest.mark.parametrize("without", [[HARDLINK], [FSYNC], [STATVFS], [LIMITS], [HARDLINK, FSYNC, STATVFS, LIMITS]])
def test_a_server_without_an_extension_keeps_every_promise(
    destination: SftpDestination, server: SshServer, odd: Odd, without: list[str]
) -> None:
    odd(without=without)
    plain = fresh(destination)
    plain.check()
    data = os.urandom(500_000)
    put(plain, KEY, data)
    with pytest.raises(AlreadyExists):
        put(plain, KEY, b"other")
    assert put(plain, KEY, data).size == len(data)
    assert get(plain, KEY) == data
    assert (plain.free_space() is None) == (STATVFS in without)
    assert lies_in(at(server, plain)) == {KEY}


@pytest.mark.law(11)
@pytest.mark.fault("T18", "D06")
@pytest.mark.parametrize("hard_links", ["works", "fails", "is not there"])
def test_a_rename_that_replaces_does_not_cost_what_is_there(
    destination: SftpDestination, server: SshServer, odd: Odd, hard_links: str
) -> None:
    put(destination, KEY, b"first")
    odd(
        replacing_rename=True,
        without=[HARDLINK] if hard_links == "is not there" else [],
        refuse={HARDLINK: (odd_sftp.UNSUPPORTED, "")} if hard_links == "fails" else {},
    )
    other = fresh(destination)
    with pytest.raises(AlreadyExists):
        put(other, KEY, b"second")
    assert get(other, KEY) == b"first"
    put(other, OTHER, b"third")
    assert lies_in(at(server, other)) == {KEY, OTHER}


@pytest.mark.fault("D04", "T18")
@pytest.mark.parametrize("code", [odd_sftp.UNSUPPORTED, 5, 3])
def test_a_server_that_cannot_sync_is_taken_with_a_note(
    destination: SftpDestination, odd: Odd, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    odd(refuse={FSYNC: (code, "")})
    put(destination, KEY, b"x")
    assert get(destination, KEY) == b"x"
    assert "power cut" in caplog.text


@pytest.mark.fault("D04", "K14")
def test_any_other_error_of_sync_is_fatal_and_the_upload_never_resumed(
    destination: SftpDestination, server: SshServer, odd: Odd
) -> None:
    upload = destination.upload(KEY)
    upload.append(Segment.of(b"x"))
    odd(refuse={FSYNC: FULL})
    with pytest.raises(DestinationError) as caught:
        upload.commit()
    assert not isinstance(caught.value, Transient)
    assert lies_in(at(server, destination)) == set()
    odd()
    with pytest.raises(NotFound):
        destination.upload(KEY, resume=upload.token)


# -- a server that refuses


SENT = 3_000_000
STEPS = {"write": WRITE, "sync": FSYNC, "close": CLOSE, "rename": RENAME}


@pytest.mark.law(2)
@pytest.mark.fault("D01")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("full_from", [0, SENT // 2, SENT - 1000])
def test_a_full_disk_at_any_step_is_no_space_and_leaves_nothing(
    destination: SftpDestination, server: SshServer, odd: Odd, step: str, full_from: int
) -> None:
    """SFTP has no status for it, and OpenSSH says nothing but "failure": how much is free tells."""
    put(destination, OTHER, b"old")
    upload = destination.upload(KEY)
    refused = {STEPS[step]: FULL} | ({HARDLINK: FULL} if step == "rename" else {})

    def send() -> None:
        for index in range(3):
            upload.append(Segment.of(os.urandom(SENT // 3), index, index * (SENT // 3)))
        upload.commit()

    odd(free=100_000, refuse=refused, refuse_from=full_from)
    with pytest.raises(NoSpace, match="Free space there") as caught:
        send()
    assert not isinstance(caught.value, Transient)
    odd()
    assert lies_in(at(server, destination)) == {OTHER}
    assert get(destination, OTHER) == b"old"
    with pytest.raises(NotFound):
        destination.upload(KEY, resume=upload.token)


@pytest.mark.fault("D01", "D02", "D03")
@pytest.mark.parametrize(
    ("code", "text", "more", "kind", "said"),
    [
        (4, "No space left on device", {}, NoSpace, "Free space"),
        (4, "Disk quota exceeded", {}, NoSpace, "quota"),
        (14, "", {}, NoSpace, "Free space"),
        (15, "quota of 5 GB", {}, NoSpace, "quota of 5 GB"),
        (3, "Permission denied", {}, AccessDenied, "right to write"),
        (12, "", {}, AccessDenied, "right to write"),
        (4, "Failure", {"read_only": True}, AccessDenied, "mounted for writing"),
        (4, "Failure", {}, DestinationError, "gives no reason"),
        (4, "Failure", {"without": [STATVFS]}, DestinationError, "gives no reason"),
        (7, "", {}, DestinationUnavailable, "tried again"),
        (99, "what is \x1b[31mthat?", {}, DestinationError, r"status 99: what is \\x1b\[31mthat"),
    ],
)
def test_what_a_server_says_when_it_refuses_to_write_becomes_the_error_that_it_means(
    destination: SftpDestination, odd: Odd, code: int, text: str, more: dict, kind: type, said: str
) -> None:
    odd(**more)
    other = fresh(destination)
    upload = other.upload(KEY)
    odd(refuse={WRITE: (code, text)}, **more)
    with pytest.raises(DestinationError) as caught:
        upload.append(Segment.of(b"x" * 100_000))
    assert type(caught.value) is kind
    assert caught.match(said)
    assert KEY in str(caught.value)
    odd()
    upload.abort()


@pytest.mark.fault("D16")
def test_a_delete_that_is_denied_is_access_denied_and_not_tried_again(destination: SftpDestination, odd: Odd) -> None:
    put(destination, KEY, b"x")
    odd(refuse={"13": (3, "Permission denied")})
    with pytest.raises(AccessDenied):
        destination.remove(KEY)
    assert keys(destination) == {KEY}


@pytest.mark.fault("T13")
def test_a_listing_that_breaks_raises_and_is_never_a_part(
    destination: SftpDestination, server: SshServer, odd: Odd
) -> None:
    for number in range(500):  # several answers
        (at(server, destination) / "shop").mkdir(exist_ok=True)
        (at(server, destination) / f"shop/{number:03}").touch()
    assert len(keys(destination, "shop/")) == 500
    for refused in ({READDIR: FULL}, {READDIR: (7, "")}, {"11": FULL}):
        odd(refuse=refused)
        with pytest.raises(DestinationError):
            destination.list("shop/")
    odd(dies_at=READDIR)
    with pytest.raises(DestinationUnavailable):
        destination.list("shop/")


# -- a server that lies


@pytest.mark.fault("T08")
def test_a_server_that_keeps_less_than_it_acknowledged_is_found_out_before_the_name_is_given(
    destination: SftpDestination, server: SshServer, odd: Odd
) -> None:
    odd(forget_from=1_500_000)
    with pytest.raises(DestinationError, match="of the 3000000 bytes"):
        put(destination, KEY, os.urandom(SENT))
    assert lies_in(at(server, destination)) == set()


@pytest.mark.fault("T11")
@pytest.mark.parametrize("ends_at", [0, 1, 299_999])
def test_a_file_that_ends_before_its_size_is_an_error_to_be_tried_again(
    destination: SftpDestination, odd: Odd, ends_at: int
) -> None:
    put(destination, KEY, os.urandom(300_000))
    odd(ends_at=ends_at)
    with pytest.raises(DestinationError) as caught:
        get(destination, KEY)
    assert ends_at < 200 or isinstance(caught.value, Transient)  # below that the marker is cut too


@pytest.mark.law(7)
@pytest.mark.fault("T12")
@pytest.mark.parametrize("at_byte", [1000, 299_999])
def test_a_flipped_bit_on_the_way_back_is_found_by_reading_back(
    destination: SftpDestination, odd: Odd, at_byte: int
) -> None:
    data = os.urandom(300_000)
    put(destination, KEY, data)
    odd(flip_at=at_byte)
    destination._hashes = False  # as with an account that has no shell
    with pytest.raises(ReadBackMismatch):
        verify_object(destination, KEY, Sum(len(data), digest(data)))
    odd()
    assert verify_object(destination, KEY, Sum(len(data), digest(data))) == "read-back"


@pytest.mark.parametrize("short", [1, 1000, 32_768, 100_000])
def test_a_server_that_gives_less_than_was_asked_for_is_asked_for_the_rest(
    destination: SftpDestination, odd: Odd, short: int
) -> None:
    data = os.urandom(3000 if short == 1 else 1_234_567)
    put(destination, KEY, data)
    upload = destination.upload(OTHER)
    with destination.open(KEY, 7) as stream:
        odd(short=short)
        assert digest(stream.read()) == digest(data[7:])
    odd()
    upload.abort()


def test_answers_in_another_order_are_told_apart(destination: SftpDestination, odd: Odd) -> None:
    odd(backwards=True)
    data = os.urandom(9_000_000)
    put(destination, KEY, data, pieces=2)
    assert digest(get(destination, KEY)) == digest(data)
    assert keys(destination) == {KEY}


# -- an upload that breaks


BLOCK = 255 * 1024  # of a write to OpenSSH


@pytest.mark.law(2)
@pytest.mark.fault("T02", "X06")
@pytest.mark.parametrize("known", ["all that was acknowledged", "nothing"])
@pytest.mark.parametrize("hole", [0, 3, 11, 25])
def test_writes_that_were_carried_out_with_gaps_are_sent_again(
    destination: SftpDestination, server: SshServer, odd: Odd, hole: int, known: str
) -> None:
    """The server did not do one write, and did those after it; then the connection broke."""
    data = os.urandom(40 * BLOCK)
    upload = fresh(destination).upload(KEY)
    odd(hold=hole * BLOCK, breaks_at=(hole + 12) * BLOCK)
    with pytest.raises(DestinationUnavailable):
        upload.append(Segment.of(data))
    odd()
    path = next((at(server, destination) / "shop").iterdir())
    assert path.read_bytes()[hole * BLOCK :] == bytes(BLOCK) + data[(hole + 1) * BLOCK : (hole + 12) * BLOCK]
    token = upload.token if known != "nothing" else upload.token.partition(":")[0] + ":0"
    resumed = fresh(destination).upload(KEY, resume=token)
    assert max(0, hole + 12 - WINDOW // BLOCK - 1) * BLOCK <= resumed.offset <= hole * BLOCK
    resumed.append(Segment.of(data))
    resumed.commit()
    assert digest(get(destination, KEY)) == digest(data)


@pytest.mark.fault("T02")
def test_an_upload_of_which_the_server_has_lost_something_is_not_found(
    destination: SftpDestination, server: SshServer
) -> None:
    upload = destination.upload(KEY)
    upload.append(Segment.of(b"0123456789"))
    os.truncate(next((at(server, destination) / "shop").iterdir()), 9)
    with pytest.raises(NotFound, match="has 9 bytes, and had said that it has 10"):
        destination.upload(KEY, resume=upload.token)


@pytest.mark.law(2)
@pytest.mark.fault("T03", "K05", "O04")
@pytest.mark.parametrize("step", [FSYNC, CLOSE, HARDLINK, "13"])
@pytest.mark.parametrize("done", [False, True])
def test_a_commit_that_breaks_at_any_step_is_finished_by_a_resume(
    destination: SftpDestination, server: SshServer, odd: Odd, step: str, done: bool
) -> None:
    upload = destination.upload(KEY)
    upload.append(Segment.of(b"data"))
    odd(**{"dies_after" if done else "dies_at": step})
    with pytest.raises(DestinationUnavailable):
        upload.commit()
    odd()
    seen = fresh(destination)
    assert keys(seen) in (set(), {KEY})
    resumed = seen.upload(KEY, resume=upload.token)
    resumed.append(Segment.of(b"data"))
    assert resumed.commit().size == 4
    assert get(seen, KEY) == b"data"
    assert lies_in(at(server, seen)) == {KEY}


# -- cleaning


@pytest.mark.fault("D07", "Z02", "Z06")
@pytest.mark.parametrize("years", [-40, 0, 17])
def test_an_upload_is_stale_by_the_servers_clock_and_not_by_ours(
    destination: SftpDestination, server: SshServer, odd: Odd, years: int
) -> None:
    old, new = destination.upload(KEY), destination.upload(KEY)
    names = {upload: upload.token.partition(":")[0] for upload in (old, new)}
    past = (datetime.now(UTC) - GRACE - timedelta(hours=1)).timestamp()
    os.utime(at(server, destination) / "shop" / names[old], (past, past))
    odd(clock=years * 365 * 86_400)
    seen = fresh(destination)
    assert seen.clean(datetime.now(UTC)) == (f"shop/{names[old]}",)
    assert seen.clean(datetime.now(UTC)) == ()
    assert lies_in(at(server, seen)) == {f"shop/{names[new]}"}


@pytest.mark.fault("D07")
def test_where_the_server_shows_no_clock_ours_decides(
    destination: SftpDestination, server: SshServer, odd: Odd
) -> None:
    upload = destination.upload(KEY)
    name = f"shop/{upload.token.partition(':')[0]}"
    odd(refuse={str(odd_sftp.OPEN): FULL}, refuse_only_writing=True)
    now = datetime.now(UTC)
    assert fresh(destination).clean(now + GRACE - timedelta(hours=1)) == ()
    assert fresh(destination).clean(now + GRACE + timedelta(hours=1)) == (name,)
    assert lies_in(at(server, destination)) == set()


def test_a_server_that_does_not_sync_is_told_of_when_it_is_used(
    destination: SftpDestination, odd: Odd, caplog: pytest.LogCaptureFixture
) -> None:
    odd(without=[FSYNC])
    with caplog.at_level(logging.INFO):
        put(fresh(destination), KEY, b"x")
    assert "has no fsync" in caplog.text
