"""Google Drive that fails: on the way there and back, at its limits, with its tokens; and what must not come of it."""

from __future__ import annotations

import hashlib
import itertools
import os
import ssl
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from blocks.destinations import google_drive_api, google_drive_read
from blocks.destinations.google_drive import GoogleDriveDestination
from blocks.destinations.google_drive_upload import QUANTUM
from cli.api import free_port
from tasks.run import Sum
from tasks.verify import verify_object
from tests.contract.destination import KEY, OTHER, get, keys, put
from tests.contract.source import CANARY
from tests.destinations.test_google_drive import (
    destination,
    lies_in,
    pauses,
    plant_in,
    server,
    taken_for_google,
)
from tests.peers.certificate import self_signed
from tests.peers.drive import DriveServer, running_drive
from tests.peers.drive_state import FOLDER, Node
from tests.reduced import reduced
from vault.errors import (
    AccessDenied,
    DestinationError,
    DestinationUnavailable,
    NoSpace,
    NotFound,
    ReadBackMismatch,
    SpoolError,
    Transient,
)
from vault.spool import Segment
from vault.store import Digest

__all__ = ["destination", "pauses", "server"]  # fixtures

DATA = os.urandom(5 * QUANTUM + 12_345)


def send(destination: GoogleDriveDestination, data: bytes = DATA, key: str = KEY) -> None:
    """In two segments that are no multiple of 256 KiB."""
    put(destination, key, data, pieces=2)


def send_and_read(destination: GoogleDriveDestination) -> None:
    """Every call that there is, but for deletion."""
    send(destination)
    get(destination, KEY)
    destination.stat(KEY)


def fresh(destination: GoogleDriveDestination) -> GoogleDriveDestination:
    """As another process would load it."""
    return type(destination).model_validate(destination.model_dump())


def object_at(server: DriveServer, key: str = KEY) -> Node:
    """The one file of that key."""
    name = key.partition("/")[2]
    (found,) = [node for node in server.drive.nodes.values() if node.name == name and node.kind != FOLDER]
    return found


def is_whole(server: DriveServer, destination: GoogleDriveDestination) -> bool:
    """Whether exactly the object is there, with every byte."""
    return lies_in(server) == {KEY} and get(destination, KEY) == DATA


# -- the way there


