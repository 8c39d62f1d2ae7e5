"""The catalog over a real directory: what counts as a backup, and what never does."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blocks.destinations.local import LocalDestination
from vault.catalog import Catalog, read_all
from vault.errors import BadRecord, ConfigError, Corrupt, NotFound, WrongKey
from vault.record import Artifact, BackupId, BackupRecord, artifact_key, utc
from vault.record_cache import RecordCache
from vault.sealing import seal
from vault.signing import Signer, Trust, key_id
from vault.spool import Segment

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)
SIGNER = Signer.generate()
TRUST = Trust.of([SIGNER.public_key])


def put(store: LocalDestination, key: str, data: bytes) -> None:
    upload = store.upload(key)
    upload.append(Segment.of(data))
    upload.commit()


def record_of(app: str, backup_id: BackupId, data: bytes = b"content") -> BackupRecord:
    digest = hashlib.sha256(data).hexdigest()
    artifact = Artifact(
        source="db",
        kind="sqlite",
        key=artifact_key(app, backup_id, "db", "sqlite"),
        size=len(data),
        sha256=digest,
        plain_size=len(data),
        plain_sha256=digest,
        compression="none",
        tool="test",
        verified="read-back",
        restore_with="cat",
    )
    return BackupRecord(
        id=str(backup_id),
        app=app,
        type=backup_id.type,
        created_at=utc(backup_id.created_at),
        completed_at=utc(backup_id.created_at),
        producer={},
        artifacts=(artifact,),
    )


@pytest.fixture
def back_up(store: LocalDestination) -> Callable[..., BackupRecord]:
    def make(app: str = "shop", minutes: int = 0) -> BackupRecord:
        record = record_of(app, BackupId.new(NOW + timedelta(minutes=minutes), "database"))
        put(store, record.artifacts[0].key, b"content")
        Catalog(store, app, TRUST).commit(record, SIGNER)
        return record

    return make


def path_of(store: LocalDestination, key: str) -> Path:
    return store.root / key


@pytest.mark.law(1)
def test_a_backup_exists_once_its_record_does(store: LocalDestination, back_up: Callable[..., BackupRecord]) -> None:
    record = back_up()
    history = Catalog(store, "shop", TRUST).history()
    assert history.records == (record,)
    assert not history.damaged
    assert not history.orphans
    assert history.find("latest", NOW) == history.find(record.id, NOW) == history.find(record.id[-6:], NOW) == record


@pytest.mark.law(1)
@pytest.mark.fault("D10")
def test_an_artifact_without_a_record_is_an_orphan_and_no_backup(store: LocalDestination) -> None:
    record = record_of("shop", BackupId.new(NOW, "database"))
    put(store, record.artifacts[0].key, b"content")
    history = Catalog(store, "shop", TRUST).history()
    assert history.records == ()
    assert [orphan.key for orphan in history.orphans] == [record.artifacts[0].key]
    with pytest.raises(ConfigError, match="no backup"):
        history.find("latest", NOW)


@pytest.mark.fault("X06")
def test_a_record_is_not_written_for_an_artifact_that_is_gone_or_short(store: LocalDestination) -> None:
    record = record_of("shop", BackupId.new(NOW, "database"))
    catalog = Catalog(store, "shop", TRUST)
    with pytest.raises(NotFound):
        catalog.commit(record, SIGNER)
    put(store, record.artifacts[0].key, b"short")
    with pytest.raises(Corrupt, match="5 bytes"):
        catalog.commit(record, SIGNER)
    assert catalog.history().records == ()


@pytest.mark.fault("D09", "C02")
@pytest.mark.parametrize("size", [None, 0, 6])
def test_a_record_whose_artifact_is_missing_or_truncated_is_damaged(
    store: LocalDestination, back_up: Callable[..., BackupRecord], size: int | None
) -> None:
    older, record = back_up(), back_up(minutes=1)
    artifact = path_of(store, record.artifacts[0].key)
    if size is None:
        artifact.unlink()
    else:
        artifact.write_bytes(b"content"[:size])
    history = Catalog(store, "shop", TRUST).history()
    assert history.records == (older,)
    assert "missing" in history.damaged[0].detail or "truncated" in history.damaged[0].detail
    assert history.find("latest", NOW) == older
    assert history.newer_damaged(older) == history.damaged
    with pytest.raises(Corrupt):
        history.find(record.id, NOW)


@pytest.mark.fault("D11", "D12", "C07")
@pytest.mark.parametrize("damage", ["truncate", "flip", "garbage", "duplicate key", "version", "other app's"])
def test_a_record_that_cannot_be_trusted_is_shown_as_damaged(
    store: LocalDestination, back_up: Callable[..., BackupRecord], damage: str
) -> None:
    record, other = back_up(), back_up("crm")
    path = path_of(store, record.key)
    data = path.read_bytes()
    path.write_bytes(
        {
            "truncate": data[:-10],
            "flip": data.replace(b'"size": 7', b'"size": 8'),
            "garbage": b"\0" * 100,
            "duplicate key": data.replace(b'"format": 1,', b'"format": 1,\n  "format": 1,'),
            "version": data.replace(b'"format": 1,', b'"format": 2,'),
            "other app's": path_of(store, other.key).read_bytes(),
        }[damage]
    )
    history = Catalog(store, "shop", TRUST).history()
    assert history.records == ()
    assert [damaged.status for damaged in history.damaged] == ["DAMAGED"]
    with pytest.raises(BadRecord):
        history.find("latest", NOW)


def test_a_record_of_an_unknown_signer_is_untrusted_and_names_its_key(
    store: LocalDestination, back_up: Callable[..., BackupRecord]
) -> None:
    record = back_up()
    stranger = Catalog(store, "shop", Trust()).history()
    assert [damaged.status for damaged in stranger.damaged] == ["untrusted"]
    assert record.id not in stranger.damaged[0].detail, "it is told once for all records of a signer"
    with pytest.raises(WrongKey, match=key_id(SIGNER.public_key)):
        stranger.find("latest", NOW)
    named = Trust.of([], [key_id(SIGNER.public_key)])
    assert Catalog(store, "shop", named).history().records == (record,)


def test_a_source_that_no_backup_has_is_answered_with_those_that_there_are(
    store: LocalDestination, back_up: Callable[..., BackupRecord]
) -> None:
    record = back_up()
    with pytest.raises(ConfigError, match="no backup of shop with source nosuch") as caught:
        Catalog(store, "shop", TRUST).history().find("latest", NOW, "nosuch")
    assert record.artifacts[0].source in caught.value.remedy


@pytest.mark.fault("C05", "C06", "D12")
def test_a_record_signed_by_us_does_not_count_under_another_key(
    store: LocalDestination, back_up: Callable[..., BackupRecord]
) -> None:
    record = back_up()
    replayed = BackupId(NOW + timedelta(days=1), "database", "abcdef")
    put(store, f"shop/{replayed}.json", seal(record, SIGNER))
    history = Catalog(store, "shop", TRUST).history()
    assert history.records == (record,)
    assert history.damaged[0].backup_id == replayed


@pytest.mark.law(3)
@pytest.mark.fault("D20", "D19")
def test_removing_deletes_the_record_first_and_may_be_repeated(
    store: LocalDestination, back_up: Callable[..., BackupRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    record, kept = back_up(), back_up(minutes=1)
    deleted: list[str] = []
    real = LocalDestination.remove

    def deleting(self: LocalDestination, key: str) -> None:
        deleted.append(key)
        real(self, key)

    monkeypatch.setattr(LocalDestination, "remove", deleting)
    catalog = Catalog(store, "shop", TRUST)
    catalog.remove(record.backup_id)
    catalog.remove(record.backup_id)
    assert deleted[:2] == [record.key, record.artifacts[0].key]
    assert catalog.history().records == (kept,)


@pytest.mark.fault("D08", "N10")
def test_foreign_files_and_other_apps_are_never_seen(
    store: LocalDestination, back_up: Callable[..., BackupRecord]
) -> None:
    record, _ = back_up(), back_up("shop-2")
    for name in ("notes.json", "README", "20261123T030000Z-full-zzzzzz.json", ".hidden.json"):
        (store.root / "shop" / name).write_text("{}")
    history = Catalog(store, "shop", TRUST).history()
    assert history.records == (record,)
    assert not history.damaged
    assert set(read_all(store, TRUST)) == {"shop", "shop-2"}


@pytest.mark.fault("C13")
@pytest.mark.parametrize(
    ("field", "value"),
    [("size", -1), ("size", 2**63), ("size", "7"), ("sha256", "A" * 64), ("sha256", "ab"), ("plain_size", 1.5)],
)
def test_absurd_sizes_and_digests_are_refused_even_when_signed(
    store: LocalDestination, back_up: Callable[..., BackupRecord], field: str, value: object
) -> None:
    record = back_up()
    document = record.model_dump(mode="json")
    document["artifacts"][0][field] = value
    body = json.dumps({**document, "signer": SIGNER.public_key}, indent=2).encode().removesuffix(b"\n}")
    sealed = body + b',\n  "signature": "' + SIGNER.sign(body).encode() + b'"\n}\n'
    path_of(store, record.key).write_bytes(sealed)
    assert [d.status for d in Catalog(store, "shop", TRUST).history().damaged] == ["DAMAGED"]


@pytest.mark.fault("N11", "N02")
@pytest.mark.parametrize("reference", ["*", "", "%", "../x", "--help", "2026", ".*", "nosuch"])
def test_a_reference_is_taken_literally(
    store: LocalDestination, back_up: Callable[..., BackupRecord], reference: str
) -> None:
    back_up(), back_up(minutes=1)
    with pytest.raises(ConfigError):
        Catalog(store, "shop", TRUST).history().find(reference, NOW)


def test_a_damaged_record_does_not_hide_the_newest_of_a_type(
    store: LocalDestination, back_up: Callable[..., BackupRecord]
) -> None:
    older, newer = back_up(), back_up(minutes=1)
    path_of(store, newer.key).write_bytes(b"{}")
    assert Catalog(store, "shop", TRUST).newest("database", NOW).record == older
    assert Catalog(store, "shop", TRUST).newest("files", NOW).record is None


@pytest.mark.fault("Z02")
def test_a_backup_from_the_future_is_never_the_latest_nor_the_newest_and_can_be_restored_by_its_id(
    store: LocalDestination, back_up: Callable[..., BackupRecord]
) -> None:
    good, skewed = back_up(), back_up(minutes=5)
    catalog = Catalog(store, "shop", TRUST)
    assert catalog.newest("database", NOW).record == catalog.history().find("latest", NOW) == skewed, "clocks differ"
    future = back_up(minutes=6)
    catalog.remove(skewed.backup_id)
    history = catalog.history()
    assert history.find("latest", NOW) == good
    assert history.find(future.id, NOW) == future
    assert [one.backup_id for one in history.from_the_future(NOW)] == [future.backup_id]
    newest = catalog.newest("database", NOW)
    assert (newest.record, [one.backup_id for one in newest.future]) == (good, [future.backup_id])
    assert f"{future.id} is from the future" in newest.future[0].message
    catalog.remove(good.backup_id)
    with pytest.raises(ConfigError, match=f"{future.id} is from the future"):
        catalog.history().find("latest", NOW)
    assert catalog.newest("database", NOW).record is None
    assert catalog.newest("database", NOW + timedelta(minutes=1)).record == future, "when its time has come"


@pytest.mark.fault("D09", "C02")
@pytest.mark.parametrize("size", [None, 0, 6])
def test_a_backup_whose_artifacts_are_gone_or_cut_off_is_not_the_newest(
    store: LocalDestination, back_up: Callable[..., BackupRecord], size: int | None
) -> None:
    older, newer = back_up(), back_up(minutes=1)
    artifact = path_of(store, newer.artifacts[0].key)
    if size is None:
        artifact.unlink()
    else:
        artifact.write_bytes(b"content"[:size])
    found = Catalog(store, "shop", TRUST).newest("database", NOW)
    assert found.record == older
    assert [one.backup_id for one in found.damaged] == [newer.backup_id]
    path_of(store, older.artifacts[0].key).unlink()
    found = Catalog(store, "shop", TRUST).newest("database", NOW)
    assert found.record is None
    assert [one.backup_id for one in found.damaged] == [newer.backup_id, older.backup_id]


# -- the cache of records


@pytest.fixture
def cache(tmp_path: Path) -> RecordCache:
    return RecordCache(tmp_path / "cache" / "records.sqlite")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The key of each object that is read from here on."""
    keys: list[str] = []
    real = LocalDestination.open

    def open_and_tell(self: LocalDestination, key: str, offset: int = 0) -> object:
        keys.append(key)
        return real(self, key, offset)

    monkeypatch.setattr(LocalDestination, "open", open_and_tell)
    return keys


