"""What takes long to read is given at once, and read again in the background."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from console.kept import Kept
from tasks.progress import Snapshot
from vault.errors import DestinationUnavailable

LONG, GENEROUS = 3600.0, 60.0


class Reader:
    """Reads one number after the other, each when it is let; or fails."""

    def __init__(self) -> None:
        self.count, self.fails = 0, False
        self.may, self.reads = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self) -> int:
        self.reads.release()
        assert self.may.acquire(timeout=GENEROUS)
        if self.fails:
            raise DestinationUnavailable("it does not answer", "Wait.")
        self.count += 1
        return self.count


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.may.release(10)  # whoever still reads ends


def test_the_first_one_waits_and_the_next_ones_are_answered_at_once(reader: Reader) -> None:
    kept = Kept(reader, LONG, LONG)
    nothing = kept.get(0)
    assert (nothing.value, nothing.late) == (None, True)
    reader.may.release()
    known = kept.get(GENEROUS)
    assert (known.value, known.late, known.problem) == (1, False, None)
    assert kept.get(0) == known


def test_what_is_old_is_given_and_read_again_meanwhile(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.kept._SHARE", 0)
    kept = Kept(reader, 0.0, LONG)
    reader.may.release()
    assert kept.get(GENEROUS).value == 1
    old = kept.get(GENEROUS)  # nobody lets it be read, and nobody waits
    assert (old.value, old.late) == (1, False)
    assert reader.reads.acquire(timeout=GENEROUS)
    assert reader.reads.acquire(timeout=GENEROUS)
    reader.may.release()
    kept.changed()
    reader.may.release()
    assert kept.get(GENEROUS).value >= 2  # type: ignore[operator]


def test_what_has_changed_while_it_was_read_is_read_once_more(reader: Reader) -> None:
    kept = Kept(reader, LONG, LONG)
    kept.get(0)
    assert reader.reads.acquire(timeout=GENEROUS)
    kept.changed()
    reader.may.release(2)
    assert kept.get(GENEROUS).value == 2


def test_a_reading_that_fails_leaves_what_was_known_and_says_why(reader: Reader) -> None:
    kept = Kept(reader, LONG, LONG)
    reader.may.release()
    first = kept.get(GENEROUS)
    reader.fails = True
    kept.changed()
    reader.may.release()
    failed = kept.get(GENEROUS)
    assert (failed.value, failed.version, failed.at) == (1, first.version, first.at)
    assert failed.problem is not None
    assert (failed.problem.status, failed.problem.remedy) == (503, "Wait.")


@pytest.mark.parametrize(
    "said",
    [
        Snapshot("shop", "dump shop-db, upload disk: 2 of 3; more", 1_234_567, 9_876_543),
        Snapshot("restore shop", "fetch", 0, 0),
    ],
)
def test_how_far_a_run_is_can_be_read_from_what_it_says(said: Snapshot) -> None:
    assert Snapshot.parse(str(said)) == said
    assert Snapshot.parse("Backup of shop") is None
