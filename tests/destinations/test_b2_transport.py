"""A B2 destination and the way to it: what breaks, what is lost, what changes, and who is at the other end."""

from __future__ import annotations

import hashlib
import os
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from blocks.destinations import b2_body, b2_store
from blocks.destinations.b2 import B2Destination
from cli.api import free_port
from tasks.run import Sum
from tasks.verify import verify_object
from tests.contract.destination import KEY, OTHER, cut, get, keys, put
from tests.destinations.b2 import PART, Place
from tests.peers.s3 import KEY_ID, SECRET, running_rclone
from tests.peers.s3_proxy import (
    Answer,
    Call,
    Store,
    flipped_body,
    flipped_upload,
    lost,
    refuse,
    reset,
    short_body,
    short_store,
    trickling,
)
from vault.errors import (
    AccessDenied,
    ConfigError,
    DestinationError,
    DestinationUnavailable,
    NotFound,
    ReadBackMismatch,
    SpoolError,
    Transient,
)
from vault.spool import Segment

ALWAYS = 1000


# -- there is nobody, or it does not answer


@pytest.mark.fault("T01")
@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:{port}", "https://no-such-store.invalid"])
def test_a_store_that_is_not_there_is_unavailable_after_a_few_tries(endpoint: str, waits: list[float]) -> None:
    place = B2Destination(bucket="bucket", endpoint=endpoint.format(port=free_port()), key_id=KEY_ID, secret_key=SECRET)
    with pytest.raises(DestinationUnavailable, match="Could not connect"):
        place.check()
    assert len(waits) == 3


@pytest.mark.fault("T20", "T01")
def test_a_store_that_falls_silent_is_unavailable(
    plain: Place, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def silent(_call: Call, body: bytes, store: Store) -> Answer:
        ended.wait(30)
        return store(body)

    monkeypatch.setattr(b2_store, "READ_TIMEOUT", 0.2)
    destination = plain.destination()
    plain.proxy.inject("ListObjectsV2", silent, ALWAYS)
    try:
        with pytest.raises(DestinationUnavailable, match="timeout"):
            keys(destination)
    finally:
        ended.set()
    assert len(waits) == 3


@pytest.mark.fault("T04")
@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (429, "TooManyRequests"), (500, "InternalError")])
def test_a_store_that_asks_for_time_gets_it(plain: Place, waits: list[float], status: int, code: str) -> None:
    destination = plain.destination()
    for operation in ("PutObject", "HeadObject", "ListObjectsV2", "GetObject"):
        plain.proxy.inject(operation, refuse(status, code, Retry_After="7"), 2)
    put(destination, KEY, b"data")
    assert keys(destination) == {KEY}
    assert get(destination, KEY) == b"data"
    assert waits == [7.0] * 8


@pytest.mark.fault("T04")
def test_a_store_that_asks_for_more_time_than_a_call_has_is_left_to_the_retries_of_the_step(
    plain: Place, waits: list[float]
) -> None:
    plain.proxy.inject("ListObjectsV2", refuse(503, "SlowDown", Retry_After="3600"), ALWAYS)
    with pytest.raises(DestinationUnavailable, match="SlowDown"):
        keys(plain.destination())
    assert (waits, plain.proxy.count("ListObjectsV2")) == ([], 1)


@pytest.mark.fault("T04")
def test_a_store_that_stays_busy_is_unavailable_after_a_few_tries(plain: Place, waits: list[float]) -> None:
    plain.proxy.inject("*", refuse(429, "TooManyRequests"), ALWAYS)
    with pytest.raises(DestinationUnavailable):
        keys(plain.destination())
    assert plain.proxy.count("ListObjectsV2") == 4
    assert all(wait <= 8 for wait in waits)


# -- while something is sent


@pytest.mark.law(2)
@pytest.mark.fault("T02")
def test_an_upload_that_breaks_is_resumed_with_the_parts_that_the_store_has(
    versioned: Place, waits: list[float], tmp_path: Path
) -> None:
    data = os.urandom(3 * PART + 100)
    segments = cut(data, PART, tmp_path)
    destination = versioned.destination()
    upload = destination.upload(KEY)
    upload.append(segments[0])
    versioned.proxy.inject("UploadPart", reset, 4, when=lambda call: call.part == 2)
    with pytest.raises(DestinationUnavailable):
        upload.append(segments[1])
    upload.append(segments[2])  # by another thread, meanwhile
    assert (upload.offset, keys(destination)) == (PART, set())
    resumed = versioned.destination().upload(KEY, resume=upload.token)
    assert resumed.offset == PART
    for segment in segments[1:]:
        resumed.append(segment)
    assert resumed.commit().size == len(data)
    assert get(destination, KEY) == data
    sent = [call.part for call in versioned.proxy.calls if call.operation == "UploadPart"]
    assert sent == [1, 2, 2, 2, 2, 3, 2, 4]