def test_a_listing_reads_only_records_that_are_new_to_its_cache(
    store: LocalDestination, back_up: Callable[..., BackupRecord], cache: RecordCache, opened: list[str]
) -> None:
    first, second = back_up(), back_up(minutes=1)
    opened.clear()
    catalog = Catalog(store, "shop", TRUST)
    assert catalog.history(cache).records == (first, second)
    third = back_up(minutes=2)
    assert opened == [first.key, second.key]
    assert catalog.history(cache).records == read_all(store, TRUST, cache)["shop"].records == (first, second, third)
    assert opened == [first.key, second.key, third.key]
    catalog.remove(second.backup_id)
    assert catalog.history(cache).records == (first, third)
    with closing(sqlite3.connect(cache.path)) as database:
        assert database.execute("SELECT count(*) FROM record").fetchone() == (2,)


@pytest.mark.law(4)
@pytest.mark.fault("C07", "D11")
def test_whoever_decides_on_a_record_reads_it_where_it_lies(
    store: LocalDestination, back_up: Callable[..., BackupRecord], cache: RecordCache
) -> None:
    record = back_up()
    path = path_of(store, record.key)
    Catalog(store, "shop", TRUST).history(cache)
    status = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"sqlite"', b'"mangle"'))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert [damaged.key for damaged in Catalog(store, "shop", TRUST).history().damaged] == [record.key]
    os.utime(path)
    assert [damaged.key for damaged in Catalog(store, "shop", TRUST).history(cache).damaged] == [record.key]