@pytest.mark.fault("T01")
def test_a_refused_connection_is_transient_after_a_bounded_number_of_tries(
    destination: GoogleDriveDestination, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    again = fresh(destination)
    monkeypatch.setattr(google_drive_api, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(DestinationUnavailable, match="Connection refused"):
        again.stat(KEY)
    assert len(pauses) == google_drive_api.TRIES - 1
    for power, pause in enumerate(pauses):
        assert 2**power <= pause <= 2**power * 1.3


@pytest.mark.fault("T01")
@pytest.mark.parametrize("operation", ["token", "list", "start", "chunk", "media"])
def test_a_server_that_never_answers_runs_into_the_time_limit(
    server: DriveServer, destination: GoogleDriveDestination, monkeypatch: pytest.MonkeyPatch, operation: Any
) -> None:
    put(destination, OTHER, DATA)
    again = fresh(destination)
    again._connected().api.timeout = (5.0, 0.2)
    server.drive.fail(operation, hang=True, times=1000)
    with pytest.raises(DestinationUnavailable, match="does not answer"):
        send_and_read(again)


UPLOADING = ["ids", "list", "create", "start", "chunk", "update"]


@pytest.mark.fault("T02")
@pytest.mark.parametrize("after", range(3))
def test_a_connection_that_breaks_while_a_chunk_is_sent_goes_on_at_the_byte_that_google_has(
    server: DriveServer, destination: GoogleDriveDestination, after: int
) -> None:
    server.drive.fail("chunk", cut="before", after=after)
    send(destination)
    assert is_whole(server, destination)


@pytest.mark.fault("T02", "T04")
@pytest.mark.parametrize("how", [{}, {"status": 503}, {"cut": "after"}], ids=["308", "503", "no answer"])
@pytest.mark.parametrize("kept", [0, 1, QUANTUM, QUANTUM + 7])
def test_google_may_keep_less_than_was_sent(
    server: DriveServer, destination: GoogleDriveDestination, how: dict[str, Any], kept: int
) -> None:
    """It says so in the Range of its answer, or when it is asked; from there on everything is sent again."""
    server.drive.fail("chunk", keep=kept, **how)
    send(destination)
    assert is_whole(server, destination)


@pytest.mark.fault("T03")
@pytest.mark.parametrize("operation", UPLOADING)
@pytest.mark.parametrize("after", range(3))
def test_an_answer_that_is_lost_makes_no_second_file(
    server: DriveServer, destination: GoogleDriveDestination, operation: Any, after: int
) -> None:
    server.drive.fail(operation, cut="after", after=after)
    send(destination)
    assert {node for node in lies_in(server) if not node.startswith("upload ")} == {KEY}
    assert get(destination, KEY) == DATA
    folders = [node.name for node in server.drive.nodes.values() if node.kind == FOLDER]
    assert sorted(folders) == ["Backups", "prefect-backups", "shop"]


@pytest.mark.fault("T03", "O04")
@pytest.mark.parametrize("operation", ["chunk", "update", "list"])
def test_a_commit_that_failed_for_good_is_taken_up_by_its_token(
    server: DriveServer, destination: GoogleDriveDestination, operation: Any
) -> None:
    upload = destination.upload(KEY)
    upload.append(Segment.of(DATA))
    server.drive.fail(operation, cut="after", times=1)
    server.drive.fail("status", status=503, times=100)
    server.drive.fail(operation, status=503, times=100)
    with pytest.raises(DestinationUnavailable):
        upload.commit()
    server.drive.faults.clear()
    resumed = fresh(destination).upload(KEY, resume=upload.token)
    resumed.append(Segment.of(DATA))
    assert resumed.commit().size == len(DATA)
    assert is_whole(server, destination)


BUSY = [
    (429, "rateLimitExceeded"),
    (403, "userRateLimitExceeded"),
    (403, "rateLimitExceeded"),
    (500, "backendError"),
    (503, ""),
]


@pytest.mark.fault("T04")
@pytest.mark.parametrize(
    "call",
    reduced(
        [*itertools.product([*UPLOADING, "media", "get", "delete", "status"], BUSY)],
        *(("media", answer) for answer in BUSY),
        *((operation, BUSY[0]) for operation in [*UPLOADING, "get", "delete", "status"]),
    ),
)
def test_a_busy_server_is_waited_for_as_long_as_it_asks(
    server: DriveServer,
    destination: GoogleDriveDestination,
    pauses: list[float],
    call: tuple[Any, tuple[int, str]],
) -> None:
    operation, (status, reason) = call
    server.drive.fail(operation, status=status, reason=reason, headers={"Retry-After": "17"})
    server.drive.fail("chunk", cut="before")  # so that the status is asked for
    again = fresh(destination)
    send_and_read(again)
    assert is_whole(server, again)
    again.remove(KEY)
    assert lies_in(server) == set()
    assert max(pauses) == 17.0


@pytest.mark.fault("T04")
def test_a_date_in_retry_after_is_understood(
    server: DriveServer, destination: GoogleDriveDestination, pauses: list[float]
) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    server.drive.fail("list", status=503, headers={"Retry-After": moment})
    keys(destination)
    assert 80 < pauses[0] <= 90


@pytest.mark.fault("T04")
def test_a_server_that_wants_to_be_left_alone_for_an_hour_is_not_waited_for(
    server: DriveServer, destination: GoogleDriveDestination, pauses: list[float]
) -> None:
    server.drive.fail("list", status=429, reason="rateLimitExceeded", headers={"Retry-After": "3600"})
    with pytest.raises(DestinationUnavailable):
        keys(destination)
    assert pauses == []


@pytest.mark.fault("T04", "D02")
@pytest.mark.parametrize(("status", "reason"), BUSY)
def test_a_server_that_stays_busy_is_transient(
    server: DriveServer, destination: GoogleDriveDestination, pauses: list[float], status: int, reason: str
) -> None:
    server.drive.fail("chunk", status=status, reason=reason, times=1000)
    with pytest.raises(DestinationUnavailable) as caught:
        send(destination)
    assert isinstance(caught.value, Transient)
    assert len(pauses) == google_drive_api.TRIES - 1
    assert "750 GB a day" in caught.value.remedy or status >= 500
    assert lies_in(server) == set()


@pytest.mark.fault("T07")
def test_a_chunk_that_fails_for_good_leaves_nothing(server: DriveServer, destination: GoogleDriveDestination) -> None:
    server.drive.fail("chunk", status=400, reason="badRequest", times=1000, after=1)
    with pytest.raises(DestinationError) as caught:
        send(destination)
    assert not isinstance(caught.value, Transient)
    assert lies_in(server) == set()


@pytest.mark.fault("T08")
def test_a_file_with_fewer_bytes_than_were_sent_is_deleted_and_sent_again(
    server: DriveServer, destination: GoogleDriveDestination
) -> None:
    upload = destination.upload(KEY)
    upload.append(Segment.of(DATA))
    server.drive.fail("chunk", drop=1)
    with pytest.raises(ReadBackMismatch) as caught:
        upload.commit()
    assert isinstance(caught.value, Transient)
    assert lies_in(server) == set()
    with pytest.raises(NotFound):
        destination.upload(KEY, resume=upload.token)
    send(destination)
    assert is_whole(server, destination)


@pytest.mark.fault("T09", "T10")
def test_a_segment_that_cannot_be_read_to_its_end_is_the_spools_error_and_leaves_nothing(
    server: DriveServer, destination: GoogleDriveDestination, tmp_path: Path
) -> None:
    short = tmp_path / "000000.seg"
    short.write_bytes(DATA[: 2 * QUANTUM])
    for source in (short, tmp_path, tmp_path / "gone"):
        segment = Segment(0, 0, len(DATA), source)
        upload = destination.upload(KEY)
        with pytest.raises(SpoolError):
            upload.append(segment)
        upload.abort()
    assert lies_in(server) == set()


@pytest.mark.fault("T02", "X06")
@pytest.mark.parametrize("status", [404, 410])
def test_a_session_that_has_ended_is_transient_and_its_token_not_found(
    server: DriveServer, destination: GoogleDriveDestination, status: int
) -> None:
    upload = destination.upload(KEY)
    upload.append(Segment.of(DATA))
    server.drive.expire_sessions(status)
    with pytest.raises(DestinationUnavailable, match="session is over"):
        upload.commit()
    with pytest.raises(NotFound):
        destination.upload(KEY, resume=upload.token)
    upload.abort()
    assert lies_in(server) == set()


def test_bytes_that_google_had_and_lost_are_noticed(server: DriveServer, destination: GoogleDriveDestination) -> None:
    upload = destination.upload(KEY)
    upload.append(Segment.of(DATA))
    (session,) = server.drive.sessions.values()
    del session.data[QUANTUM:]
    server.drive.fail("chunk", status=500)
    with pytest.raises(DestinationUnavailable, match=f"lost {4 * QUANTUM} bytes"):
        upload.commit()
    assert destination.upload(KEY, resume=upload.token).offset == QUANTUM


@pytest.mark.law(10)
@pytest.mark.parametrize(
    "token",
    [
        *("", "x", "a b c", f"{KEY} id", f"{KEY} id https://evil.example/upload/drive/v3/files?upload_id=x"),
        f"{KEY} id {{url}}.evil.example/upload/drive/v3/files?upload_id=x",
        f"{KEY} id {{url}}@evil.example/upload/drive/v3/files",
        f"{OTHER} id {{url}}/upload/drive/v3/files?upload_id=x",
        f"{KEY} id https://www.googleapis.com.evil.example/upload/drive/v3/files?upload_id=x",
        f"{KEY} id https://evil.example#.googleapis.com/upload/drive/v3/files?upload_id=x",
        f"{KEY} id http://www.googleapis.com/upload/drive/v3/files?upload_id=x",
        f"{KEY} id https://www.googleapis.com/drive/v3/files/x",
    ],
)
def test_a_token_that_is_none_of_ours_is_not_found_and_nobody_is_asked(
    server: DriveServer, destination: GoogleDriveDestination, token: str
) -> None:
    before = len(server.drive.calls)
    with pytest.raises(NotFound):
        destination.upload(KEY, resume=token.replace("{url}", server.url))
    assert len(server.drive.calls) == before


# -- tokens and rights


@pytest.mark.fault("T05")
@pytest.mark.parametrize("operation", [*UPLOADING, "media", "get", "delete"])
def test_a_token_that_runs_out_is_renewed_once_and_the_work_goes_on(
    server: DriveServer, destination: GoogleDriveDestination, pauses: list[float], operation: Any
) -> None:
    again = fresh(destination)
    keys(again)
    before = server.drive.count("token")
    server.drive.fail(operation, status=401, reason="authError")
    send_and_read(again)
    again.remove(KEY)
    assert (server.drive.count("token"), pauses) == (before + 1, [])


@pytest.mark.fault("T05")
def test_a_token_that_is_refused_again_is_no_endless_loop(
    server: DriveServer, destination: GoogleDriveDestination
) -> None:
    before = server.drive.count("token")
    server.drive.fail("list", status=401, reason="authError", times=1000)
    with pytest.raises(AccessDenied):
        keys(destination)
    assert server.drive.count("token") == before + 1


@pytest.mark.fault("T05")
@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Invalid JWT: Token must be a short-lived token (60 minutes)", "clock"),
        ("Invalid grant: account not found", "new key"),
        ("Token has been expired or revoked.", "end after 7 days"),
    ],
)
def test_a_grant_that_is_refused_is_permanent_and_says_how_to_go_on(
    server: DriveServer, destination: GoogleDriveDestination, pauses: list[float], said: str, hint: str
) -> None:
    server.drive.expire_tokens()
    server.drive.accounts.revoked = said
    with pytest.raises(AccessDenied, match="invalid_grant") as caught:
        keys(destination)
    assert not isinstance(caught.value, Transient)
    assert hint in caught.value.remedy
    assert pauses == []


