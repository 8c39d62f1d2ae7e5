"""The promises of every destination, one test each. A driver's test is a subclass with fixtures."""

from __future__ import annotations

import hashlib
import os
import threading
from abc import ABC, abstractmethod
from pathlib import Path

import pytest

import blocks.destinations.base
from blocks.destinations.base import Destination, Upload
from tests.contract.source import CANARY
from tests.vault.test_pace import Clock
from vault.errors import AlreadyExists, ConfigError, NotFound
from vault.pace import Pace
from vault.spool import Segment
from vault.store import Digest, StoredObject

KEY = "shop/20261123T030000Z-full-3f9a2c.uploads.tar.zst"
OTHER = "shop/20261123T030000Z-full-aaaaaa.uploads.tar.zst"

HOSTILE = [
    *("", ".", "..", "/", "shop", "shop/", "/shop/x", "../x", "shop/../x", "shop/..", "shop//x", "shop/a/b"),
    *("shop/.hidden", "shop/-x", "shop/x\n", "shop/x\0", "shop/\u202ex", "shop/x y", "shop/ü", "shop/u\u0308"),
    *("shop/x.partial", "Shop/x", "shop_/x", "-shop/x", "$(touch x)/x", "shop/`x`", "shop/*", "shop/x;rm"),
    *("shop/" + "x" * 201, "shop/" + "x" * 4096, "s" * 64 + "/x", "C:/x", "shop\\x"),
]