@pytest.mark.fault("T02")
def test_bytes_that_change_on_the_way_are_refused_by_the_store_and_sent_again(versioned: Place, tmp_path: Path) -> None:
    segments = cut(os.urandom(2 * PART), PART, tmp_path)
    upload = versioned.destination().upload(KEY)
    versioned.proxy.inject("UploadPart", flipped_upload)
    with pytest.raises(DestinationUnavailable, match="BadDigest"):
        upload.append(segments[0])
    for segment in segments:
        upload.append(segment)
    assert upload.commit().size == 2 * PART


@pytest.mark.fault("T03", "O04")
@pytest.mark.parametrize("size", [100, PART + 100], ids=["put", "complete"])
def test_a_commit_whose_answer_is_lost_makes_one_object_with_one_version(
    versioned: Place, waits: list[float], tmp_path: Path, size: int
) -> None:
    data = os.urandom(size)
    versioned.proxy.inject("PutObject", lost)
    versioned.proxy.inject("CompleteMultipartUpload", lost)
    upload = versioned.destination().upload(KEY)
    for segment in cut(data, PART, tmp_path):
        upload.append(segment)
    assert upload.commit().size == size
    assert get(versioned.destination(), KEY) == data
    assert [name for name, _ in versioned.server.versions(versioned.bucket)] == [KEY]
    assert versioned.server.uploads(versioned.bucket) == []


@pytest.mark.fault("T03", "O04")
@pytest.mark.parametrize("size", [100, PART + 100], ids=["put", "complete"])
def test_a_commit_that_nobody_heard_of_is_found_by_its_token(
    versioned: Place, waits: list[float], tmp_path: Path, size: int
) -> None:
    segments = cut(os.urandom(size), PART, tmp_path)
    upload = versioned.destination().upload(KEY)
    for segment in segments:
        upload.append(segment)
    for operation in ("PutObject", "CompleteMultipartUpload"):
        versioned.proxy.inject(operation, lost)
        versioned.proxy.inject(operation, reset, ALWAYS)
    versioned.proxy.inject(
        "HeadObject", reset, ALWAYS, when=lambda _: KEY in versioned.server.objects(versioned.bucket)
    )
    with pytest.raises(DestinationUnavailable):
        upload.commit()
    versioned.proxy.heal()
    resumed = versioned.destination().upload(KEY, resume=upload.token)
    for segment in segments:
        resumed.append(segment)
    assert resumed.commit().size == size
    assert [name for name, _ in versioned.server.versions(versioned.bucket)] == [KEY]


@pytest.mark.fault("T03")
def test_a_put_whose_answer_is_lost_and_that_the_store_never_saw_is_made_again(
    versioned: Place, waits: list[float]
) -> None:
    versioned.proxy.inject("PutObject", reset, 2)
    put(versioned.destination(), KEY, b"data")
    assert [name for name, _ in versioned.server.versions(versioned.bucket)] == [KEY]
    versioned.proxy.inject("PutObject", reset, ALWAYS)
    with pytest.raises(DestinationUnavailable):
        put(versioned.destination(), OTHER, b"data")


@pytest.mark.law(2)
@pytest.mark.fault("T07")
def test_a_part_that_fails_for_good_leaves_no_object_and_no_parts(versioned: Place, tmp_path: Path) -> None:
    segments = cut(os.urandom(7 * PART), PART, tmp_path)
    destination = versioned.destination()
    upload = destination.upload(KEY)
    versioned.proxy.inject("UploadPart", refuse(403, "AccessDenied"), ALWAYS, when=lambda call: call.part == 7)
    for segment in segments[:6]:
        upload.append(segment)
    with pytest.raises(AccessDenied):
        upload.append(segments[6])
    with pytest.raises(DestinationError, match=f"bytes {6 * PART} to {7 * PART} are missing"):
        upload.commit()
    assert versioned.server.uploads(versioned.bucket) == [KEY]
    upload.abort()
    assert versioned.names == set()
    assert versioned.proxy.count("UploadPart") == 7


@pytest.mark.law(7)
@pytest.mark.fault("T08")
@pytest.mark.parametrize("operation", ["PutObject", "UploadPart"])
def test_a_store_that_takes_less_than_it_was_given_is_found_out_and_the_object_removed(
    versioned: Place, tmp_path: Path, operation: str
) -> None:
    data = os.urandom(100 if operation == "PutObject" else 2 * PART)
    versioned.proxy.inject(operation, short_store, when=lambda call: call.part in (0, 2))
    destination = versioned.destination()
    upload = destination.upload(KEY)
    for segment in cut(data, PART, tmp_path):
        upload.append(segment)
    with pytest.raises(ReadBackMismatch, match=f"took {len(data)} bytes and has {len(data) - 1}"):
        upload.commit()
    assert versioned.names == set()
    put(destination, KEY, data)
    assert get(destination, KEY) == data


