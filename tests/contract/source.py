"""The promises of every source, one test each. A driver's test is a subclass with fixtures."""

from __future__ import annotations

import hashlib
import io
import os
import select
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from prefect.blocks.core import Block
from prefect.client.schemas.actions import BlockTypeCreate
from prefect.testing.standard_test_suites import BlockStandardTestSuite

from blocks.sources.base import Content, Dump, RestoreOptions, Source
from vault.errors import BackupError, IncompleteDump, RestoreRefused, SourceError
from vault.garbage import is_ours
from vault.record import Artifact

CANARY = "canary-3f9a2c"


class BlockSuite(BlockStandardTestSuite):
    """Prefect's own suite. The logo: that suite fetches it where Pillow is installed; here, that Prefect takes it."""

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        assert block._logo_url is not None
        taken = BlockTypeCreate(name=block.get_block_type_name(), slug="x", logo_url=block._logo_url)
        assert taken.logo_url is not None
        assert taken.logo_url.scheme == "https"


class SourceContract(ABC):
    """Subclass it with the fixtures below."""

    @pytest.fixture
    @abstractmethod
    def source(self) -> Source:
        """A source that holds something: enough for a dump of more than 2 MB."""

    @pytest.fixture
    @abstractmethod
    def empty(self, source: Source) -> Source:
        """A place of the same kind that does not exist yet or holds nothing."""

    @pytest.fixture
    @abstractmethod
    def missing(self, source: Source) -> tuple[Source, str]:
        """A source that is not there, and a word that the error about it has to hold."""

    @abstractmethod
    def data(self, source: Source) -> Any:
        """All that *source* holds: equal values mean equal data."""

    @abstractmethod
    def change(self, source: Source) -> None:
        """Change what *source* holds."""

    def test_a_dump_restores_to_equal_data(self, source: Source, empty: Source, tmp_path: Path) -> None:
        facts = empty.restore(take(source, tmp_path), RestoreOptions())
        assert self.data(empty) == self.data(source)
        assert facts

    def test_a_scratch_target_takes_a_dump_and_leaves_nothing(self, source: Source, tmp_path: Path) -> None:
        content = take(source, tmp_path)
        before = self.data(source)
        with source.scratch() as scratch:
            assert scratch.location != source.location
            scratch.restore(content, RestoreOptions())
            assert self.data(scratch) == before
        assert not is_there(scratch)
        assert self.data(source) == before

    def test_facts_of_the_restored_are_those_of_the_dump(self, source: Source, empty: Source, tmp_path: Path) -> None:
        content = take(source, tmp_path)
        facts = empty.restore(content, RestoreOptions())
        for name in ("tables", "rows", "files"):
            assert facts.get(name) == content.artifact.facts.get(name)

    def test_check_says_with_what_it_would_dump(self, source: Source) -> None:
        with source.dump() as dump:
            drain(dump.stream)
        assert source.check() in dump.tool

    @pytest.mark.fault("S13")
    def test_check_and_dump_say_what_is_missing(self, missing: tuple[Source, str]) -> None:
        source, word = missing
        with pytest.raises(SourceError, match=word):
            source.check()
        with pytest.raises(SourceError, match=word), source.dump() as dump:
            drain(dump.stream)

    @pytest.mark.law(6)
    def test_a_dump_that_is_not_read_to_its_end_is_no_dump(self, source: Source) -> None:
        with pytest.raises(IncompleteDump), source.dump() as dump:
            dump.stream.read(1)

    @pytest.mark.fault("K02")
    def test_leaving_early_ends_the_tool_and_leaves_nothing(self, source: Source) -> None:
        def leave() -> None:
            with source.dump() as dump:
                dump.stream.read(1)
                raise ZeroDivisionError

        before = children(), temporary_files()
        with pytest.raises(ZeroDivisionError):
            leave()
        assert (children(), temporary_files()) == before

    def test_a_whole_dump_leaves_no_process_and_no_file(self, source: Source) -> None:
        before = children(), temporary_files()
        with source.dump() as dump:
            drain(dump.stream)
        assert (children(), temporary_files()) == before

    @pytest.mark.law(8)
    @pytest.mark.fault("A10")
    def test_restore_refuses_what_is_not_empty(self, source: Source, tmp_path: Path) -> None:
        content = take(source, tmp_path)
        self.change(source)
        before = self.data(source)
        with pytest.raises(RestoreRefused):
            source.check_target(RestoreOptions())
        with pytest.raises(RestoreRefused):
            source.restore(content, RestoreOptions())
        assert self.data(source) == before

    @pytest.mark.law(8)
    def test_overwrite_brings_back_what_was_dumped(self, source: Source, tmp_path: Path) -> None:
        content = take(source, tmp_path)
        before = self.data(source)
        self.change(source)
        assert self.data(source) != before
        source.check_target(RestoreOptions(overwrite=True))
        source.restore(content, RestoreOptions(overwrite=True))
        assert self.data(source) == before

    @pytest.mark.fault("A14", "F03")
    def test_a_fetch_that_fails_leaves_the_target_untouched(
        self, source: Source, empty: Source, tmp_path: Path
    ) -> None:
        content = take(source, tmp_path)
        broken = Content(content.artifact, lambda: failing(content), content.work)
        before = self.data(source)
        for target, options in ((source, RestoreOptions(overwrite=True)), (empty, RestoreOptions())):
            with pytest.raises(BackupError, match="the line is cut"):
                target.restore(broken, options)
        assert self.data(source) == before
        assert not is_there(empty)
        assert list(content.work.iterdir()) == []

    def test_restore_leaves_no_plain_copy_in_the_work_directory(
        self, source: Source, empty: Source, tmp_path: Path
    ) -> None:
        content = take(source, tmp_path)
        empty.restore(content, RestoreOptions())
        assert list(content.work.iterdir()) == []

    @pytest.mark.law(10)
    def test_nothing_that_is_shown_holds_a_secret(self, source: Source) -> None:
        with source.dump() as dump:
            drain(dump.stream)
        shown = [repr(source), str(source), source.location, source.check(), repr(dump), source.model_dump_json()]
        for secret in secrets_of(source):
            assert not [text for text in shown if secret in text]