@pytest.mark.fault("Z11")
def test_what_is_cached_is_still_a_matter_of_trust(
    store: LocalDestination, back_up: Callable[..., BackupRecord], cache: RecordCache
) -> None:
    back_up()
    assert Catalog(store, "shop", TRUST).history(cache).records
    (damaged,) = Catalog(store, "shop", Trust()).history(cache).damaged
    assert damaged.status == "untrusted"


@pytest.mark.parametrize("damage", ["garbage", "directory", "locked"])
def test_a_cache_that_cannot_be_used_fails_nothing(
    store: LocalDestination, back_up: Callable[..., BackupRecord], cache: RecordCache, damage: str
) -> None:
    record = back_up()
    cache.path.parent.mkdir()
    with closing(sqlite3.connect(cache.path.parent / "other" if damage != "locked" else cache.path)) as other:
        if damage == "garbage":
            cache.path.write_bytes(b"no database" * 1000)
        elif damage == "directory":
            cache.path.mkdir()
        else:
            other.execute("CREATE TABLE t (x)")
            other.execute("BEGIN EXCLUSIVE")
        for _ in range(2):
            assert Catalog(store, "shop", TRUST).history(cache).records == (record,)
    assert damage != "garbage" or cache.load(store, "shop", store.list("shop/"))
