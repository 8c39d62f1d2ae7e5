"""The backup flow with real sources and real destinations."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, FlowRunFilter, FlowRunFilterId
from prefect.exceptions import ParameterTypeError

import flows.transfer
import tasks.cleanup
import tasks.retain
from blocks import App, Directory, LocalDestination
from blocks.destinations.local_upload import LocalUpload
from blocks.signing_key import keyring
from flows.backup import backup
from flows.prune import PruneRefused, prune
from flows.report import BackupFailed
from tasks.commit import commit_record
from tasks.preflight import Wanted, prepare_run
from tasks.resolve import RestoreRequest
from tasks.restore import restore_backup
from tasks.run import Run
from tests.flows.conftest import Sample
from tests.peers.prefect_worker import until
from vault.age import generate_identity
from vault.catalog import Catalog
from vault.errors import (
    BackupError,
    ConfigError,
    DestinationError,
    DestinationUnavailable,
    NoSpace,
    NotFound,
    SourceError,
)
from vault.record import BackupId, artifact_key, utc
from vault.sealing import seal
from vault.spool import Segment
from vault.workspace import default_root


@pytest.mark.law(1, 7)
def test_a_backup_of_a_database_and_a_directory_is_committed_with_its_proof(sample: Sample) -> None:
    result = backup(app=sample.name)
    (record,) = sample.history().records
    assert record.id == result.id
    assert record.type == "full"
    assert [artifact.source for artifact in record.artifacts] == [f"{sample.name}-db", f"{sample.name}-files"]
    assert {artifact.verified for artifact in record.artifacts} == {"read-back"}
    for artifact in record.artifacts:
        assert (sample.destination().root / artifact.key).stat().st_size == artifact.size
        assert {"dump", "upload", "verify"} <= set(artifact.seconds)


def test_a_type_takes_only_the_sources_of_that_type(sample: Sample) -> None:
    backup(app=sample.name, type="database")
    backup(app=sample.name, type="files")
    database, files = sample.history().records
    assert [a.kind for a in database.artifacts] == ["sqlite"]
    assert [a.kind for a in files.artifacts] == ["directory"]


def test_the_line_in_the_record_restores_with_standard_tools_alone(sample: Sample, tmp_path: Path) -> None:
    identity, recipient = generate_identity()
    backup(app=sample.name, encrypt_to=[recipient])
    (record,) = sample.history().records
    place = sample.destination().root / sample.name
    (place / "KEY.txt").write_text(identity)
    (place / "TARGET").mkdir()
    for artifact in record.artifacts:
        assert artifact.key.endswith(".zst.age")
        line = artifact.restore_with
        if artifact.kind == "sqlite":
            line = line.replace("TARGET", "TARGET/db.sqlite")
        subprocess.run(["bash", "-euo", "pipefail", "-c", line], cwd=place, check=True)
    assert (place / "TARGET/a.bin").read_bytes() == (sample.files / "a.bin").read_bytes()
    assert sample.rows(place / "TARGET/db.sqlite") == sample.rows()


def test_a_restore_of_the_whole_backup_gives_back_every_row_and_byte(sample: Sample, tmp_path: Path) -> None:
    identity, recipient = generate_identity()
    backup(app=sample.name, encrypt_to=[recipient])
    (tmp_path / "key").write_text(identity)
    target = tmp_path / "restored"
    request = RestoreRequest(sample.name, "latest", {"": str(target)}, identity_file=tmp_path / "key")
    restore_backup(request, sample.destination(), keyring().trust)
    assert sample.rows(target / f"{sample.name}-db.sqlite") == sample.rows()
    assert (target / f"{sample.name}-files/a.bin").read_bytes() == (sample.files / "a.bin").read_bytes()


def test_prefect_shows_each_step_and_names_the_run_after_app_type_and_id(
    sample: Sample, caplog: pytest.LogCaptureFixture
) -> None:
    state = backup(app=sample.name, return_state=True)
    result = state.result()
    place = f"{sample.name}-backups"
    wanted = {f"commit at {place}"}
    for source in (f"{sample.name}-db", f"{sample.name}-files"):
        wanted |= {f"dump {source}", f"checksum {source}", f"upload {source} to {place}", f"verify {source} at {place}"}
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(state.state_details.flow_run_id)
        tasks = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
        # Task runs reach the API as events, soon after the run, and in any order.
        until(lambda: wanted <= {task.name for task in client.read_task_runs(flow_run_filter=tasks)})
    assert run.name == f"{sample.name} full {result.id}"
    said = [record.getMessage() for record in caplog.records if record.name == "prefect.flow_runs"]
    assert any("verified by read-back" in line and str(sample.destination().root) in line for line in said)


@pytest.mark.law(2)
@pytest.mark.fault("X08", "D18")
def test_one_of_two_destinations_that_fails_does_not_lose_the_other_copy(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = sample.add_destination("backups"), sample.add_destination("bad")
    real = LocalDestination.upload

    def upload(self: LocalDestination, key: str, resume: str | None = None) -> object:
        if self.root.name == "bad" and not key.startswith("probe/"):
            raise NoSpace("the disk is full")
        return real(self, key, resume)

    monkeypatch.setattr(LocalDestination, "upload", upload)
    with pytest.raises(BackupFailed, match="the disk is full") as failure:
        backup(app=sample.name, destinations=[good, bad])
    statuses = {landing.name: bool(landing.record) for landing in failure.value.result.destinations}
    assert statuses == {f"{sample.name}-backups": True, f"{sample.name}-bad": False}
    assert len(sample.history().records) == 1
    bad_history = sample.history("bad")
    assert (bad_history.records, bad_history.damaged, bad_history.orphans) == ((), (), ())
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[f"backup-{sample.name}"]))
        (shown,) = client.read_artifacts(artifact_filter=wanted)
    rows = json.loads(str(shown.data))
    assert len({tuple(row) for row in rows}) == 1, "Prefect's UI shows the columns of the first row only"
    assert {row["destination"].rpartition("-")[2]: row["status"].partition(":")[0] for row in rows} == {
        "backups": "committed, verified by read-back",
        "bad": "FAILED",
    }


@pytest.mark.fault("T02", "T03")
def test_an_upload_that_fails_for_a_moment_is_resumed_and_the_dump_is_not_repeated(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str | None] = []
    real = LocalDestination.upload

    def upload(self: LocalDestination, key: str, resume: str | None = None) -> object:
        if ".json" not in key and not key.startswith("probe/"):
            calls.append(resume)
            if len(calls) == 1:
                raise DestinationUnavailable("the network is away")
        return real(self, key, resume)

    monkeypatch.setattr(LocalDestination, "upload", upload)
    backup(app=sample.name, type="files")
    assert len(calls) == 2
    assert len(sample.history().records) == 1


@pytest.mark.fault("T02")
@pytest.mark.parametrize(("failing", "dumps"), [(0, 1), (8, 2)], ids=["spooled", "gone"])
def test_an_upload_that_the_destination_lost_is_sent_again_from_the_spool_or_a_new_dump(
    sample: Sample, monkeypatch: pytest.MonkeyPatch, failing: int, dumps: int
) -> None:
    (sample.files / "large.bin").write_bytes(os.urandom(1 << 20))
    monkeypatch.setenv("BACKUPS_SPOOL_LIMIT", str(256 << 10))  # segments of 64 KiB
    begin, append, dumped, lost = LocalDestination.upload, LocalUpload.append, [], []

    def upload(self: LocalDestination, key: str, resume: str | None = None) -> object:
        if resume is not None:
            raise NotFound("there is no such upload")
        return begin(self, key)

    def fail_once(self: LocalUpload, segment: Segment) -> None:
        if segment.index == failing and not lost:
            lost.append(self)
            self.abort()
            raise DestinationUnavailable("the connection was reset")
        append(self, segment)

    def dump(self: Directory) -> object:
        dumped.append(self)
        return read(self)

    read = Directory.dump
    monkeypatch.setattr(LocalDestination, "upload", upload)
    monkeypatch.setattr(LocalUpload, "append", fail_once)
    monkeypatch.setattr(Directory, "dump", dump)
    backup(app=sample.name, type="files")
    monkeypatch.undo()
    assert (len(lost), len(dumped)) == (1, dumps)
    target = sample.root / "restored"
    restore_backup(RestoreRequest(sample.name, "latest", {"": str(target)}), sample.destination(), keyring().trust)
    assert (target / "large.bin").read_bytes() == (sample.files / "large.bin").read_bytes()


@pytest.mark.law(7)
@pytest.mark.fault("T08", "C14")
def test_a_destination_that_holds_other_bytes_gets_no_record(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    real, flips = LocalDestination.open, []

    def flipped(self: LocalDestination, key: str, offset: int = 0) -> object:
        if ".tar" in key and not flips:
            flips.append(key)
            path = self.root / key
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        return real(self, key, offset)

    monkeypatch.setattr(LocalDestination, "open", flipped)
    with pytest.raises(BackupFailed, match="SHA-256"):
        backup(app=sample.name, type="files")
    monkeypatch.undo()
    history = sample.history()
    assert (history.records, history.orphans) == ((), ())


@pytest.mark.law(5)
@pytest.mark.fault("S02", "S13")
def test_a_source_that_fails_leaves_nothing_and_the_old_backup_stays(sample: Sample) -> None:
    backup(app=sample.name)
    sample.database.write_bytes(b"SQLite format 3\0" + b"garbage" * 1000)
    with pytest.raises(SourceError):
        backup(app=sample.name)
    history = sample.history()
    assert len(history.records) == 1
    assert not history.orphans


@pytest.mark.fault("T06", "D03", "D05")
def test_a_destination_that_is_not_there_is_found_before_the_dump(sample: Sample) -> None:
    root = sample.destination().root
    shutil.rmtree(root)
    root.mkdir()
    with pytest.raises(DestinationError) as failure:
        backup(app=sample.name)
    assert str(root) in str(failure.value)
    assert list(root.iterdir()) == []


@pytest.mark.fault("S19")
def test_a_source_that_contains_its_destination_is_refused(sample: Sample) -> None:
    inside = LocalDestination(root=sample.files / "backups")
    inside.prepare()
    inside.save(f"{sample.name}-inside")
    with pytest.raises(ConfigError, match="back itself up"):
        backup(app=sample.name, destinations=[f"local-destination/{sample.name}-inside"])


@pytest.mark.fault("F01")
def test_a_destination_too_small_for_the_next_backup_is_refused_with_numbers(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup(app=sample.name)
    monkeypatch.setattr(LocalDestination, "free_space", lambda _self: 1000)
    with pytest.raises(NoSpace, match=r"1,000 bytes free.*the next one needs up to"):
        backup(app=sample.name)


@pytest.mark.law(4)
def test_keep_last_deletes_the_oldest_only_after_the_newest_is_committed(sample: Sample) -> None:
    app = App.load(sample.name)
    app.keep_last = 2
    app.save(sample.name, overwrite=True)
    ids = [backup(app=sample.name, type="files").id for _ in range(3)]
    assert [record.id for record in sample.history().records] == sorted(ids)[-2:]


@pytest.mark.fault("O06")
def test_a_run_whose_spool_is_lost_commits_nothing_and_the_next_one_begins_anew(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = LocalDestination.upload

    def upload(self: LocalDestination, key: str, resume: str | None = None) -> object:
        if ".tar" in key:
            for spool in default_root().glob("*/*.1"):
                shutil.rmtree(spool)
        return real(self, key, resume)

    monkeypatch.setattr(LocalDestination, "upload", upload)
    with pytest.raises(BackupError, match="is gone"):
        backup(app=sample.name, type="files")
    monkeypatch.setattr(LocalDestination, "upload", real)
    assert (sample.history().records, sample.history().orphans) == ((), ())
    backup(app=sample.name, type="files")
    assert len(sample.history().records) == 1


@pytest.mark.law(8)
@pytest.mark.fault("A15")
def test_nothing_that_a_record_says_decides_where_a_restore_writes(sample: Sample, tmp_path: Path) -> None:
    record = backup(app=sample.name, type="files").record
    assert record is not None
    victim = tmp_path / "victim"
    hostile = record.artifacts[0].model_copy(
        update={"facts": {**record.artifacts[0].facts, "path": str(victim)}, "restore_with": f"touch {victim}"}
    )
    path = sample.destination().root / record.key
    path.write_bytes(seal(record.model_copy(update={"artifacts": (hostile,)}), keyring().signer))
    request = RestoreRequest(sample.name, "latest", {"": str(tmp_path / "target")})
    restore_backup(request, sample.destination(), keyring().trust)
    assert not victim.exists()
    assert (tmp_path / "target/b.txt").read_text() == "b"
    for key in (f"{sample.name}/../../victim", f"/victim/{record.id}.x.tar", f"other/{record.id}.x.tar"):
        with pytest.raises(BackupError):
            seal(record.model_copy(update={"artifacts": (hostile.model_copy(update={"key": key}),)}), keyring().signer)


@pytest.mark.law(4)
def test_retention_keeps_the_last_backup_of_a_source_that_no_newer_one_holds(sample: Sample) -> None:
    whole = backup(app=sample.name, type="files").id
    app = App.load(sample.name)
    Directory(path=sample.files).save(f"{sample.name}-other")
    app.sources, app.keep_last = [f"directory/{sample.name}-other"], 1
    app.save(sample.name, overwrite=True)
    backup(app=sample.name, type="files")
    newest = backup(app=sample.name, type="files").id
    assert {record.id for record in sample.history().records} == {whole, newest}


@pytest.mark.law(4)
@pytest.mark.fault("Z11")
def test_a_run_that_would_delete_more_than_ten_backups_deletes_none_and_says_how_to_allow_it(sample: Sample) -> None:
    ids = [backup(app=sample.name, type="files").id for _ in range(2)]
    (record,) = [r for r in sample.history().records if r.id == ids[0]]
    catalog, ring = Catalog(sample.destination(), sample.name, keyring().trust), keyring()
    for day in range(1, 13):
        old = BackupId(record.backup_id.created_at - timedelta(days=day), "files", "abcdef")
        key = artifact_key(sample.name, old, record.artifacts[0].source, "tar.zst")
        upload = sample.destination().upload(key)
        upload.append(Segment.of((sample.destination().root / record.artifacts[0].key).read_bytes()))
        upload.commit()
        artifact = record.artifacts[0].model_copy(update={"key": key})
        fields = {"id": str(old), "created_at": utc(old.created_at), "artifacts": (artifact,)}
        catalog.commit(record.model_copy(update=fields), ring.signer)
    app = App.load(sample.name)
    app.keep_last = 1
    app.save(sample.name, overwrite=True)
    result = backup(app=sample.name, type="files")
    assert len(sample.history().records) == 15
    assert any(f"backups prune {sample.name} --max-deletes 14" in warning for warning in result.warnings)
    with pytest.raises(PruneRefused, match="more than 13"):
        prune(app=sample.name, max_deletes=13)
    assert len(sample.history().records) == 15
    prune(app=sample.name, max_deletes=14)
    assert len(sample.history().records) == 1


@pytest.mark.law(1, 2)
@pytest.mark.fault("K13")
def test_a_run_that_is_interrupted_waits_for_its_uploads_before_it_cleans_up(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited, commit, clean = flows.transfer.wait, LocalUpload.commit, tasks.cleanup.clean_up
    cleaning = threading.Event()

    def interrupted(futures: list[object], timeout: float | None = None) -> object:
        done = waited(futures, timeout)
        if timeout is None:
            raise KeyboardInterrupt
        return done

    def late_commit(self: LocalUpload) -> object:
        if ".tar" in self._key:
            cleaning.wait(1.0)  # until it is too late, if cleanup does not wait for us
        return commit(self)

    def clean_up(run: Run) -> list[str]:
        cleaning.set()
        return clean(run)

    monkeypatch.setattr(flows.transfer, "wait", interrupted)
    monkeypatch.setattr(LocalUpload, "commit", late_commit)
    monkeypatch.setattr(tasks.cleanup, "clean_up", clean_up)
    with pytest.raises(KeyboardInterrupt):
        backup(app=sample.name, type="files")
    assert (sample.history().records, sample.history().orphans) == ((), ())


@pytest.mark.law(4)
@pytest.mark.fault("Z02", "X03")
def test_a_clock_that_is_ahead_does_not_make_living_uploads_look_dead(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = sample.destination()
    begun = place.upload(artifact_key(sample.name, BackupId.new(datetime.now(UTC), "files"), "living", "tar"))
    begun.append(Segment.of(b"con"))

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(days=365)

    monkeypatch.setattr(tasks.retain, "datetime", Ahead)
    backup(app=sample.name, type="files")
    begun.append(Segment.of(b"tent", 1, 3))
    assert begun.commit().size == 7


@pytest.mark.law(1, 3)
def test_a_run_that_is_interrupted_while_one_commit_is_done_keeps_that_backup(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = flows.transfer.wait

    def interrupted(futures: list[object], timeout: float | None = None) -> object:
        done = waited(futures, timeout)
        if timeout is None and sample.history().records:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(flows.transfer, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        backup(app=sample.name, type="files")
    history = sample.history()
    assert len(history.records) == 1
    assert not history.damaged


@pytest.mark.law(4)
@pytest.mark.fault("D11")
def test_retention_refuses_while_a_record_is_unreadable_and_the_backup_stays_good(sample: Sample) -> None:
    app = App.load(sample.name)
    app.keep_last = 1
    app.save(sample.name, overwrite=True)
    first = backup(app=sample.name, type="files")
    record = sample.destination().root / sample.name / f"{first.id}.json"
    good = record.read_bytes()
    record.write_bytes(b"{}")
    result = backup(app=sample.name, type="files")
    assert any("retention" in warning for warning in result.warnings)
    record.write_bytes(good)
    assert len(sample.history().records) == 2


@pytest.mark.fault("O05", "X02", "Z07")
def test_two_backups_are_two_runs_with_ids_of_their_own(sample: Sample) -> None:
    assert backup(app=sample.name, type="files").id != backup(app=sample.name, type="files").id
    assert len(sample.history().records) == 2


@pytest.mark.fault("O04", "D06")
def test_a_commit_that_is_repeated_after_it_succeeded_changes_nothing(sample: Sample) -> None:
    record = backup(app=sample.name).record
    assert record is not None
    run = prepare_run(Wanted(sample.name))
    try:
        run.id, run.producer, run.offset = record.backup_id, record.producer, record.offset
        run.completed_at = datetime.fromisoformat(record.completed_at)
        path = sample.destination().root / record.key
        before = path.read_bytes()
        for _ in range(2):
            assert commit_record(run, f"{sample.name}-backups", record.artifacts).record == record
        assert path.read_bytes() == before
    finally:
        run.close()


@pytest.mark.fault("O07", "C10")
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sources": ["sqlite-database/nosuch"]}, "saved as sqlite-database/nosuch"),
        ({"destinations": ["local-destination/nosuch"]}, "saved as local-destination/nosuch"),
        ({"destinations": []}, "no destination is named"),
        ({"sources": ["backup-app/itself"]}, "backup-app/itself"),
        ({"recipients": ["age1nonsense"]}, "recipient"),
    ],
)
def test_a_block_that_is_missing_or_does_not_fit_is_named_before_the_dump(
    sample: Sample, fields: dict[str, list[str]], message: str
) -> None:
    App.load(sample.name).save("itself", overwrite=True)
    App.load(sample.name).model_copy(update=fields).save(sample.name, overwrite=True)
    with pytest.raises(ConfigError, match=message):
        backup(app=sample.name)
    assert sample.history().records == ()


@pytest.mark.law(9)
@pytest.mark.fault("O08", "N01", "N02", "N03")
@pytest.mark.parametrize(
    "parameters",
    [
        {"app": "../etc"},
        {"app": "$(touch canary)"},
        {"app": "-rf"},
        {"app": "shop", "type": "everything"},
        {"app": "shop", "destinations": ["/etc"]},
        {"app": "shop", "command": "id"},
    ],
)
def test_parameters_are_checked_before_a_run_starts(prefect_api: object, parameters: dict[str, object]) -> None:
    with pytest.raises((ParameterTypeError, TypeError, ValueError)):
        backup(**parameters)  # type: ignore[arg-type]


def test_the_result_is_json_with_id_artifacts_and_destinations(sample: Sample) -> None:
    value = json.loads(json.dumps(backup(app=sample.name).as_json()))
    assert value["id"] == sample.history().records[0].id
    assert len(value["artifacts"]) == 2
    assert [place["status"] for place in value["destinations"]] == ["committed"]


@pytest.mark.fault("X04")
def test_a_restore_whose_backup_is_deleted_meanwhile_restores_nothing_and_says_so(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer = backup(app=sample.name), backup(app=sample.name)
    read = LocalDestination._read

    def late(self: LocalDestination, key: str, offset: int) -> object:
        if key.startswith(f"{sample.name}/{newer.id}.{sample.name}-files"):  # the database has been fetched by now
            Catalog(sample.destination(), sample.name, keyring().trust).remove(BackupId.parse(newer.id))
        return read(self, key, offset)

    targets = {f"{sample.name}-db": str(tmp_path / "db"), f"{sample.name}-files": str(tmp_path / "files")}
    request = RestoreRequest(sample.name, "latest", targets)
    with monkeypatch.context() as patch:
        patch.setattr(LocalDestination, "_read", late)
        with pytest.raises(NotFound, match=r"deleted meanwhile; nothing was restored(.|\n)*Begin again"):
            restore_backup(request, sample.destination(), keyring().trust)
    assert not (tmp_path / "db").exists()
    assert not (tmp_path / "files").exists()
    assert restore_backup(request, sample.destination(), keyring().trust).id == older.id


@pytest.mark.fault("X03")
def test_retention_never_touches_a_run_that_is_still_uploading(sample: Sample) -> None:
    app = App.load(sample.name)
    app.keep_last = 1
    app.save(sample.name, overwrite=True)
    upload = sample.destination().upload(f"{sample.name}/20200101T000000Z-files-aaaaaa.x.tar")
    upload.append(Segment.of(b"content"))
    backup(app=sample.name, type="files")
    backup(app=sample.name, type="files")
    stored = upload.commit()
    backup(app=sample.name, type="files")
    assert stored.key in {orphan.key for orphan in sample.history().orphans}