def take(source: Source, directory: Path) -> Content:
    """Dump *source* and offer the dump as the content of an authenticated artifact."""
    with source.dump() as dump:
        data = drain(dump.stream)
    return content_of(source, dump, data, directory)


def content_of(source: Source, dump: Dump, data: bytes, directory: Path) -> Content:
    """*data* as what a record describes."""
    digest = hashlib.sha256(data).hexdigest()
    artifact = Artifact(
        source="db",
        kind=source.kind,
        key=f"shop/20261123T030000Z-full-3f9a2c.db.{dump.extension}",
        size=len(data),
        sha256=digest,
        plain_size=len(data),
        plain_sha256=digest,
        compression="none",
        tool=dump.tool,
        warnings=tuple(dump.warnings),
        facts=dump.facts,
        verified="read-back",
        restore_with=dump.restore_with,
    )
    assert is_ours(artifact.key), "else nobody would ever remove it"
    work = directory / "work"
    work.mkdir(exist_ok=True, mode=0o700)
    return Content(artifact, lambda: opened(data), work)


@contextmanager
def opened(data: bytes) -> Iterator[BinaryIO]:
    """*data* as a stream."""
    yield io.BytesIO(data)


@contextmanager
def failing(content: Content) -> Iterator[BinaryIO]:
    """The content's first half, and then an error."""
    with content.open() as whole:
        yield io.BufferedReader(_Cut(whole, content.artifact.plain_size // 2))


class _Cut(io.RawIOBase):
    def __init__(self, source: BinaryIO, size: int) -> None:
        self._source, self._rest = source, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(min(len(buffer), self._rest))
        if not data:
            raise SourceError("the line is cut")
        self._rest -= len(data)
        buffer[: len(data)] = data
        return len(data)


def drain(stream: BinaryIO) -> bytes:
    """Everything, read by big blocks as the codec does."""
    return b"".join(iter(lambda: stream.read(8 * 1024 * 1024), b""))


def is_there(source: Source) -> bool:
    """Whether it can be dumped."""
    try:
        source.check()
    except SourceError:
        return False
    return True


def children() -> set[int]:
    """The processes that we have started and that still are."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that ends while we look has none
            found.update(int(pid) for pid in (thread / "children").read_text().split())
    return found


def wait_until_gone(pid: int) -> None:
    """Wait for the end of a process that need not be our child."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, _, _ = select.select([handle], [], [], 300)
    os.close(handle)
    assert ended


def temporary_files() -> set[Path]:
    """What lies in the work directory of the tests' user."""
    return set(Path(os.environ["XDG_CACHE_HOME"], "prefect-backups").glob("temporary*"))


def secrets_of(source: Source) -> list[str]:
    """The values of its secret fields."""
    values: Callable[[str], Any] = lambda name: getattr(source, name)  # noqa: E731
    found = [values(name) for name in type(source).model_fields]
    return [value.get_secret_value() for value in found if hasattr(value, "get_secret_value")]
