"""A backup is copied as it is, proven on the way in and where it arrives; else nothing is left of the copy."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest

from blocks import LocalDestination
from blocks.destinations.local_upload import LocalUpload
from blocks.signing_key import keyring
from flows.backup import backup
from flows.copy_backup import CopyFailed, CopyResult, copy_backup
from tasks.copy import clean_up, prepare, read_origin
from tasks.resolve import RestoreRequest
from tasks.restore import restore_backup
from tasks.run import Origin, Transfer
from tests.flows.committed import commit, put
from tests.flows.conftest import Sample
from vault.age import generate_identity
from vault.catalog import Catalog, History
from vault.errors import AlreadyExists, ConfigError, Corrupt, DestinationError, NoSpace, WrongKey
from vault.record import BackupRecord
from vault.sealing import seal
from vault.signing import Signer, Trust, key_id
from vault.spool import Segment
from vault.workspace import leftovers

APP = "copied"


@dataclass(frozen=True)
class Places:
    """A backup of two artifacts at ``a``; and ``b`` and ``c``, which are empty."""

    root: Path
    record: BackupRecord

    def at(self, name: str) -> LocalDestination:
        return LocalDestination(root=self.root / name)

    def path(self, name: str) -> str:
        return str(self.root / name)

    def history(self, name: str) -> History:
        return Catalog(self.at(name), APP, keyring().trust).history()

    def lies(self, name: str) -> set[str]:
        """Every file of the app there, hidden and unfinished ones too."""
        return {path.name for path in (self.root / name / APP).glob("*")} if (self.root / name).exists() else set()

    def copy(self, *targets: str, trust: list[str] | None = None) -> CopyResult:
        return copy_backup(self.record.id, self.path("a"), [self.path(name) for name in targets], trust)


@pytest.fixture
def places(prefect_api: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    monkeypatch.setenv("BACKUPS_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.setenv("BACKUPS_SPOOL_LIMIT", str(256 << 10))  # segments of 64 KiB
    for name in "abc":
        LocalDestination(root=tmp_path / name).prepare()
    contents = {"large": os.urandom(1 << 20), "small": b"small"}
    record = commit(LocalDestination(root=tmp_path / "a"), APP, keyring().signer, contents)
    yield Places(tmp_path, record)
    assert leftovers(tmp_path / "work") == [], "a copy left its private directory behind"


def reads(monkeypatch: pytest.MonkeyPatch, change: object, times: int, of: str = "/a") -> list[str]:
    """Have what is read of the large artifact go through *change*, the first *times* times. Returns the reads."""
    real, done = LocalDestination.open, list[str]()

    @contextmanager
    def opened(self: LocalDestination, key: str, offset: int = 0) -> Iterator[BinaryIO]:
        with real(self, key, offset) as stream:
            if str(self.root).endswith(of) and ".large." in key:
                done.append(key)
                if len(done) <= times:
                    yield change(stream)  # type: ignore[operator]
                    return
            yield stream

    monkeypatch.setattr(LocalDestination, "open", opened)
    return done


class Flipped:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        data = bytearray(self._stream.read(size))
        if data:
            data[len(data) // 2] ^= 1
        return bytes(data)


class Short(Flipped):
    def read(self, size: int = -1) -> bytes:
        return self._stream.read(size)[:-1000]


class Broken(Flipped):
    _left = 3

    def read(self, size: int = -1) -> bytes:
        self._left -= 1
        if not self._left:
            raise DestinationError("the source broke half way")
        return self._stream.read(100_000)


@pytest.mark.law(1, 7)
def test_an_encrypted_backup_is_copied_without_its_identity_and_restores_from_the_copy(
    sample: Sample, tmp_path: Path
) -> None:
    identity, recipient = generate_identity()
    made = backup(app=sample.name, encrypt_to=[recipient]).record
    assert made is not None
    sample.add_destination("second")
    result = copy_backup(made.id[-6:], f"{sample.name}-backups", [f"{sample.name}-second"])
    assert [place["status"] for place in result.as_json()["destinations"]] == ["committed"]
    assert json.loads(json.dumps(result.as_json()))["id"] == made.id
    assert sample.history("second").records == (made,)
    (tmp_path / "key").write_text(identity)
    request = RestoreRequest(sample.name, made.id, {"": str(tmp_path / "restored")}, identity_file=tmp_path / "key")
    restore_backup(request, sample.destination("second"), keyring().trust)
    assert sample.rows(tmp_path / f"restored/{sample.name}-db.sqlite") == sample.rows()
    assert (tmp_path / f"restored/{sample.name}-files/a.bin").read_bytes() == (sample.files / "a.bin").read_bytes()


@pytest.mark.law(7)
@pytest.mark.fault("F05")
def test_a_copy_goes_to_several_targets_through_a_small_spool_and_says_how_it_was_verified(places: Places) -> None:
    places.copy("b", "c")
    for name in "bc":
        (copied,) = places.history(name).records
        assert {artifact.verified for artifact in copied.artifacts} == {"read-back"}
        as_made = {"verified": "server-digest"}
        artifacts = tuple(artifact.model_copy(update=as_made) for artifact in copied.artifacts)
        assert copied.model_copy(update={"artifacts": artifacts}) == places.record
        for artifact in copied.artifacts:
            assert (places.root / name / artifact.key).read_bytes() == (places.root / "a" / artifact.key).read_bytes()


@pytest.mark.fault("D06", "O04")
def test_a_target_that_has_the_backup_is_left_as_it_is_and_that_is_success(places: Places) -> None:
    places.copy("b")
    before = {path: path.stat().st_mtime_ns for path in (places.root / "b" / APP).iterdir()}
    result = places.copy("b", "c")
    assert [place["status"] for place in result.as_json()["destinations"]] == ["already there", "committed"]
    assert {path: path.stat().st_mtime_ns for path in (places.root / "b" / APP).iterdir()} == before


@pytest.mark.law(2)
@pytest.mark.fault("D06", "C06", "D09")
@pytest.mark.parametrize("how", ["another", "damaged", "untrusted"])
def test_another_backup_of_that_id_is_an_error_and_is_not_touched(places: Places, how: str) -> None:
    record, ours = places.record, keyring().signer
    for artifact in record.artifacts:
        put(places.at("b"), artifact.key, (places.root / "a" / artifact.key).read_bytes())
    found = record.model_copy(update={"producer": {"host": "somebody else's"}}) if how == "another" else record
    put(places.at("b"), record.key, seal(found, Signer.generate() if how == "untrusted" else ours))
    if how == "damaged":
        (places.root / "b" / record.artifacts[0].key).unlink()
    before = {path.name: path.read_bytes() for path in (places.root / "b" / APP).iterdir()}
    copy = prepare(record.id, places.path("a"), [places.path("b")], [])
    assert isinstance(copy.run.failures[places.path("b")], AlreadyExists)
    assert not copy.run.live
    assert clean_up(copy) == []
    assert {path.name: path.read_bytes() for path in (places.root / "b" / APP).iterdir()} == before


@pytest.mark.fault("T11", "T12", "T02")
@pytest.mark.parametrize("change", [Flipped, Short])
def test_bytes_that_come_wrong_once_are_read_again(
    places: Places, monkeypatch: pytest.MonkeyPatch, change: object
) -> None:
    read = reads(monkeypatch, change, times=1)
    places.copy("b")
    assert len(read) == 2
    assert len(places.history("b").records) == 1


@pytest.mark.law(2, 5)
@pytest.mark.fault("T10", "T12", "C01")
@pytest.mark.parametrize(("change", "said"), [(Flipped, "its SHA-256 is not that"), (Broken, "broke half way")])
def test_bytes_that_stay_wrong_fail_the_copy_and_nothing_is_left_at_any_target(
    places: Places, monkeypatch: pytest.MonkeyPatch, change: object, said: str
) -> None:
    read = reads(monkeypatch, change, times=99)
    with pytest.raises((Corrupt, DestinationError), match=said):
        places.copy("b", "c")
    assert len(read) == (2 if change is Flipped else 1)
    assert places.lies("b") == places.lies("c") == set()


@pytest.mark.fault("C01", "C02", "C03", "C05", "D09")
@pytest.mark.parametrize("damage", ["first", "middle", "last", "short", "empty", "long", "swapped", "missing"])
def test_an_artifact_that_rots_at_the_origin_is_never_given_to_a_target(places: Places, damage: str) -> None:
    path = places.root / "a" / places.record.artifacts[0].key
    data = bytearray(path.read_bytes())
    if damage in ("first", "middle", "last"):
        data[{"first": 0, "middle": len(data) // 2, "last": -1}[damage]] ^= 1
    changed = {"short": data[:-1], "empty": b"", "long": data + b"x", "swapped": os.urandom(len(data))}
    path.write_bytes(changed.get(damage, data))
    if damage == "missing":
        path.unlink()
    if damage in ("short", "empty", "long", "missing"):  # seen before anything is read
        with pytest.raises(Corrupt):
            prepare(places.record.id, places.path("a"), [places.path("b")], [])
        return
    copy = prepare(places.record.id, places.path("a"), [places.path("b")], [])
    copy.run.limits = type(copy.run.limits)()  # a spool that takes it whole: nobody reads it here
    transfer = Transfer.begin(copy.run, "large", Origin(copy.origin, copy.record.artifacts[0]), attempt=1)
    try:
        with pytest.raises(Corrupt, match="nothing was copied"):
            read_origin(transfer)
        with pytest.raises(Exception, match="abandoned"):
            list(transfer.readers["checksum"])
    finally:
        transfer.spool.destroy()
        clean_up(copy)


@pytest.mark.fault("X08", "D18", "D01")
def test_a_target_that_fails_does_not_lose_the_other_copy_and_keeps_nothing(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, full = LocalUpload.append, places.path("b")

    def fail(self: LocalUpload, segment: Segment) -> None:
        if full in self._what and segment.index:
            raise NoSpace("the disk is full", "Free space there.")
        append(self, segment)

    monkeypatch.setattr(LocalUpload, "append", fail)
    with pytest.raises(CopyFailed, match="the disk is full") as failure:
        places.copy("b", "c")
    statuses = [place["status"] for place in failure.value.result.as_json()["destinations"]]
    assert statuses == ["failed", "committed"]
    assert places.lies("b") == set()
    assert len(places.history("c").records) == 1


@pytest.mark.law(7)
@pytest.mark.fault("T08", "C14")
def test_a_target_that_holds_other_bytes_gets_no_record(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    reads(monkeypatch, Flipped, times=99, of="/b")
    with pytest.raises(CopyFailed, match="SHA-256"):
        places.copy("b")
    assert places.lies("b") == set()


@pytest.mark.fault("D12", "Z11")
def test_what_is_not_trusted_is_not_copied_and_so_never_signed_by_us(places: Places) -> None:
    stranger = Signer.generate()
    record = commit(places.at("a"), "theirs", stranger, {"x": b"x"})
    with pytest.raises(WrongKey, match="not known here"):
        copy_backup(record.id, places.path("a"), [places.path("b")])
    assert not (places.root / "b/theirs").exists()
    copy_backup(record.id, places.path("a"), [places.path("b")], [key_id(stranger.public_key)])
    ours = Trust.of([keyring().signer.public_key])
    assert [r.id for r in Catalog(places.at("b"), "theirs", ours).history().records] == [record.id]


@pytest.mark.law(11)
@pytest.mark.fault("X02", "T03")
@pytest.mark.parametrize("same", [True, False])
def test_a_record_that_another_machine_writes_meanwhile_stands_with_all_its_artifacts(
    places: Places, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    real, other = Catalog.commit, places.record if same else places.record.model_copy(update={"producer": {}})

    def late(self: Catalog, record: BackupRecord, signer: Signer) -> object:
        put(self.store, record.key, seal(other, signer))  # type: ignore[arg-type]
        return real(self, record, signer)

    monkeypatch.setattr(Catalog, "commit", late)
    if same:
        assert [place["status"] for place in places.copy("b").as_json()["destinations"]] == ["already there"]
    else:
        with pytest.raises(CopyFailed, match="another backup of the id"):
            places.copy("b")
    assert places.history("b").records == (other,)


@pytest.mark.fault("D10")
def test_what_lay_at_a_target_before_is_used_or_stays(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    small = places.record.artifact("small")
    put(places.at("b"), small.key, b"small")
    read = reads(monkeypatch, Broken, times=1)
    with pytest.raises(DestinationError):
        places.copy("b")
    assert places.lies("b") == {small.key.partition("/")[2]}
    places.copy("b")
    assert len(read) == 2
    assert len(places.history("b").records) == 1


def test_a_new_directory_is_claimed_and_what_cannot_be_is_refused_before_anything(places: Places) -> None:
    def refused(backup: str, target: str, error: type[Exception], said: str) -> None:
        with pytest.raises(error, match=said):
            prepare(backup, places.path("a"), [places.path(target)], [])

    clean_up(prepare(places.record.id, places.path("a"), [places.path("new")], []))
    assert (places.root / "new/.prefect-backups.json").exists()
    (places.root / "full").mkdir()
    (places.root / "full/other").touch()
    copy = prepare(places.record.id, places.path("a"), [places.path("full")], [])
    clean_up(copy)
    assert "holds other things" in str(copy.run.failures[places.path("full")])
    refused(places.record.id, "a", ConfigError, "is where the backup lies")
    refused("20200101T000000Z-full-000000", "newer", ConfigError, "has no backup")
    assert not (places.root / "newer").exists()
    second = commit(places.at("a"), APP, keyring().signer, {"x": b"x"})
    refused(second.id[:4], "b", ConfigError, "fits 2 backups")


@pytest.mark.fault("D06")
def test_other_bytes_under_the_key_of_an_artifact_are_an_error_and_stay(places: Places) -> None:
    small = places.record.artifact("small")
    put(places.at("b"), small.key, b"other bytes")
    with pytest.raises(CopyFailed, match="other content"):
        places.copy("b")
    assert places.lies("b") == {small.key.partition("/")[2]}
    assert (places.root / "b" / small.key).read_bytes() == b"other bytes"