def test_a_token_server_that_fails_is_transient(
    server: DriveServer, destination: GoogleDriveDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", lambda _: None)
    server.drive.expire_tokens()
    server.drive.fail("token", status=503, times=1000)
    with pytest.raises(DestinationUnavailable, match="token server"):
        keys(destination)


@pytest.mark.fault("T06")
@pytest.mark.parametrize("role", ["reader", "fileOrganizer"])
def test_an_account_that_may_not_write_or_not_delete_fails_the_check(
    server: DriveServer, destination: GoogleDriveDestination, role: str
) -> None:
    (roles,) = server.drive.managers.values()
    roles.update(dict.fromkeys(roles, role))
    with pytest.raises(AccessDenied, match="insufficientFilePermissions") as caught:
        destination.check()
    assert "Manager of the Shared Drive" in caught.value.remedy


@pytest.mark.fault("T06")
def test_an_interface_that_is_not_enabled_says_so(server: DriveServer, destination: GoogleDriveDestination) -> None:
    server.drive.fail("list", status=403, reason="accessNotConfigured", times=1000)
    server.drive.fail("ids", status=403, reason="accessNotConfigured", times=1000)
    with pytest.raises(AccessDenied) as caught:
        destination.check()
    assert "Enable the Google Drive API" in caught.value.remedy


@pytest.mark.fault("D05", "T06", "T13")
@pytest.mark.parametrize("how", ["deleted", "in the bin", "unshared"])
def test_a_root_that_is_gone_is_an_error_and_no_empty_list(
    server: DriveServer, destination: GoogleDriveDestination, how: str
) -> None:
    send(destination)
    if how == "deleted":
        for node in [n for n in server.drive.nodes.values() if n.parents]:
            del server.drive.nodes[node.id]
    elif how == "in the bin":
        server.drive.nodes[destination.folder_id].trashed = True
    else:
        server.drive.managers[destination.shared_drive].clear()
    for again in (destination, fresh(destination)):
        for use in (lambda again: keys(again), lambda again: keys(again, "shop/"), send):
            with pytest.raises(DestinationError):
                use(again)
    assert len([n for n in server.drive.nodes.values() if n.kind == FOLDER]) == (1 if how == "deleted" else 3)


# -- limits


@pytest.mark.fault("D01", "D02")
def test_a_service_account_without_storage_is_told_what_to_use(server: DriveServer) -> None:
    service = server.drive.accounts.service_account("poor", CANARY)
    server.drive.limits[service.email] = 0
    folder = server.drive.add(
        "Given", server.drive.home("me@example.org"), "me@example.org", shared_with={service.email}
    )
    destination = GoogleDriveDestination(folder_id=folder.id, service_account_key=SecretStr(service.key))
    destination.prepare()
    with pytest.raises(NoSpace, match="do not have storage quota") as caught:
        destination.check()
    assert "Shared Drive" in caught.value.remedy
    assert "--impersonate" in caught.value.remedy
    assert destination.free_space() == 0


@pytest.mark.fault("D01", "D02")
@pytest.mark.parametrize("limit", [0, 2 * QUANTUM, len(DATA) - 1], ids=["at once", "under way", "at the end"])
def test_a_full_drive_is_no_space_and_leaves_nothing(
    server: DriveServer, destination: GoogleDriveDestination, limit: int
) -> None:
    client, secret = server.drive.accounts.client(CANARY)
    mine = GoogleDriveDestination(
        client_id=client,
        client_secret=SecretStr(secret),
        refresh_token=SecretStr(server.drive.accounts.authorise(client, "me@example.org")),
    )
    mine.prepare()
    server.drive.limits["me@example.org"] = limit
    with pytest.raises(NoSpace, match="storageQuotaExceeded") as caught:
        send(mine)
    assert not isinstance(caught.value, Transient)
    assert lies_in(server) == set()
    assert mine.free_space() == limit
    server.drive.limits["me@example.org"] = len(DATA)
    send(mine)
    assert is_whole(server, mine)
    assert mine.free_space() == 0
    del server.drive.limits["me@example.org"]
    assert mine.free_space() is None


@pytest.mark.fault("D02")
@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("teamDriveFileLimitExceeded", NoSpace),
        ("numChildrenInNonRootLimitExceeded", NoSpace),
        ("dailyLimitExceeded", DestinationUnavailable),
    ],
)
def test_other_limits_are_named(
    server: DriveServer, destination: GoogleDriveDestination, pauses: list[float], reason: str, kind: type[Exception]
) -> None:
    server.drive.fail("start", status=403, reason=reason)
    with pytest.raises(kind, match=reason):
        send(destination)
    assert pauses == []


