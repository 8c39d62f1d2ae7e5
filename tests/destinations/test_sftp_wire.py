"""An SFTP destination on a wire that is cut, silent or slow; and how much memory it takes."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blocks.destinations.sftp import SftpDestination
from blocks.destinations.sftp_client import WINDOW
from blocks.destinations.sftp_connection import Connection
from cli.api import free_port
from tests.contract.destination import KEY, cut, digest, get, keys, put
from tests.destinations.test_sftp import at, lies_in, on
from tests.peers.proxy import Proxy, proxy
from tests.peers.sshd import SshServer, running_sshd
from vault.errors import DestinationUnavailable
from vault.spool import Segment

MIB = 1024 * 1024
_PATIENCE = 1.0  # seconds, where a test waits for it to end


@pytest.fixture
def wire(sshd: SshServer) -> Iterator[Proxy]:
    with proxy(sshd.port) as between:
        yield between


@pytest.fixture
def destination(sshd: SshServer, wire: Proxy, tmp_path: Path) -> SftpDestination:
    prepared = on(sshd, tmp_path, port=wire.port)
    prepared.prepare()
    return prepared


def lose_patience(connection: Connection) -> None:
    """Wait for a second only, from now on: to log in may have taken longer, on a busy machine."""
    connection.sftp._patience = _PATIENCE


# -- no connection


@pytest.mark.fault("T01")
def test_a_refused_connection_is_tried_again(sshd: SshServer, tmp_path: Path) -> None:
    with pytest.raises(DestinationUnavailable, match="refused"):
        on(sshd, tmp_path, port=free_port()).list("")


@pytest.mark.fault("T01")
def test_a_name_that_cannot_be_resolved_is_tried_again(sshd: SshServer, tmp_path: Path) -> None:
    with pytest.raises(DestinationUnavailable, match="cannot be resolved"):
        on(sshd, tmp_path, host="nas.invalid").list("")


@pytest.mark.fault("T01", "T20")
@pytest.mark.parametrize("kind", ["silent", "drip"])
def test_a_server_that_does_not_greet_in_time_is_tried_again(
    destination: SftpDestination, wire: Proxy, kind: str
) -> None:
    if kind == "silent":
        wire.wire.silent = True
    else:
        wire.wire.drip_down = 0
    hasty = SftpDestination.model_validate({**destination.model_dump(), "connect_timeout": _PATIENCE})
    with pytest.raises(DestinationUnavailable, match="no whole answer within 1 s"):
        hasty.list("")


@pytest.mark.fault("T01")
@pytest.mark.parametrize("cut_after", [0, 10, 500, 1500, 2500])
def test_a_connection_that_is_cut_while_it_is_made_is_tried_again(
    destination: SftpDestination, wire: Proxy, cut_after: int
) -> None:
    wire.wire.cut_down = cut_after
    other = SftpDestination.model_validate(destination.model_dump())
    with pytest.raises(DestinationUnavailable):
        other.list("")
    wire.wire.cut_down = None
    assert keys(other) == set()


# -- cut under way


@pytest.mark.law(2)
@pytest.mark.fault("T02")
@pytest.mark.parametrize("cut_after", [0, 1000, 3 * MIB, 11 * MIB])
def test_an_upload_that_is_cut_shows_nothing_and_goes_on_where_the_server_stands(
    destination: SftpDestination, sshd: SshServer, wire: Proxy, tmp_path: Path, cut_after: int
) -> None:
    data = os.urandom(12 * MIB)
    segments = cut(data, 4 * MIB, tmp_path)
    upload = destination.upload(KEY)

    def send() -> None:
        for segment in segments:
            upload.append(segment)

    wire.wire.cut_up = cut_after
    with pytest.raises(DestinationUnavailable):
        send()
    wire.wire.cut_up = None
    assert keys(destination) == set()
    assert upload.offset <= cut_after
    resumed = destination.upload(KEY, resume=upload.token)
    assert resumed.offset >= max(upload.offset, cut_after - 2 * WINDOW)
    sent, missing = wire.up, len(data) - resumed.offset
    for segment in segments[resumed.offset // (4 * MIB) :]:
        resumed.append(segment)
    assert wire.up - sent < missing + MIB
    resumed.commit()
    assert digest(get(destination, KEY)) == digest(data)
    assert lies_in(at(sshd, destination)) == {KEY}


@pytest.mark.fault("T02")
def test_sessions_that_the_server_kills_are_replaced(destination: SftpDestination, sshd: SshServer) -> None:
    data = os.urandom(3 * MIB)
    upload = destination.upload(KEY)
    upload.append(Segment.of(data[:MIB]))
    sshd.kill_sessions()
    with pytest.raises(DestinationUnavailable):
        upload.append(Segment.of(data[MIB:], 1, MIB))
    resumed = destination.upload(KEY, resume=upload.token)
    resumed.append(Segment.of(data))
    resumed.commit()
    assert digest(get(destination, KEY)) == digest(data)


@pytest.mark.fault("T02", "T07")
def test_an_upload_whose_connection_is_gone_can_still_be_dropped(
    destination: SftpDestination, sshd: SshServer, wire: Proxy
) -> None:
    upload = destination.upload(KEY)
    upload.append(Segment.of(b"x" * MIB))
    wire.cut()
    upload.abort()
    upload.abort()
    assert lies_in(at(sshd, destination)) == set()


@pytest.mark.fault("T03", "O04")
@pytest.mark.parametrize("answers", range(0, 1000, 100))
def test_a_commit_whose_answers_are_lost_anywhere_is_finished_by_a_resume(
    destination: SftpDestination, sshd: SshServer, wire: Proxy, answers: int
) -> None:
    upload = destination.upload(KEY)
    upload.append(Segment.of(b"data"))
    wire.wire.cut_down = answers
    try:
        upload.commit()
        done = True
    except DestinationUnavailable:
        done = False
    wire.wire.cut_down = None
    resumed = destination.upload(KEY, resume=upload.token)
    resumed.append(Segment.of(b"data"))
    assert resumed.commit().size == 4
    assert get(destination, KEY) == b"data"
    assert lies_in(at(sshd, destination)) == {KEY}
    assert answers or not done


@pytest.mark.fault("T11")
@pytest.mark.parametrize("cut_after", [1000, 5 * MIB, 11 * MIB])
def test_a_download_that_is_cut_is_an_error_to_be_tried_again(
    destination: SftpDestination, wire: Proxy, cut_after: int
) -> None:
    data = os.urandom(12 * MIB)
    put(destination, KEY, data)
    wire.wire.cut_down = cut_after
    with pytest.raises(DestinationUnavailable):
        get(destination, KEY)
    wire.wire.cut_down = None
    assert digest(get(destination, KEY)) == digest(data)


@pytest.mark.fault("T13")
def test_a_listing_that_is_cut_raises_and_is_never_a_part(
    destination: SftpDestination, sshd: SshServer, wire: Proxy
) -> None:
    (at(sshd, destination) / "shop").mkdir()
    for number in range(2000):
        (at(sshd, destination) / f"shop/{number:04}").touch()
    destination.list("")
    wire.wire.cut_down = 100_000
    with pytest.raises(DestinationUnavailable):
        destination.list("shop/")
    wire.wire.cut_down = None
    assert len(keys(destination)) == 2000


def test_a_connection_that_died_while_nobody_used_it_is_replaced(destination: SftpDestination, wire: Proxy) -> None:
    put(destination, KEY, b"x")
    wire.cut()
    assert get(destination, KEY) == b"x"


def test_keys_that_are_exchanged_anew_under_way_disturb_nothing(tmp_path: Path) -> None:
    """Both sides want new keys now and then: paramiko after 512 MB, servers as they are told."""
    with running_sshd("shell", "RekeyLimit 1M") as server:
        destination = on(server, tmp_path)
        destination.prepare()
        data = os.urandom(24 * MIB)
        put(destination, KEY, data, pieces=2)
        assert digest(get(destination, KEY)) == digest(data)
        assert server.log().count("rekey") > 10


# -- slow


DRIPS: dict[str, Callable[[SftpDestination], object]] = {
    "list": lambda d: d.list(""),
    "open": lambda d: get(d, KEY),
    "stat": lambda d: d.stat(KEY),
    "upload": lambda d: put(d, "shop/new", b"x" * MIB),
    "check": lambda d: d.check(),
}


@pytest.mark.fault("T20")
@pytest.mark.parametrize("use", DRIPS.values(), ids=DRIPS)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_peer_that_drips_is_given_up_and_tried_again(
    destination: SftpDestination, wire: Proxy, use: Callable[[SftpDestination], object], direction: str
) -> None:
    put(destination, KEY, os.urandom(MIB))
    with destination._connected() as connection:
        lose_patience(connection)
    wire.wire.drip_up, wire.wire.drip_down = (0, None) if direction == "up" else (None, 0)
    with pytest.raises(DestinationUnavailable, match="no whole answer within 1 s"):
        use(destination)


@pytest.mark.fault("T20")
def test_a_peer_that_stops_in_the_middle_of_an_upload_is_given_up(destination: SftpDestination, wire: Proxy) -> None:
    """It takes some bytes, and then no more: what we send fills every buffer on the way."""
    upload = destination.upload(KEY)
    upload.append(Segment.of(b"x" * MIB))
    assert upload._connection is not None
    lose_patience(upload._connection)
    wire.wire.drip_up = 2 * MIB
    with pytest.raises(DestinationUnavailable, match="no whole answer within 1 s"):
        upload.append(Segment.of(bytes(64 * MIB), 1, MIB))
    assert upload.offset < 8 * MIB


def test_a_reader_who_takes_long_is_no_slow_peer(destination: SftpDestination, wire: Proxy) -> None:
    """A restore may read slowly: between two reads nobody waits for the server."""
    data = os.urandom(12 * MIB)
    put(destination, KEY, data)
    with destination._connected() as connection:
        lose_patience(connection)
    with destination.open(KEY) as stream:
        found = stream.read(MIB)
        wire.ended(2 * _PATIENCE)
        found += stream.read()
    assert digest(found) == digest(data)


# -- memory


@pytest.mark.fault("F05")
def test_memory_does_not_grow_with_the_size_of_an_object(destination: SftpDestination, tmp_path: Path) -> None:
    size = 96 * MIB
    path = tmp_path / "segment"
    with path.open("wb") as file:
        file.truncate(size)
    destination.list("")
    tracemalloc.start()
    try:
        upload = destination.upload(KEY)
        upload.append(Segment(0, 0, size, path))
        upload.commit()
        buffer = bytearray(MIB)
        with destination.open(KEY) as stream:
            while stream.readinto(buffer):  # type: ignore[attr-defined]
                pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * WINDOW
