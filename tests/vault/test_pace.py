"""Pace: tested by a clock that only moves when somebody sleeps."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from vault.pace import Pace, bytes_a_second
from vault.spool import Segment


class Clock:
    """Time that passes only by sleeping; who sleeps at the same time sleeps side by side."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        with self._lock:
            self.now = max(self.now, until)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("0", 0),
        ("20000", 20_000),
        ("10MB/s", 10_000_000),
        ("1.5 MB/s", 1_500_000),
        ("500KiB/s", 512_000),
        ("500kB", 500_000),
        ("20Mbit/s", 2_500_000),
        ("2M", 2_000_000),
        ("1.5Gbitps", 187_500_000),
    ],
)
def test_a_rate_is_given_with_the_units_that_people_write(text: str, rate: int) -> None:
    assert bytes_a_second(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "-1MB", "10mb", "1Mb/s", "1e9", "1MB/h"])
def test_a_rate_that_means_this_to_some_and_that_to_others_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 10MB/s"):
        bytes_a_second(text)


def test_what_is_read_takes_the_time_that_its_bytes_need_whatever_is_asked_for_at_once() -> None:
    data = bytes(range(256)) * 4096
    for size in (1000, 64 * 1024, -1):
        clock = Clock()
        stream = Pace(100_000, clock, clock.sleep).reading(io.BytesIO(data))
        found = b"".join(iter(lambda: stream.read(size), b""))  # noqa: B023
        assert found == data
        assert 10.3 < clock.now - 1000 < 10.5, "1 048 576 bytes, 10 000 of which were saved up"


def test_no_more_is_saved_up_than_a_tenth_of_a_second_has() -> None:
    clock = Clock()
    pace = Pace(100_000, clock, clock.sleep)
    clock.now += 3600
    pace.wait(110_000)
    assert clock.now == pytest.approx(4600 + 1.0)


def test_all_who_read_at_a_pace_share_it() -> None:
    clock = Clock()
    pace = Pace(1_000_000, clock, clock.sleep)
    segment = Segment(0, 0, 2_000_000, bytes(2_000_000), pace)
    with ThreadPoolExecutor(4) as pool:
        assert {len(data) for data in pool.map(lambda _: segment.read(), range(4))} == {2_000_000}
    assert clock.now - 1000 >= 7.9, "8 000 000 bytes, 100 000 of which were saved up"


def test_a_segment_that_is_read_at_a_pace_can_be_read_from_its_middle_and_again() -> None:
    clock = Clock()
    segment = Segment(0, 0, 5000, bytes(range(250)) * 20, Pace(10_000, clock, clock.sleep))
    with segment.open() as stream:
        stream.seek(4990)
        assert stream.read() == bytes(range(240, 250))
        stream.seek(0)
        assert stream.tell() == 0
        assert stream.read(3) == b"\0\1\2"