# -- the way back


@pytest.mark.fault("T11")
def test_a_download_that_says_it_is_shorter_is_found_out(
    server: DriveServer, destination: GoogleDriveDestination, pauses: list[float]
) -> None:
    send(destination)
    server.drive.fail("media", drop=7, lie=True, times=1000)
    with pytest.raises(DestinationUnavailable, match="and it has"):
        get(destination, KEY)


@pytest.mark.fault("T11", "T02")
@pytest.mark.parametrize("offset", [0, 1000])
def test_a_download_that_breaks_is_taken_up_where_it_broke(
    server: DriveServer, destination: GoogleDriveDestination, pauses: list[float], offset: int
) -> None:
    send(destination)
    server.drive.fail("media", drop=len(DATA) // 2)
    server.drive.fail("media", status=503)
    server.drive.fail("media", drop=1)
    assert get(destination, KEY, offset) == DATA[offset:]
    assert server.drive.count("media") == 4
    assert len(pauses) == 3


@pytest.mark.fault("T11")
def test_a_download_that_never_gets_further_fails(server: DriveServer, destination: GoogleDriveDestination) -> None:
    send(destination)
    server.drive.fail("media", drop=1)
    server.drive.fail("media", cut="before", times=1000)
    with destination.open(KEY) as stream, pytest.raises(DestinationUnavailable):
        stream.read()


@pytest.mark.fault("T20")
def test_a_download_that_only_drips_is_given_up(
    server: DriveServer, destination: GoogleDriveDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(destination)
    monkeypatch.setattr(google_drive_read, "WINDOW", 0.1)
    server.drive.fail("media", drip=0.01, times=1000)
    with destination.open(KEY) as stream, pytest.raises(DestinationUnavailable, match="bytes came in"):
        stream.read()


@pytest.mark.fault("T12", "T08")
@pytest.mark.law(7)
def test_a_flipped_byte_in_a_download_is_found_where_google_has_no_digest(
    server: DriveServer, destination: GoogleDriveDestination
) -> None:
    send(destination)
    sent = Sum(len(DATA), hashlib.sha256(DATA).hexdigest())
    assert verify_object(destination, KEY, sent) == "server-digest"
    assert server.drive.count("media") == 0
    server.drive.checksums = False
    assert destination.digest(KEY) is None
    assert verify_object(destination, KEY, sent) == "read-back"
    server.drive.fail("media", flip=True)
    with pytest.raises(ReadBackMismatch):
        verify_object(destination, KEY, sent)
    assert verify_object(destination, KEY, sent) == "read-back"


@pytest.mark.fault("T12", "T08")
@pytest.mark.law(7)
def test_where_google_computed_an_md5_only_that_is_the_proof_and_where_we_have_none_it_is_read_back(
    server: DriveServer, destination: GoogleDriveDestination
) -> None:
    send(destination)
    sha256, md5 = hashlib.sha256(DATA).hexdigest(), hashlib.md5(DATA, usedforsecurity=False).hexdigest()
    server.drive.checksums = "md5"
    assert destination.digest(KEY) == Digest("md5", md5)
    assert verify_object(destination, KEY, Sum(len(DATA), sha256, md5=md5)) == "server-digest"
    assert server.drive.count("media") == 0
    assert verify_object(destination, KEY, Sum(len(DATA), sha256)) == "read-back"
    object_at(server).damage(bytes(len(DATA)))
    with pytest.raises(ReadBackMismatch):
        verify_object(fresh(destination), KEY, Sum(len(DATA), sha256, md5=md5))


def changed(change: Callable[[bytearray], Any]) -> bytes:
    data = bytearray(DATA)
    change(data)
    return bytes(data)


DAMAGE = {
    "first bit": changed(lambda data: data.__setitem__(0, data[0] ^ 1)),
    "middle bit": changed(lambda data: data.__setitem__(len(data) // 2, data[len(data) // 2] ^ 1)),
    "last bit": changed(lambda data: data.__setitem__(-1, data[-1] ^ 1)),
    "one byte less": DATA[:-1],
    "nothing left": b"",
    "a byte more": DATA + b"x",
}


@pytest.mark.fault("C01", "C02", "C03")
@pytest.mark.law(7)
@pytest.mark.parametrize("checksums", [True, False])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_at_rest_is_found(
    server: DriveServer, destination: GoogleDriveDestination, damage: str, checksums: bool
) -> None:
    send(destination)
    node = object_at(server)
    node.damage(DAMAGE[damage])
    server.drive.checksums = checksums
    again = fresh(destination)
    with pytest.raises(ReadBackMismatch):
        verify_object(again, KEY, Sum(len(DATA), hashlib.sha256(DATA).hexdigest()))


def test_what_google_takes_for_malware_is_read_all_the_same(
    server: DriveServer, destination: GoogleDriveDestination, caplog: pytest.LogCaptureFixture
) -> None:
    send(destination)
    server.drive.fail("media", status=403, reason="cannotDownloadAbusiveFile")
    assert get(destination, KEY) == DATA
    assert "malware" in caplog.text
    asked = [query.get("acknowledgeAbuse") for operation, query in server.drive.calls if operation == "media"]
    assert asked == [None, "true"]
    server.drive.fail("media", status=403, reason="cannotDownloadAbusiveFile", times=1000)
    with pytest.raises(AccessDenied, match="cannotDownloadAbusiveFile"):
        get(destination, KEY)


# -- lists


@pytest.mark.fault("T13")
@pytest.mark.parametrize(
    "how",
    [{"status": 500}, {"status": 400, "reason": "invalid"}, {"cut": "before"}, {"incomplete": True}],
    ids=["500", "400", "cut", "incompleteSearch"],
)
@pytest.mark.parametrize("page", [1, 2, 3])
def test_a_list_of_which_a_page_fails_is_an_error_and_never_a_part(
    server: DriveServer, destination: GoogleDriveDestination, how: dict[str, Any], page: int
) -> None:
    for number in range(5):
        plant_in(server, destination, f"shop/{number}")
    server.drive.page = 2
    assert len(keys(destination, "shop/")) == 5
    server.drive.fail("list", after=page, times=1000, **how)
    with pytest.raises(DestinationError):
        destination.list("shop/")


@pytest.mark.fault("T13")
def test_a_page_that_comes_at_the_second_try_is_part_of_the_list(
    server: DriveServer, destination: GoogleDriveDestination
) -> None:
    for number in range(5):
        plant_in(server, destination, f"shop/{number}")
    server.drive.page = 2
    server.drive.fail("list", after=2, status=503)
    assert len(keys(destination, "shop/")) == 5


@pytest.mark.fault("T14")
def test_a_commit_waits_until_google_lists_the_object(
    server: DriveServer, destination: GoogleDriveDestination, pauses: list[float]
) -> None:
    upload = destination.upload(KEY)
    upload.append(Segment.of(DATA))
    server.drive.fail("list", hide=True, after=1, times=3)  # after the look whether the name is free
    upload.commit()
    assert pauses
    assert is_whole(server, destination)


@pytest.mark.fault("T14")
def test_an_object_that_is_never_listed_is_no_success(server: DriveServer, destination: GoogleDriveDestination) -> None:
    upload = destination.upload(KEY)
    upload.append(Segment.of(DATA))
    fault = server.drive.fail("list", hide=True, after=1, times=1000)
    with pytest.raises(DestinationUnavailable, match="does not list"):
        upload.commit()
    fault.times = 0
    resumed = destination.upload(KEY, resume=upload.token)
    assert resumed.commit().size == len(DATA)
    assert is_whole(server, destination)


@pytest.mark.fault("T14")
def test_what_a_stale_list_still_has_is_not_found_when_it_is_read(
    server: DriveServer, destination: GoogleDriveDestination
) -> None:
    send(destination)
    assert keys(destination) == {KEY}
    fresh(destination).remove(KEY)
    for use in (destination.stat, destination.digest, lambda key: get(destination, key)):
        with pytest.raises(NotFound):
            use(KEY)


@pytest.mark.fault("D17")
def test_an_object_in_the_bin_is_not_there(server: DriveServer, destination: GoogleDriveDestination) -> None:
    send(destination)
    object_at(server).trashed = True
    for seen in (destination, fresh(destination)):
        assert keys(seen) == set()
        with pytest.raises(NotFound):
            seen.stat(KEY)
    put(destination, KEY, b"anew")
    destination.remove(KEY)
    assert [node.content for node in server.drive.nodes.values() if node.content is not None] == [DATA]


# -- TLS


@pytest.mark.fault("T17")
def test_a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_sent(
    destination: GoogleDriveDestination, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pauses: list[float]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    again = fresh(destination)
    with running_drive(context) as middle:
        taken_for_google(monkeypatch, middle)
        with pytest.raises(DestinationError, match=r"(?i)certificate") as caught:
            keys(again)
        assert not isinstance(caught.value, Transient)
        assert "proxy" in caught.value.remedy
        assert (middle.drive.calls, pauses) == ([], [])


def test_a_missing_file_of_certificates_is_told_and_not_retried(
    destination: GoogleDriveDestination, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    monkeypatch.setattr(google_drive_api, "ENDPOINT", "https://127.0.0.1:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    again = fresh(destination)
    again._connected().api.credentials.token = "x"
    with pytest.raises(DestinationError, match=r"/nowhere/ca\.pem") as caught:
        keys(again)
    assert not isinstance(caught.value, Transient)
    assert pauses == []


# -- secrets


@pytest.mark.law(10)
def test_no_error_tells_the_address_of_a_session_a_token_or_a_key(
    server: DriveServer, destination: GoogleDriveDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = destination.upload(KEY)
    session = next(iter(server.drive.sessions))
    destination._connected().api.timeout = (1.0, 0.2)
    texts = []
    for how in ({"hang": True}, {"cut": "before"}, {"status": 500}, {"status": 403, "reason": "forbidden"}):
        server.drive.faults.clear()
        for operation in ("chunk", "status", "list"):
            server.drive.fail(operation, times=1000, **how)  # type: ignore[arg-type]
        for use in (lambda: upload.append(Segment.of(DATA)), lambda: keys(destination)):
            with pytest.raises(DestinationError) as caught:
                use()
            texts.append("".join(traceback.format_exception(caught.value)))
    tokens = list(server.drive.accounts.tokens)
    assert len(texts) == 8
    for secret in (session, CANARY, *tokens, "PRIVATE KEY", "upload_id"):
        assert not [text for text in texts if secret in text]
