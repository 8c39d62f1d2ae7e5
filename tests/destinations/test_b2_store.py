"""A B2 destination and its store: what it refuses, what it keeps, what dead runs left, and what its ETag is worth."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from blocks.destinations.b2 import B2Destination
from blocks.destinations.b2_parts import MAX_PARTS
from tasks.run import Sum
from tasks.verify import verify_object
from tests.contract.destination import KEY, OTHER, cut, get, keys, put
from tests.contract.source import CANARY
from tests.destinations.b2 import PART, Place
from tests.peers.s3_proxy import lost, refuse
from vault.errors import (
    AccessDenied,
    AlreadyExists,
    ConfigError,
    DestinationError,
    DestinationUnavailable,
    KeptByLock,
    NoSpace,
    NotFound,
    Transient,
)
from vault.spool import Segment
from vault.store import Digest

ALWAYS = 1000
DAY = timedelta(days=1)


def send(place: Place, data: bytes, directory: Path, **fields: Any) -> B2Destination:
    """*data* as an object of several parts; the destination that has it."""
    destination = place.destination(**fields)
    upload = destination.upload(KEY)
    for segment in cut(data, PART, directory):
        upload.append(segment)
    upload.commit()
    return destination


# -- what is refused


@pytest.mark.law(10)
@pytest.mark.fault("T06")
@pytest.mark.parametrize("wrong", [{"secret_key": f"{CANARY}-wrong"}, {"key_id": "000nobody00000000000000001"}])
def test_a_key_that_the_store_does_not_take_is_denied_at_once_with_a_remedy(
    plain: Place, wrong: dict[str, str]
) -> None:
    destination = plain.destination(**wrong)
    for use in (destination.check, lambda: put(destination, KEY, b"x"), lambda: destination.list("")):
        with pytest.raises(AccessDenied) as caught:
            use()
        assert "key id" in caught.value.remedy
        assert not isinstance(caught.value, Transient)
        error: BaseException | None = caught.value
        while error is not None:
            assert CANARY not in f"{error!r} {error} {vars(error)}"
            error = error.__cause__
    assert len(plain.proxy.calls) == 3


@pytest.mark.fault("T06", "D03")
def test_a_key_that_may_only_read_fails_the_check_before_anything_is_dumped(versioned: Place) -> None:
    versioned.proxy.inject("PutObject", refuse(403, "AccessDenied", "not entitled"), ALWAYS)
    with pytest.raises(AccessDenied, match="not entitled"):
        versioned.destination().check()
    assert versioned.names == set()


@pytest.mark.fault("T06", "D05")
def test_a_bucket_that_is_missing_is_said_so_and_never_made(plain: Place) -> None:
    destination = plain.destination(bucket="no-such-bucket")
    for use in (
        destination.prepare,
        destination.check,
        lambda: destination.list(""),
        lambda: destination.stat(KEY),
        lambda: get(destination, KEY),
        lambda: put(destination, KEY, b"x"),
    ):
        with pytest.raises(DestinationError, match=r"no-such-bucket.*[Bb]ucket") as caught:
            use()
        assert not isinstance(caught.value, NotFound | Transient)
    names = [bucket["Name"] for bucket in plain.server.client.list_buckets()["Buckets"]]
    assert "no-such-bucket" not in names


@pytest.mark.fault("D01", "D02")
@pytest.mark.parametrize(
    "answer",
    [
        (403, "AccessDenied", "Cannot upload files, storage cap exceeded. See the Caps &amp; Alerts page."),
        (403, "QuotaExceeded", "Your quota is used up"),
        (507, "XMinioStorageFull", "Storage backend has reached its minimum free drive threshold."),
    ],
    ids=["b2", "quota", "minio"],
)
@pytest.mark.parametrize("operation", ["PutObject", "UploadPart", "CompleteMultipartUpload"])
def test_a_store_that_is_full_says_no_space_and_keeps_nothing(
    versioned: Place, waits: list[float], tmp_path: Path, operation: str, answer: tuple[int, str, str]
) -> None:
    versioned.proxy.inject(operation, refuse(*answer), ALWAYS, when=lambda call: call.part != 1)
    upload = versioned.destination().upload(KEY)
    segments = cut(os.urandom(100 if operation == "PutObject" else 2 * PART), PART, tmp_path)

    def store() -> None:
        for segment in segments:
            upload.append(segment)
        upload.commit()

    with pytest.raises(NoSpace, match=r"(?i)cap exceeded|quota|free drive") as caught:
        store()
    assert "quota" in caught.value.remedy
    upload.abort()
    assert versioned.names == set()


@pytest.mark.fault("Z02")
def test_a_clock_that_is_wrong_is_called_by_its_name(versioned: Place) -> None:
    text = "The difference between the request time and the current time is too large."
    versioned.proxy.inject("ListObjectsV2", refuse(403, "RequestTimeTooSkewed", text), ALWAYS)
    with pytest.raises(DestinationError, match="RequestTimeTooSkewed") as caught:
        versioned.destination().list("")
    assert "clock" in caught.value.remedy
    assert not isinstance(caught.value, Transient)


def test_an_error_that_nobody_foresaw_is_permanent_and_keeps_its_cause(versioned: Place) -> None:
    versioned.proxy.inject("ListObjectsV2", refuse(418, "Teapot", "short&#10;and ‮stout"), ALWAYS)
    with pytest.raises(DestinationError, match=r"Teapot: short\\nand \\u202estout") as caught:
        versioned.destination().list("")
    assert type(caught.value) is DestinationError
    assert caught.value.__cause__ is not None


# -- nothing is replaced


@pytest.mark.law(11)
@pytest.mark.fault("D06")
@pytest.mark.parametrize("size", [100, PART + 100], ids=["put", "complete"])
def test_a_key_that_is_taken_between_question_and_answer_is_not_replaced_where_the_store_can_tell(
    moto_plain: Place, tmp_path: Path, size: int
) -> None:
    destination = moto_plain.destination(provider="aws")
    upload = destination.upload(KEY)
    for segment in cut(os.urandom(size), PART, tmp_path):
        upload.append(segment)
    moto_plain.proxy.inject("HeadObject", refuse(404, "NotFound"))
    moto_plain.server.client.put_object(Bucket=moto_plain.bucket, Key=KEY, Body=b"theirs")
    with pytest.raises(AlreadyExists):
        upload.commit()
    upload.abort()
    assert get(destination, KEY) == b"theirs"
    assert moto_plain.names == {KEY}


@pytest.mark.fault("D06")
def test_a_store_that_refuses_the_condition_is_asked_without(moto_plain: Place) -> None:
    moto_plain.proxy.inject(
        "PutObject", refuse(501, "NotImplemented"), when=lambda call: "if-none-match" in call.headers
    )
    put(moto_plain.destination(provider="minio"), KEY, b"data")
    assert moto_plain.proxy.count("PutObject") == 2


@pytest.mark.fault("D06")
def test_the_same_bytes_in_other_parts_are_the_same_object(versioned: Place, tmp_path: Path) -> None:
    data = os.urandom(2 * PART + 100)
    destination = versioned.destination()
    send(versioned, data, tmp_path)
    again = destination.upload(KEY)
    for segment in cut(data, PART + 50, tmp_path):
        again.append(segment)
    assert again.commit().size == len(data)
    assert versioned.names == {KEY}
    other = destination.upload(KEY)
    for segment in cut(data[:-1] + bytes([data[-1] ^ 1]), PART, tmp_path):
        other.append(segment)
    with pytest.raises(AlreadyExists):
        other.commit()


# -- parts


def test_parts_that_end_in_any_order_become_the_object(versioned: Place, tmp_path: Path) -> None:
    data = os.urandom(6 * PART + 1000)
    segments = cut(data, PART, tmp_path)
    destination = versioned.destination()
    assert destination.parallel == 4
    upload = destination.upload(KEY)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upload.append, reversed(segments)))
    assert upload.offset == 6 * PART
    upload.commit()
    assert get(destination, KEY) == data
    assert versioned.proxy.count("CreateMultipartUpload") == 1


def test_small_segments_that_come_in_any_order_are_joined(plain: Place, tmp_path: Path) -> None:
    data = os.urandom(PART + 1_000_000)
    segments = cut(data, 500_000, tmp_path)
    destination = plain.destination()
    upload = destination.upload(KEY)
    for first in range(0, len(segments), 3):
        for segment in reversed(segments[first : first + 3]):
            upload.append(segment)
    upload.commit()
    assert get(destination, KEY) == data
    assert plain.proxy.count("UploadPart") == 2


def test_what_was_never_sent_is_missed_at_commit(plain: Place, tmp_path: Path) -> None:
    segments = cut(os.urandom(3 * PART), PART, tmp_path)
    upload = plain.destination().upload(KEY)
    for segment in (segments[0], segments[2]):
        upload.append(segment)
    with pytest.raises(DestinationError, match="missing"):
        upload.commit()
    small = plain.destination().upload(OTHER)
    small.append(Segment.of(b"small"))
    with pytest.raises(DestinationError, match="came before smaller ones"):
        small.append(segments[1])
    upload.abort()


def test_more_parts_than_s3_takes_are_refused_with_what_to_do(plain: Place) -> None:
    upload = plain.destination().upload(KEY)
    with pytest.raises(DestinationError, match="more than 10000 parts") as caught:
        upload.append(Segment.of(bytes(PART), MAX_PARTS, MAX_PARTS * PART))
    assert "BACKUPS_SPOOL_LIMIT" in caught.value.remedy
    assert plain.proxy.calls == []


@pytest.mark.fault("X06")
def test_an_upload_whose_parts_the_store_dropped_meanwhile_fails_and_commits_nothing(
    plain: Place, tmp_path: Path
) -> None:
    segments = cut(os.urandom(3 * PART), PART, tmp_path)
    direct = plain.server.endpoint  # its refusal comes before the body was sent: our proxy cannot pass that on
    destination = plain.destination(endpoint=direct)
    upload = destination.upload(KEY)
    for segment in segments[:2]:
        upload.append(segment)
    address = {"Bucket": plain.bucket, "Key": KEY, "UploadId": upload.token.partition(":")[2]}
    plain.server.client.abort_multipart_upload(**address)
    with pytest.raises(NotFound):
        upload.append(segments[2])
    with pytest.raises(NotFound):
        destination.upload(KEY, resume=upload.token)
    with pytest.raises(DestinationError):
        upload.commit()
    whole = destination.upload(KEY)
    for segment in segments:
        whole.append(segment)
    address["UploadId"] = whole.token.partition(":")[2]
    plain.server.client.abort_multipart_upload(**address)
    with pytest.raises(NotFound, match="parts are gone"):
        whole.commit()
    assert plain.names == set()


# -- what the ETag is worth


@pytest.mark.law(7)
@pytest.mark.fault("D13")
def test_an_etag_that_the_store_made_of_md5s_is_proof_without_a_download(versioned: Place, tmp_path: Path) -> None:
    data = os.urandom(2 * PART + 100)
    destination = send(versioned, data, tmp_path)
    md5s = tuple(md5(data[at : at + PART]) for at in range(0, len(data), PART))
    expected = Sum(len(data), hashlib.sha256(data).hexdigest(), md5s)
    assert destination.wants_md5
    assert verify_object(destination, KEY, expected) == "server-digest"
    assert versioned.proxy.count("GetObject") == 0
    put(destination, OTHER, b"small")
    assert destination.digest(OTHER) == Digest("etag", md5(b"small"))


@pytest.mark.law(7)
@pytest.mark.fault("D13")
def test_an_etag_that_means_something_else_is_no_proof_and_no_failure(plain: Place, tmp_path: Path) -> None:
    data = os.urandom(PART + 100)
    destination = send(plain, data, tmp_path)  # rclone gives the MD5 of the whole, whatever the parts were
    expected = Sum(len(data), hashlib.sha256(data).hexdigest(), (md5(data[:PART]), md5(data[PART:])))
    assert verify_object(destination, KEY, expected) == "read-back"
    other = plain.destination(provider="other")
    assert (other.wants_md5, other.digest(KEY)) == (False, None)


@pytest.mark.fault("D13")
def test_an_etag_under_a_key_of_kms_is_no_digest(moto_plain: Place) -> None:
    destination = moto_plain.destination(provider="aws")
    moto_plain.server.client.put_object(
        Bucket=moto_plain.bucket, Key=KEY, Body=b"x", ServerSideEncryption="aws:kms", SSEKMSKeyId="1"
    )
    assert destination.digest(KEY) is None


# -- versions and locks


@pytest.mark.fault("D17", "D19")
def test_removed_is_every_version_and_every_marker_and_nothing_else(versioned: Place) -> None:
    client, bucket = versioned.server.client, versioned.bucket
    destination = versioned.destination()
    put(destination, KEY, b"first")
    client.delete_object(Bucket=bucket, Key=KEY)  # as `b2 hide` does
    client.put_object(Bucket=bucket, Key=KEY, Body=b"second")
    client.put_object(Bucket=bucket, Key=KEY, Body=b"third")
    longer = f"{KEY}.age"
    put(destination, longer, b"x")
    destination.remove(KEY)
    assert versioned.names == {longer}
    assert keys(destination) == {longer}
    client.delete_object(Bucket=bucket, Key=OTHER)  # only a marker, over nothing
    destination.remove(OTHER)
    assert versioned.names == {longer}


@pytest.mark.fault("D19")
def test_a_version_that_somebody_else_deletes_first_is_gone_too(versioned: Place) -> None:
    destination = versioned.destination()
    put(destination, KEY, b"x")
    versioned.proxy.inject("DeleteObject", refuse(404, "NoSuchKey"))
    destination.remove(KEY)


@pytest.mark.fault("D16")
def test_what_a_lock_keeps_is_reported_with_its_end_and_stays_in_sight(locked: Place, tmp_path: Path) -> None:
    data = os.urandom(PART + 100)
    destination = send(locked, data, tmp_path, object_lock_days=30)
    put(destination, OTHER, b"small")
    end, until = datetime.now(UTC) + 30 * DAY, f"{datetime.now(UTC) + 30 * DAY:%Y-%m-%d}"
    making = [call for call in locked.proxy.calls if call.operation in ("CreateMultipartUpload", "PutObject")]
    assert [call.headers["x-amz-object-lock-mode"] for call in making] == ["COMPLIANCE", "COMPLIANCE"]
    assert all(call.headers["x-amz-object-lock-retain-until-date"].startswith(until) for call in making)
    retention = {"Mode": "COMPLIANCE", "RetainUntilDate": end}
    # moto forgets it of a multipart upload.
    locked.server.client.put_object_retention(Bucket=locked.bucket, Key=KEY, Retention=retention)
    assert f"{destination.kept_until(OTHER):%Y-%m-%d}" == until
    assert destination.kept_until("shop/nothing") is None
    del locked.proxy.calls[:]
    for key in (KEY, OTHER):
        with pytest.raises(KeptByLock, match=f"kept by its object lock until {until}") as caught:
            destination.remove(key)
        assert isinstance(caught.value, AccessDenied)
        assert not isinstance(caught.value, Transient)
    assert locked.proxy.count("DeleteObject") == 2
    assert keys(destination) == {KEY, OTHER}
    assert get(destination, KEY) == data


@pytest.mark.fault("D16")
def test_what_is_on_hold_is_reported_as_that(locked: Place) -> None:
    destination = locked.destination()
    put(destination, KEY, b"x")
    locked.server.client.put_object_legal_hold(Bucket=locked.bucket, Key=KEY, LegalHold={"Status": "ON"})
    with pytest.raises(KeptByLock, match="legal hold"):
        destination.remove(KEY)
    locked.proxy.inject("DeleteObject", refuse(400, "InvalidRequest", "Object is WORM protected"))
    locked.proxy.inject("HeadObject", refuse(403, "AccessDenied"))
    with pytest.raises(KeptByLock, match="WORM protected"):
        destination.remove(KEY)


@pytest.mark.fault("D16")
def test_a_key_that_may_not_delete_is_denied(versioned: Place) -> None:
    destination = versioned.destination()
    put(destination, KEY, b"x")
    versioned.proxy.inject("DeleteObject", refuse(403, "AccessDenied", "not entitled"), ALWAYS)
    with pytest.raises(AccessDenied, match="not entitled") as caught:
        destination.remove(KEY)
    assert not isinstance(caught.value, KeptByLock)
    assert versioned.proxy.count("DeleteObject") == 1


@pytest.mark.fault("D16")
def test_a_bucket_that_locks_whatever_is_written_passes_the_check_and_its_probe_is_hidden(locked: Place) -> None:
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    locked.server.client.put_object_lock_configuration(
        Bucket=locked.bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    destination = locked.destination()
    destination.check()
    assert keys(destination) == set()
    (probe,) = locked.names
    assert probe.startswith("probe/")
    assert destination.clean(datetime.now(UTC)) == ()
    assert destination.clean(datetime.now(UTC) + 25 * DAY) == ()  # what the lock keeps waits for its end
    assert locked.names == {probe}


def test_a_lock_that_the_bucket_cannot_have_fails_the_check(plain: Place, versioned: Place) -> None:
    for place in (plain, versioned):
        with pytest.raises(ConfigError, match="has no object lock"):
            place.destination(object_lock_days=1).check()


# -- what dead runs left


@pytest.mark.fault("D07", "D08", "T07")
def test_cleaned_are_uploads_of_ours_that_nobody_goes_on_with(versioned: Place, tmp_path: Path) -> None:
    """moto says of every upload that it began in 2010, and of parts when they came."""
    client, bucket = versioned.server.client, versioned.bucket
    destination = versioned.destination(prefix="office")
    alive = destination.upload(KEY)
    alive.append(Segment.of(bytes(PART)))
    client.create_multipart_upload(Bucket=bucket, Key=f"office/{OTHER}")  # one that never got a part
    foreign = ["office/Photos/x", OTHER, "office-2/shop/x"]
    for name in foreign:
        client.create_multipart_upload(Bucket=bucket, Key=name)
    now = datetime.now(UTC)
    assert destination.clean(now) == (OTHER,)
    assert versioned.names == {f"office/{KEY}", *foreign}
    assert destination.clean(now + 25 * timedelta(hours=1)) == (KEY,)
    assert destination.clean(now + 25 * timedelta(hours=1)) == ()
    assert versioned.names == {*foreign}


@pytest.mark.fault("D07")
def test_cleaned_is_nothing_that_is_young(plain: Place) -> None:
    destination = plain.destination()
    upload = destination.upload(KEY)
    upload.append(Segment.of(bytes(PART)))
    assert destination.clean(datetime.now(UTC)) == ()
    assert destination.clean(datetime.now(UTC) + 25 * timedelta(hours=1)) == (KEY,)
    assert plain.names == set()
    assert destination.clean(datetime.now(UTC)) == ()


def test_cleaned_are_probes_of_a_check_that_was_killed(plain: Place, versioned: Place) -> None:
    probe = "probe/0123456789abcdef.probe"
    for place in (plain, versioned):
        destination = place.destination()
        put(destination, probe, b"x")
        put(destination, "probe/20261123T030000Z-full-3f9a2c.json", b"of an app with that name")
        assert destination.clean(datetime.now(UTC)) == ()
        assert destination.clean(datetime.now(UTC) + 2 * DAY) == (probe,)
        assert len(keys(destination)) == 1


# -- a step that is tried again


@pytest.mark.fault("T03")
def test_an_upload_that_began_twice_since_its_answer_was_lost_is_cleaned_later(
    versioned: Place, waits: list[float]
) -> None:
    versioned.proxy.inject("CreateMultipartUpload", lost)
    destination = versioned.destination()
    upload = destination.upload(KEY)
    upload.append(Segment.of(bytes(PART)))
    upload.commit()
    assert versioned.server.uploads(versioned.bucket) == [KEY]
    assert destination.clean(datetime.now(UTC)) == (KEY,)
    assert versioned.names == {KEY}


def test_an_abort_that_fails_is_told_and_may_be_tried_again(versioned: Place, waits: list[float]) -> None:
    upload = versioned.destination().upload(KEY)
    upload.append(Segment.of(bytes(PART)))
    versioned.proxy.inject("AbortMultipartUpload", refuse(503, "SlowDown"), 4)
    with pytest.raises(DestinationUnavailable):
        upload.abort()
    upload.abort()
    assert versioned.names == set()
    with suppress(NotFound):
        upload.append(Segment.of(bytes(PART), 1, PART))
    assert versioned.names == set()


def md5(data: bytes) -> str:
    """As S3 has it."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