class DestinationContract(ABC):
    """Subclass it with the parts below."""

    holds_back = 0
    """Bytes that an upload may keep until more come, or ``commit``: Google Drive takes multiples of 256 KiB, S3 no part
    below 5 MiB but as the last."""
    segment_size = 1_000_000
    """Bytes of a segment that is held as soon as it was appended."""
    passes = 1
    """How often a segment is read to be sent."""

    @pytest.fixture
    @abstractmethod
    def destination(self, tmp_path: Path) -> Destination:
        """A prepared destination that holds nothing; a secret of its, if it has one, holds ``CANARY``."""

    @abstractmethod
    def lies_there(self, destination: Destination) -> set[str]:
        """The name of everything that takes space there, unfinished uploads too, but not what ``prepare`` made."""

    @abstractmethod
    def plant(self, destination: Destination, name: str) -> None:
        """Somebody else puts a small object *name* (with an ``app/``) there, past this driver."""

    def again(self, destination: Destination) -> Destination:
        """The same place, as another process would load it."""
        return type(destination).model_validate(destination.model_dump())

    # -- an object is complete or absent

    @pytest.mark.law(2)
    @pytest.mark.fault("K05")
    def test_nothing_is_visible_under_a_key_before_commit(self, destination: Destination) -> None:
        upload = destination.upload(KEY)
        upload.append(Segment.of(b"x" * 100_000))
        assert keys(destination) == set()
        with pytest.raises(NotFound):
            destination.stat(KEY)
        with pytest.raises(NotFound), destination.open(KEY):
            pass
        upload.abort()

    def test_what_commit_returned_open_stat_and_list_see(self, destination: Destination) -> None:
        data = os.urandom(300_000)
        stored = put(destination, KEY, data)
        assert (stored.key, stored.size) == (KEY, len(data))
        for seen in (destination, self.again(destination)):
            assert get(seen, KEY) == data
            assert (seen.stat(KEY).key, seen.stat(KEY).size) == (KEY, len(data))
            assert [(found.key, found.size) for found in seen.list("shop/")] == [(KEY, len(data))]

    def test_an_empty_object_is_an_object(self, destination: Destination) -> None:
        upload = destination.upload(KEY)
        assert upload.commit().size == 0
        assert get(destination, KEY) == b""

    def test_many_segments_from_files_and_memory_become_one_object(
        self, destination: Destination, tmp_path: Path
    ) -> None:
        data = os.urandom(7_654_321)
        segments = cut(data, 1_500_000, tmp_path)
        upload = destination.upload(KEY)
        for segment in segments:
            upload.append(segment)
            assert 0 <= segment.offset + segment.size - upload.offset <= self.holds_back
        upload.commit()
        assert digest(get(destination, KEY)) == digest(data)
        assert self.lies_there(destination) == {KEY}

    def test_each_byte_that_passes_counts_once_for_its_bandwidth(
        self, destination: Destination, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock, data = Clock(), os.urandom(2 * self.segment_size + 1000)
        rate = self.segment_size
        pace = Pace(rate, clock, clock.sleep)
        monkeypatch.setattr(blocks.destinations.base, "_pace_of", lambda *_: pace)
        destination.bandwidth = rate
        upload = destination.upload(KEY)
        for segment in cut(data, self.segment_size, tmp_path):
            upload.append(segment)
        upload.commit()
        sent = clock.now
        assert get(destination, KEY) == data
        assert 1.8 <= sent - Clock().now <= 2.2 * self.passes, f"{len(data)} bytes sent at {rate} a second"
        assert 1.8 <= clock.now - sent <= 2.2, f"{len(data)} bytes read at {rate} a second"

    def test_abort_leaves_nothing_and_may_be_called_twice(self, destination: Destination) -> None:
        upload = destination.upload(KEY)
        upload.append(Segment.of(b"x" * 100_000))
        upload.abort()
        upload.abort()
        assert self.lies_there(destination) == set()

    def test_abort_after_commit_does_nothing(self, destination: Destination) -> None:
        upload = destination.upload(KEY)
        upload.append(Segment.of(b"x"))
        upload.commit()
        upload.abort()
        assert get(destination, KEY) == b"x"

    def test_commit_may_be_called_twice(self, destination: Destination) -> None:
        upload = destination.upload(KEY)
        upload.append(Segment.of(b"x"))
        assert upload.commit().size == upload.commit().size == 1

    # -- an upload goes on where it stood

    @pytest.mark.fault("T02")
    def test_another_process_resumes_an_upload_by_its_token(self, destination: Destination, tmp_path: Path) -> None:
        size = self.segment_size
        data = os.urandom(4 * size)
        segments = cut(data, size, tmp_path)
        first = destination.upload(KEY)
        for segment in segments[:2]:
            first.append(segment)
        token = first.token
        del first
        upload = self.again(destination).upload(KEY, resume=token)
        assert upload.offset <= 2 * size
        for segment in segments[upload.offset // size :]:
            upload.append(segment)
        upload.commit()
        assert digest(get(destination, KEY)) == digest(data)
        assert self.lies_there(destination) == {KEY}

    def test_a_segment_that_is_held_whole_is_skipped_and_one_held_in_part_is_completed(
        self, destination: Destination
    ) -> None:
        upload = destination.upload(KEY)
        upload.append(Segment.of(b"0123456789"))
        upload.append(Segment.of(b"0123456789"))
        upload.append(Segment.of(b"0123456789abcde", 0, 0))
        upload.append(Segment.of(b"cdefgh", 1, 12))
        upload.commit()
        assert get(destination, KEY) == b"0123456789abcdefgh"

    @pytest.mark.fault("T03", "O04")
    def test_resuming_a_commit_whose_answer_was_lost_finds_the_object(self, destination: Destination) -> None:
        upload = destination.upload(KEY)
        upload.append(Segment.of(b"data"))
        token = upload.token
        upload.commit()
        resumed = self.again(destination).upload(KEY, resume=token)
        resumed.append(Segment.of(b"data"))
        assert resumed.commit().size == 4
        assert self.lies_there(destination) == {KEY}

    def test_the_token_of_an_aborted_upload_is_not_found(self, destination: Destination) -> None:
        upload = destination.upload(KEY)
        upload.append(Segment.of(b"data"))
        upload.abort()
        with pytest.raises(NotFound):
            destination.upload(KEY, resume=upload.token)

    # -- nothing is replaced

    @pytest.mark.fault("D06")
    def test_the_same_bytes_under_the_same_key_are_success(self, destination: Destination) -> None:
        put(destination, KEY, b"same")
        assert put(destination, KEY, b"same").size == 4
        assert self.lies_there(destination) == {KEY}

    @pytest.mark.law(11)
    @pytest.mark.fault("D06", "Z01")
    @pytest.mark.parametrize("other", [b"ours", b"longer", b"", b"the"])
    def test_other_bytes_under_the_same_key_are_refused(self, destination: Destination, other: bytes) -> None:
        put(destination, KEY, b"them")
        upload = destination.upload(KEY)
        upload.append(Segment.of(other))
        with pytest.raises(AlreadyExists):
            upload.commit()
        upload.abort()
        assert get(destination, KEY) == b"them"
        assert self.lies_there(destination) == {KEY}

    @pytest.mark.fault("Z07", "X02")
    def test_two_uploads_at_once_do_not_mix(self, destination: Destination) -> None:
        contents = {KEY: os.urandom(2_000_000), OTHER: os.urandom(2_000_000)}
        failures: list[BaseException] = []

        def send(key: str) -> None:
            try:
                put(self.again(destination), key, contents[key], pieces=8)
            except BaseException as error:  # noqa: BLE001  (told below)
                failures.append(error)

        threads = [threading.Thread(target=send, args=(key,)) for key in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert {key: digest(get(destination, key)) for key in contents} == {k: digest(v) for k, v in contents.items()}

    @pytest.mark.law(11)
    def test_of_two_uploads_of_one_key_one_wins_whole(self, destination: Destination) -> None:
        uploads = [destination.upload(KEY), self.again(destination).upload(KEY)]
        for upload, data in zip(uploads, (b"one", b"two"), strict=True):
            upload.append(Segment.of(data))
        uploads[1].commit()
        with pytest.raises(AlreadyExists):
            uploads[0].commit()
        uploads[0].abort()
        assert get(destination, KEY) == b"two"

    # -- reading

    def test_open_begins_at_the_offset(self, destination: Destination) -> None:
        data = os.urandom(200_000)
        put(destination, KEY, data)
        for offset in (0, 1, 65_536, 199_999, 200_000):
            assert get(destination, KEY, offset) == data[offset:]

    def test_an_opened_object_can_be_read_into_a_buffer(self, destination: Destination) -> None:
        put(destination, KEY, b"0123456789")
        buffer = bytearray(4)
        with destination.open(KEY, 3) as stream:
            assert stream.readinto(buffer) == 4  # type: ignore[attr-defined]
        assert bytes(buffer) == b"3456"

    def test_what_is_missing_is_not_found(self, destination: Destination) -> None:
        put(destination, OTHER, b"x")
        for key in (KEY, "other/x"):
            with pytest.raises(NotFound):
                destination.stat(key)
            with pytest.raises(NotFound), destination.open(key):
                pass

    @pytest.mark.law(7)
    def test_a_digest_is_that_of_the_content_or_none(self, destination: Destination) -> None:
        put(destination, KEY, b"content")
        found = destination.digest(KEY)
        md5 = hashlib.md5(b"content", usedforsecurity=False).hexdigest()
        assert found in (None, Digest("sha256", digest(b"content")), Digest("etag", md5))

    # -- listing

    @pytest.mark.fault("N10", "N11")
    def test_a_listing_holds_exactly_the_keys_below_its_prefix(self, destination: Destination) -> None:
        for key in ("shop/a", "shop/b", "shop-2/a", "sho/a", "shop2/a", "s/a"):
            put(destination, key, b"x")
        assert keys(destination, "shop/") == {"shop/a", "shop/b"}
        assert keys(destination, "shop-2/") == {"shop-2/a"}
        assert keys(destination, "shopp/") == set()
        assert keys(destination, "") == {"shop/a", "shop/b", "shop-2/a", "sho/a", "shop2/a", "s/a"}

    @pytest.mark.law(9)
    @pytest.mark.parametrize("prefix", ["shop", "/", "../", "shop/x/", "shop/*", "*/", "Shop/", "shop//"])
    def test_a_prefix_that_is_not_an_app_is_refused(self, destination: Destination, prefix: str) -> None:
        with pytest.raises(ConfigError):
            destination.list(prefix)

    def test_a_long_listing_is_complete(self, destination: Destination) -> None:
        expected = {f"shop/{number:05}" for number in range(self.many)}
        for key in expected:
            self.put_small(destination, key)
        found = [stored.key for stored in destination.list("shop/")]
        assert len(found) == len(expected)
        assert set(found) == expected

    many = 1050  # more than one page of any protocol

    def put_small(self, destination: Destination, key: str) -> None:
        """Override it where an upload is slow and there is another way."""
        put(destination, key, b"x")

    @pytest.mark.fault("D07", "D08")
    def test_foreign_and_unfinished_objects_are_never_listed(self, destination: Destination) -> None:
        put(destination, KEY, b"x")
        foreign = ["shop/notes (copy).txt", "shop/.hidden", "shop/x.partial", "Photos/x", "shop/-x", "shop/~x"]
        for name in foreign:
            self.plant(destination, name)
        upload = destination.upload(OTHER)
        upload.append(Segment.of(b"x" * 100_000))
        assert keys(destination, "shop/") == {KEY}
        assert keys(destination, "") == {KEY}
        upload.abort()
        assert self.lies_there(destination) == {KEY, *foreign}

    # -- deleting

    @pytest.mark.fault("D17", "D19")
    def test_remove_is_final_and_idempotent(self, destination: Destination) -> None:
        put(destination, KEY, b"first")
        put(destination, OTHER, b"stays")
        for _ in range(2):
            destination.remove(KEY)
            for seen in (destination, self.again(destination)):
                assert keys(seen) == {OTHER}
                with pytest.raises(NotFound):
                    seen.stat(KEY)
        destination.remove("never/there")
        put(destination, KEY, b"second")
        destination.remove(KEY)
        assert self.lies_there(destination) == {OTHER}

    # -- names

    @pytest.mark.law(9)
    @pytest.mark.fault("N01", "N03", "N04", "N05", "N06")
    @pytest.mark.parametrize("key", HOSTILE)
    def test_a_hostile_key_is_refused_everywhere(self, destination: Destination, key: str) -> None:
        for use in (destination.upload, destination.stat, destination.remove, destination.digest):
            with pytest.raises(ConfigError):
                use(key)
        with pytest.raises(ConfigError), destination.open(key):
            pass
        assert self.lies_there(destination) == set()

    def test_the_longest_key_fits(self, destination: Destination) -> None:
        key = "s" * 63 + "/" + "x" * 200
        put(destination, key, b"x")
        assert keys(destination) == {key}

    # -- the place itself

    @pytest.mark.law(10)
    def test_the_location_says_where_and_holds_no_secret(self, destination: Destination) -> None:
        assert destination.location
        for text in (destination.location, repr(destination), str(destination)):
            assert CANARY not in text

    def test_check_passes_and_leaves_nothing(self, destination: Destination) -> None:
        destination.check()
        destination.check()
        assert self.lies_there(destination) == set()
        assert keys(destination, "") == set()

    def test_prepare_is_idempotent_and_keeps_what_is_there(self, destination: Destination) -> None:
        put(destination, KEY, b"x")
        destination.prepare()
        self.again(destination).prepare()
        assert get(destination, KEY) == b"x"

    def test_free_space_is_a_number_or_unknown(self, destination: Destination) -> None:
        free = destination.free_space()
        assert free is None or free > 0


def put(destination: Destination, key: str, data: bytes, pieces: int = 1) -> StoredObject:
    """Store *data* under *key*, as the system does."""
    upload: Upload = destination.upload(key)
    try:
        size = -(-len(data) // pieces) or 1
        for index, begin in enumerate(range(0, len(data), size)):
            upload.append(Segment.of(data[begin : begin + size], index, begin))
        return upload.commit()
    finally:
        upload.abort()


def get(destination: Destination, key: str, offset: int = 0) -> bytes:
    """All that *key* holds from *offset* on."""
    with destination.open(key, offset) as stream:
        return stream.read()


def keys(destination: Destination, prefix: str = "") -> set[str]:
    """The keys that a listing gives."""
    return {stored.key for stored in destination.list(prefix)}


def cut(data: bytes, size: int, directory: Path) -> list[Segment]:
    """*data* as segments, every other one in a file."""
    segments = []
    for index, begin in enumerate(range(0, len(data), size)):
        piece = data[begin : begin + size]
        source: Path | bytes = piece
        if index % 2:
            source = directory / f"{index:06}.seg"
            source.write_bytes(piece)
        segments.append(Segment(index, begin, len(piece), source))
    return segments


def digest(data: bytes) -> str:
    """For a short message where large data differ."""
    return hashlib.sha256(data).hexdigest()
