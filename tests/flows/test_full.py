"""Full backups: several sources side by side, databases before files, and what becomes of the others when one fails."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

import vault.spool
from blocks import App, Directory, PostgresDatabase, SqliteDatabase
from blocks.destinations.local_upload import LocalUpload
from blocks.signing_key import keyring
from blocks.sources import Dump
from flows.backup import backup
from flows.report import BackupFailed
from tasks.limits import Limits
from tasks.resolve import RestoreRequest
from tasks.restore import restore_backup
from tests.flows.conftest import Sample
from tests.peers.postgres import PostgresServer
from tests.peers.processes import descendants_of
from vault.errors import NoSpace, SourceError
from vault.spool import MIB, Segment, Spool

BOUND = 30.0
"""Seconds after which what a test waits for does not come any more."""


def add_directory(sample: Sample, name: str, size: int = 1000) -> Path:
    """A further directory of the app."""
    path = sample.root / name
    path.mkdir()
    (path / "content").write_bytes(os.urandom(size))
    Directory(path=path).save(f"{sample.name}-{name}", overwrite=True)
    app = App.load(sample.name)
    app.sources.append(f"directory/{sample.name}-{name}")
    app.save(sample.name, overwrite=True)
    return path


def change(sample: Sample, **fields: object) -> None:
    app = App.load(sample.name)
    app.model_copy(update=fields).save(sample.name, overwrite=True)


def test_a_full_backup_of_three_kinds_is_restored_as_a_whole(sample: Sample, postgres_server: PostgresServer) -> None:
    server = postgres_server
    name = sample.name.replace("-", "_")
    server.sql(f"CREATE DATABASE {name}")
    server.sql("CREATE TABLE customers AS SELECT i, md5(i::text) AS note FROM generate_series(1, 1000) i", name)
    access = {
        "host": server.host,
        "port": server.port,
        "username": server.admin,
        "password": SecretStr(server.password),
    }
    PostgresDatabase(database=name, **access).save(f"{sample.name}-pg")
    change(sample, sources=[*App.load(sample.name).sources, f"postgres-database/{sample.name}-pg"])
    result = backup(app=sample.name)
    record = sample.history().records[0]
    assert [artifact.kind for artifact in record.artifacts] == ["sqlite", "postgres", "directory"]
    target = sample.root / "restored"
    url = f"postgresql://{server.admin}@{server.host}:{server.port}/{name}_restored"
    targets = {"": str(target), f"{sample.name}-pg": url}
    os.environ["PGPASSWORD"] = server.password
    try:
        restore_backup(RestoreRequest(sample.name, result.id, targets), sample.destination(), keyring().trust)
    finally:
        del os.environ["PGPASSWORD"]
    assert sample.rows(target / f"{sample.name}-db.sqlite") == sample.rows()
    assert (target / f"{sample.name}-files/a.bin").read_bytes() == (sample.files / "a.bin").read_bytes()
    rows = "SELECT count(*), sum(hashtext(note)) FROM customers"
    assert server.sql(rows, f"{name}_restored") == server.sql(rows, name)


class Together:
    """Counts how many dumps go on at once; each goes on only when as many as are wanted have begun."""

    def __init__(self, wanted: int) -> None:
        self._barrier = threading.Barrier(wanted)
        self._lock = threading.Lock()
        self._now = self.most = 0
        self.order: list[str] = []

    @contextmanager
    def counted(self, kind: str) -> Iterator[None]:
        with self._lock:
            self.order.append(f"{kind} begins")
            self._now += 1
            self.most = max(self.most, self._now)
        self._barrier.wait(BOUND)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1
                self.order.append(f"{kind} ends")


def watch_dumps(monkeypatch: pytest.MonkeyPatch, together: Together) -> None:
    for kind in (Directory, SqliteDatabase):
        real = kind.dump

        @contextmanager
        def dump(self: Directory | SqliteDatabase, real: object = real) -> Iterator[Dump]:
            with together.counted(self.kind), real(self) as found:  # type: ignore[operator]
                yield found

        monkeypatch.setattr(kind, "dump", dump)


def test_sources_of_one_category_are_read_at_once_and_no_file_before_the_last_row(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sample.root / "other.sqlite"
    with closing(sqlite3.connect(other)) as database, database:
        database.execute("CREATE TABLE t (x)")
    SqliteDatabase(path=other).save(f"{sample.name}-other")
    add_directory(sample, "more")
    change(sample, sources=[f"sqlite-database/{sample.name}-other", *App.load(sample.name).sources])
    together = Together(2)
    watch_dumps(monkeypatch, together)
    record = backup(app=sample.name).record
    assert together.most == 2
    assert together.order == [
        *("sqlite begins", "sqlite begins", "sqlite ends", "sqlite ends"),
        *("directory begins", "directory begins", "directory ends", "directory ends"),
    ]
    assert record is not None
    assert record.offset is not None
    reads = {artifact.source: artifact.read for artifact in record.artifacts}
    databases = [reads[f"{sample.name}-{name}"] for name in ("db", "other")]
    files = [reads[f"{sample.name}-{name}"] for name in ("files", "more")]
    assert max(read.ended for read in databases if read) <= min(read.began for read in files if read)
    assert record.offset == pytest.approx(
        min(read.began for read in files if read) - max(read.began for read in databases if read), abs=0.002
    )


@pytest.mark.parametrize("parallel", [1, 3])
def test_no_more_sources_are_read_at_once_than_the_app_says(
    sample: Sample, monkeypatch: pytest.MonkeyPatch, parallel: int
) -> None:
    for name in ("one", "two"):
        add_directory(sample, name)
    change(sample, parallel=parallel)
    together = Together(parallel)
    watch_dumps(monkeypatch, together)
    backup(app=sample.name, type="files")
    assert together.most == parallel


def wait_until_full(spool: Spool) -> None:
    with spool._changed:
        assert spool._changed.wait_for(lambda: spool.bytes_on_disk == spool.limit, BOUND)


def test_several_spools_together_stay_below_the_limit_and_each_gets_on(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 96 * MIB
    monkeypatch.setenv("BACKUPS_SPOOL_LIMIT", str(limit))
    for name in ("one", "two"):
        add_directory(sample, name, 64 * MIB)
    change(sample, parallel=3, compression="none")
    spools: dict[str, Spool] = {}
    most, begin, append = [0], Spool.__init__, LocalUpload.append
    together = threading.Barrier(2)

    def begun(self: Spool, directory: Path, **options: object) -> None:
        begin(self, directory, **options)  # type: ignore[arg-type]
        spools[directory.name] = self

    def late(self: LocalUpload, segment: Segment) -> None:
        """Nothing is taken until the spools of both large sources are full."""
        for name in ("one", "two"):
            if f"-{name}." in self._key and segment.index == 0:
                wait_until_full(spools[f"{sample.name}-{name}.1"])
                together.wait(BOUND)
        most[0] = max(most[0], sum(spool.bytes_on_disk for spool in tuple(spools.values())))
        append(self, segment)

    monkeypatch.setattr(Spool, "__init__", begun)
    monkeypatch.setattr(LocalUpload, "append", late)
    backup(app=sample.name, type="files")
    monkeypatch.undo()
    assert {spool.limit for spool in spools.values()} == {limit // 3}
    assert sum(spool.peak for spool in tuple(spools.values())) <= limit
    assert 2 * limit // 3 <= most[0] <= limit
    assert len(sample.history().records) == 1


def test_a_spool_waits_for_what_others_hold_of_a_disk_that_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, asked = [True], threading.Event()

    def others() -> bool:
        asked.set()
        return full[0]

    real = os.statvfs
    monkeypatch.setattr(vault.spool, "_POLL", 0.01)
    monkeypatch.setattr(os, "statvfs", lambda path: _Nearly(real(path), full[0]))
    spool = Spool(tmp_path / "spool", limit=100, segment_size=10, reserve=0, stall_timeout=BOUND, others=others)
    spool.reader("one")
    writer = threading.Thread(target=spool.write, args=(b"x" * 10,))
    writer.start()
    assert asked.wait(BOUND)
    full[0] = False
    writer.join(BOUND)
    assert spool.size == 10
    spool.destroy()


class _Nearly:
    def __init__(self, real: os.statvfs_result, full: bool) -> None:
        self.f_frsize, self.f_bavail = real.f_frsize, 0 if full else real.f_bavail


@pytest.mark.law(1, 5)
@pytest.mark.fault("S09")
def test_a_source_that_fails_stops_the_others_at_once_and_leaves_no_process(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, started = tmp_path / "bin/tar", tmp_path / "started"
    hanging.parent.mkdir()
    os.mkfifo(started)
    hanging.write_text(
        f'#!/bin/sh\ncase "$*" in *{sample.files}*) echo > {started}; exec sleep 1000;; esac\nexec /bin/tar "$@"\n'
    )
    hanging.chmod(0o755)
    monkeypatch.setenv("PATH", f"{hanging.parent}:{os.environ['PATH']}")
    add_directory(sample, "gone")
    real = Directory.dump

    @contextmanager
    def dump(self: Directory) -> Iterator[Dump]:
        if self.path.name == "gone":
            started.read_text()  # the other one is being read by now, and hangs
            raise SourceError("the disk of gone has failed")
        with real(self) as found:
            yield found

    monkeypatch.setattr(Directory, "dump", dump)
    with pytest.raises(SourceError, match="the disk of gone has failed"):
        backup(app=sample.name, type="files")
    assert descendants_of(os.getpid()) == []
    assert (sample.history().records, sample.history().orphans) == ((), ())


@pytest.mark.fault("X08", "D18")
def test_a_destination_that_fails_for_one_source_has_no_record_and_the_other_has_all(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = sample.add_destination("backups"), sample.add_destination("bad")
    append = LocalUpload.append

    def fail(self: LocalUpload, segment: Segment) -> None:
        if "/bad" in self._what and ".sqlite" in self._key:
            raise NoSpace("the disk is full")
        append(self, segment)

    monkeypatch.setattr(LocalUpload, "append", fail)
    with pytest.raises(BackupFailed, match="the disk is full"):
        backup(app=sample.name, destinations=[good, bad])
    assert [len(record.artifacts) for record in sample.history().records] == [2]
    history = sample.history("bad")
    assert (history.records, history.orphans) == ((), ())


def test_what_is_read_at_once_shares_spool_memory_and_processors() -> None:
    limits = Limits(spool=1024 * MIB)
    one, two, many = (limits.between(wanted, 10, 1) for wanted in (1, 2, 8))
    assert (one.share, two.share) == (1024 * MIB, 512 * MIB)
    assert many.parallel * many.share <= limits.spool
    assert many.parallel * many.block <= 2 * one.block
    assert many.parallel <= 2 * len(os.sched_getaffinity(0))
    assert limits.between(8, 3, 1).parallel <= 3
    assert Limits(spool=MIB).between(8, 8, 1).parallel == 1
    assert limits.between(8, 8, 30).parallel == 1