@pytest.mark.fault("T09", "T10")
@pytest.mark.parametrize("harm", ["truncated", "gone"])
def test_a_segment_that_is_short_or_gone_is_the_spools_error_and_makes_no_object(
    versioned: Place, tmp_path: Path, harm: str
) -> None:
    path = tmp_path / "000001.seg"
    path.write_bytes(os.urandom(PART))
    segment = Segment(1, PART, PART, path)
    upload = versioned.destination().upload(KEY)
    upload.append(Segment.of(os.urandom(PART)))
    os.truncate(path, PART - 1) if harm == "truncated" else path.unlink()
    with pytest.raises(SpoolError):
        upload.append(segment)
    with pytest.raises(DestinationError, match="missing"):
        upload.commit()
    upload.abort()
    assert versioned.names == set()


@pytest.mark.fault("T10")
def test_a_segment_that_breaks_while_it_is_sent_is_the_spools_error(versioned: Place, tmp_path: Path) -> None:
    path = tmp_path / "000000.seg"
    path.write_bytes(os.urandom(PART))
    destination = versioned.destination()
    upload = destination.upload(KEY)

    def truncate(**_: object) -> None:  # when its MD5 was taken, and of its bytes none was sent yet
        os.truncate(path, PART // 2)

    destination._place.client.meta.events.register("before-send.s3.UploadPart", truncate)
    with pytest.raises(SpoolError, match="shorter"):
        upload.append(Segment(0, 0, PART, path))
    upload.abort()
    assert versioned.names == set()


# -- while something is read


@pytest.mark.fault("T11", "T02")
def test_a_download_that_breaks_goes_on_where_it_broke(plain: Place) -> None:
    data = os.urandom(3_000_000)
    destination = plain.destination()
    put(destination, KEY, data)
    plain.proxy.inject("GetObject", short_body, 2)
    assert get(destination, KEY) == data
    asked = [call.headers["range"] for call in plain.proxy.calls if call.operation == "GetObject"]
    assert asked == ["bytes=0-", "bytes=1500000-", "bytes=2250000-"]


@pytest.mark.fault("T11")
def test_a_download_that_is_always_short_is_unavailable(plain: Place) -> None:
    destination = plain.destination()
    put(destination, KEY, b"0123456789")
    plain.proxy.inject("GetObject", lambda *_: Answer(206, [("ETag", '"x"')], b"", 10), ALWAYS)
    with pytest.raises(DestinationUnavailable):
        get(destination, KEY)


@pytest.mark.fault("T11")
def test_an_object_that_is_exchanged_while_it_is_read_is_never_read_mixed(versioned: Place) -> None:
    destination = versioned.destination()
    put(destination, KEY, b"0123456789")
    versioned.proxy.inject("GetObject", short_body)
    with destination.open(KEY) as stream:
        versioned.server.client.put_object(Bucket=versioned.bucket, Key=KEY, Body=b"abcdefghij")
        with pytest.raises(DestinationError, match="exchanged"):
            stream.read()


@pytest.mark.law(7)
@pytest.mark.fault("T12")
def test_a_bit_that_flips_on_the_way_back_fails_the_verification(plain: Place) -> None:
    data = os.urandom(300_000)
    destination = plain.destination(provider="other")
    put(destination, KEY, data)
    expected = Sum(len(data), hashlib.sha256(data).hexdigest())
    plain.proxy.inject("GetObject", flipped_body)
    with pytest.raises(ReadBackMismatch):
        verify_object(destination, KEY, expected)
    assert verify_object(destination, KEY, expected) == "read-back"


@pytest.mark.law(4)
@pytest.mark.fault("T13")
def test_a_listing_whose_second_page_fails_fails_whole(plain: Place, waits: list[float]) -> None:
    assert plain.server.root is not None
    (plain.server.root / plain.bucket / "shop").mkdir()
    for number in range(1001):
        (plain.server.root / plain.bucket / f"shop/{number:04}").write_bytes(b"x")
    destination = plain.destination()
    assert len(keys(destination, "shop/")) == 1001
    assert plain.proxy.count("ListObjectsV2") == 2
    for fault in (refuse(503, "SlowDown"), reset, refuse(403, "AccessDenied")):
        plain.proxy.inject("ListObjectsV2", fault, ALWAYS, when=lambda call: "continuation-token" in call.query)
        with pytest.raises(DestinationError):
            destination.list("shop/")
        plain.proxy.heal()


@pytest.mark.fault("T14")
def test_what_a_stale_listing_misses_is_still_found_by_its_key(versioned: Place) -> None:
    destination = versioned.destination()
    before = versioned.server.client.list_objects_v2(Bucket=versioned.bucket)
    assert "Contents" not in before
    put(destination, KEY, b"data")
    empty = b"<ListBucketResult><Name>x</Name><IsTruncated>false</IsTruncated></ListBucketResult>"
    versioned.proxy.inject("ListObjectsV2", lambda *_: Answer(200, [], empty))
    assert keys(destination) == set()
    assert destination.stat(KEY).size == 4
    assert get(destination, KEY) == b"data"


# -- who is at the other end


@pytest.mark.fault("T17")
def test_a_certificate_that_nobody_vouches_for_is_refused_and_one_of_a_named_authority_taken(
    tmp_path: Path, waits: list[float]
) -> None:
    certificate, key = self_signed(tmp_path)
    with running_rclone("--cert", str(certificate), "--key", str(key)) as server:
        bucket = server.new_bucket()
        given = {"bucket": bucket, "endpoint": server.endpoint, "key_id": KEY_ID, "secret_key": SECRET}
        with pytest.raises(DestinationError, match="TLS connection is refused") as caught:
            B2Destination(**given).check()
        assert not isinstance(caught.value, Transient)
        assert "ca_file" in caught.value.remedy
        assert waits == []
        with pytest.raises(ConfigError, match="is not there"):
            B2Destination(**given, ca_file=str(tmp_path / "none")).check()
        B2Destination(**given, ca_file=str(certificate)).check()


@pytest.mark.fault("T17")
def test_a_store_that_speaks_no_tls_is_refused(plain: Place, waits: list[float]) -> None:
    destination = plain.destination(endpoint=plain.proxy.endpoint.replace("http://", "https://"))
    with pytest.raises(DestinationError, match="TLS connection is refused") as caught:
        destination.check()
    assert not isinstance(caught.value, Transient)


@pytest.mark.fault("T21")
def test_the_checksums_of_aws_are_refused_by_b2_and_never_sent(versioned: Place, tmp_path: Path) -> None:
    as_shipped = boto3.client(
        "s3",
        endpoint_url=versioned.proxy.endpoint,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )
    with pytest.raises(as_shipped.exceptions.ClientError, match="Unsupported header 'x-amz-"):
        as_shipped.put_object(Bucket=versioned.bucket, Key="x", Body=b"x")
    del versioned.proxy.calls[:]
    destination = versioned.destination()
    destination.check()
    upload = destination.upload(KEY)
    for segment in cut(os.urandom(PART + 1), PART, tmp_path):
        upload.append(segment)
    upload.commit()
    sent = {name for call in versioned.proxy.calls for name in call.headers}
    assert not [name for name in sent if "checksum" in name]


def self_signed(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that only itself vouches for, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def test_the_token_of_somebody_elses_upload_is_not_found(versioned: Place) -> None:
    put(versioned.destination(), KEY, b"theirs")
    for token in ("0123456789abcdef", "0123456789abcdef:no-such-upload", "", "../x"):
        with pytest.raises(NotFound):
            versioned.destination().upload(KEY, resume=token)


@pytest.mark.fault("T20")
def test_a_download_that_only_trickles_is_given_up(plain: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    destination = plain.destination()
    put(destination, KEY, os.urandom(5000))
    monkeypatch.setattr(b2_body, "WINDOW", 0.05)
    monkeypatch.setattr(b2_body, "SLOWEST", 1_000_000)
    plain.proxy.inject("GetObject", trickling, ALWAYS)
    with pytest.raises(DestinationUnavailable, match="bytes came in"):
        get(destination, KEY)


@pytest.mark.fault("T11")
def test_a_store_that_ignores_where_to_begin_is_found_out(plain: Place) -> None:
    destination = plain.destination()
    put(destination, KEY, b"0123456789")
    whole = Answer(200, [("ETag", '"x"'), ("Last-Modified", "Tue, 24 Nov 2026 08:20:29 GMT")], b"0123456789")
    plain.proxy.inject("GetObject", lambda *_: whole)
    with pytest.raises(DestinationError, match="from 5 on"):
        get(destination, KEY, 5)


@pytest.mark.fault("T13", "T11")
@pytest.mark.parametrize("body", [b"<html>Log in to this network</html>", b"<ListBucketResult><Contents><Key>shop"])
def test_an_answer_that_is_not_s3s_is_no_listing(plain: Place, waits: list[float], body: bytes) -> None:
    plain.proxy.inject("ListObjectsV2", lambda *_: Answer(200, [], body), ALWAYS)
    with pytest.raises(DestinationUnavailable):
        plain.destination().list("")
