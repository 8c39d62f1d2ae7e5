"""Hooks: what they are told, when they run, how a failure of theirs is seen, and that nothing of them stays."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from prefect_shell import ShellOperation

from blocks import App, Directory, LocalDestination, SqliteDatabase
from blocks.destinations.local_upload import LocalUpload
from flows.backup import backup
from flows.report import BackupFailed
from tests.flows.conftest import Sample
from tests.peers.processes import descendants_gone
from vault.errors import ConfigError, DestinationUnavailable, HookFailed, NotFound, SourceError, UploadLost
from vault.spool import Segment
from vault.store import StoredObject
from vault.workspace import turns

SECRET = "canary-9f27c1"


def hook(sample: Sample, side: str, *commands: str, **fields: object) -> None:
    """Give the app a hook of these commands; *fields* with the name of a side are the app's, others the block's."""
    own = {name: value for name, value in fields.items() if name.startswith(side)}
    rest = {name: value for name, value in fields.items() if name not in own}
    name = f"{sample.name}-{side}"
    ShellOperation(commands=list(commands), **rest).save(name, overwrite=True)
    app = App.load(sample.name)
    app.model_copy(update={side: f"shell-operation/{name}", **own}).save(sample.name, overwrite=True)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_the_before_hook_comes_first_and_the_after_hook_before_what_was_read_is_sent(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, done = tmp_path / "log", tmp_path / "done"
    os.mkfifo(done)
    told = 'echo "$BACKUPS_APP $BACKUPS_TYPE $BACKUPS_ID $BACKUPS_READ"'
    hook(sample, "before", f'test -z "$(ls {sample.destination().root / sample.name})"', f"{told} >> {log}")
    hook(sample, "after", f"{told} >> {log}", f"echo > {done}", after_timeout=30)
    (sample.destination().root / sample.name).mkdir()
    real = LocalUpload.commit

    def commit(self: LocalUpload) -> StoredObject:
        if ".tar" in self._key:
            done.read_text()  # until the after hook has been run: it does not wait for us
        return real(self)

    monkeypatch.setattr(LocalUpload, "commit", commit)
    result = backup(app=sample.name)
    assert lines(log) == [f"{sample.name} full {result.id} ", f"{sample.name} full {result.id} whole"]
    assert result.warnings == ()
    assert [path for path in turns().iterdir() if path.suffix == ".hook"] == []


@pytest.mark.parametrize("commands", [["false | true"], ["false", "true"], ["exit 3"], ["nosuchcommand; true", "x"]])
def test_a_before_hook_that_fails_in_any_part_ends_the_run_before_anything_is_read(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[str]
) -> None:
    hook(sample, "before", *commands)
    hook(sample, "after", f"echo $BACKUPS_READ >> {tmp_path / 'log'}")
    monkeypatch.setattr(Directory, "dump", lambda self: pytest.fail("it was read"))
    with pytest.raises(HookFailed, match=f"before hook {sample.name}-before failed"):
        backup(app=sample.name)
    assert lines(tmp_path / "log") == ["failed"]
    assert (sample.history().records, sample.history().orphans) == ((), ())


def test_a_hook_that_may_fail_is_told_in_the_record(sample: Sample) -> None:
    hook(sample, "before", "echo no maintenance today", "exit 3", before_on_error="continue")
    hook(sample, "after", "exit 4", after_on_error="continue")
    result = backup(app=sample.name)
    record = sample.history().records[0]
    assert ["exit code 3" in record.warnings[0], "exit code 4" in record.warnings[1]] == [True, True]
    assert "no maintenance today" in record.warnings[0]
    assert set(record.warnings) <= set(result.warnings)


@pytest.mark.fault("S09")
@pytest.mark.parametrize("commands", ["sleep 1000", "sleep 1000 & wait", "trap '' TERM INT; sleep 1000 & sleep 1000"])
def test_a_hook_that_hangs_is_killed_with_all_that_it_has_started(sample: Sample, commands: str) -> None:
    hook(sample, "before", "echo waiting for the lock", commands, before_timeout=3)
    with pytest.raises(HookFailed, match=r"took longer than 3 s and was killed(.|\n)*waiting for the lock"):
        backup(app=sample.name)
    descendants_gone(os.getpid())


@pytest.mark.fault("S02")
def test_the_after_hook_runs_when_a_dump_has_failed_and_when_no_destination_is_left(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook(sample, "after", f"echo $BACKUPS_READ >> {tmp_path / 'log'}")

    def broken(self: SqliteDatabase) -> object:
        raise SourceError("the disk has failed")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteDatabase, "dump", broken)
        with pytest.raises(SourceError, match="the disk has failed"):
            backup(app=sample.name)

    append = LocalUpload.append

    def fail(self: LocalUpload, segment: Segment) -> None:
        if not self._key.startswith("probe/"):
            raise DestinationUnavailable("the network is away")
        append(self, segment)

    monkeypatch.setattr(LocalUpload, "append", fail)
    with pytest.raises(BackupFailed):
        backup(app=sample.name)
    said = lines(tmp_path / "log")
    assert said[0] == "failed"
    assert len(said) == 2


def test_a_run_whose_after_hook_fails_has_failed_and_its_backup_is_good(sample: Sample) -> None:
    hook(sample, "after", "echo maintenance is still on", "false")
    with pytest.raises(
        BackupFailed, match=r"committed at .*after hook .* failed(.|\n)*maintenance is still on"
    ) as failure:
        backup(app=sample.name)
    (record,) = sample.history().records
    assert failure.value.result.record == record


def test_what_a_hook_says_is_in_the_log_while_it_runs(
    sample: Sample, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    heard = tmp_path / "heard"

    def answer(record: logging.LogRecord) -> bool:
        if record.getMessage() == f"before hook {sample.name}-before: speak":
            heard.touch()
        return True

    caplog.handler.addFilter(answer)
    hook(sample, "before", f"echo speak; until [ -e {heard} ]; do sleep 0.1; done", before_timeout=60)
    assert backup(app=sample.name).record is not None
    caplog.handler.removeFilter(answer)


@pytest.mark.law(10)
@pytest.mark.fault("O12", "M04")
def test_what_a_hook_says_is_in_the_log_without_its_secrets_and_it_sees_none_of_ours(
    sample: Sample, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_KEY", "pnu_ours")
    hook(sample, "before", 'echo "token $TOKEN"', "echo to stderr >&2", "env | cut -d= -f1", env={"TOKEN": SECRET})
    hook(sample, "after", 'echo "$TOKEN"; false', env={"TOKEN": SECRET}, after_on_error="continue")
    result = backup(app=sample.name)
    said = [record.getMessage() for record in caplog.records]
    before = [line.partition(": ")[2] for line in said if line.startswith(f"before hook {sample.name}-before: ")]
    assert before[:2] == ["token ***", "to stderr"]
    assert "TOKEN" in before
    assert not [name for name in before if name.startswith("PREFECT")]
    assert not [line for line in (*said, *result.warnings) if SECRET in line]


@pytest.mark.fault("O07")
@pytest.mark.parametrize(
    ("fields", "message"),
    [({"before": "shell-operation/nosuch"}, "shell-operation/nosuch"), ({"shell": "sh"}, "may not be seen")],
)
def test_a_hook_that_is_missing_or_could_hide_a_failure_is_found_before_the_run_begins(
    sample: Sample, tmp_path: Path, fields: dict[str, str], message: str
) -> None:
    hook(sample, "after", f"touch {tmp_path / 'ran'}")
    if "shell" in fields:
        hook(sample, "before", "true", **fields)
    else:
        App.load(sample.name).model_copy(update=fields).save(sample.name, overwrite=True)
    with pytest.raises(ConfigError, match=message):
        backup(app=sample.name)
    assert not (tmp_path / "ran").exists()


def test_what_was_read_while_the_app_was_held_is_not_read_again_after_it(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook(sample, "after", "true")
    start, append, read = LocalDestination.upload, LocalUpload.append, Directory.dump
    dumped: list[Directory] = []

    def upload(self: LocalDestination, key: str, resume: str | None = None) -> object:
        if resume is not None:
            raise NotFound("there is no such upload")
        return start(self, key)

    def fail(self: LocalUpload, segment: Segment) -> None:
        if ".tar" in self._key:
            raise UploadLost("the destination has lost it")
        append(self, segment)

    def dump(self: Directory) -> object:
        dumped.append(self)
        return read(self)

    monkeypatch.setattr(LocalDestination, "upload", upload)
    monkeypatch.setattr(LocalUpload, "append", fail)
    monkeypatch.setattr(Directory, "dump", dump)
    with pytest.raises(UploadLost):
        backup(app=sample.name, type="files")
    assert len(dumped) == 1
