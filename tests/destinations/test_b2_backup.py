"""A whole backup to a bucket and back: by the flow, by the command, and with what a store can do to it meanwhile."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from blocks import App
from blocks.destinations.b2 import B2Destination
from blocks.signing_key import keyring
from flows.backup import backup
from tasks.resolve import RestoreRequest
from tasks.restore import restore_backup
from tests.contract.destination import get
from tests.destinations.b2 import PART, Place
from tests.flows.conftest import Sample, sample
from tests.flows.test_secrets import files_with, shown_by_processes, spellings
from tests.peers.command import Machine
from tests.peers.prefect_server import prefect_server
from tests.peers.s3 import KEY_ID, SECRET
from tests.peers.s3_proxy import flip, reset
from vault.catalog import Catalog
from vault.errors import IntegrityError
from vault.record import BackupRecord

__all__ = ["sample"]

ALWAYS = 1000


def to_bucket(sample: Sample, destination: B2Destination) -> None:
    """From now on the app of *sample* is backed up there."""
    destination.save(f"{sample.name}-bucket", overwrite=True)
    app = App.load(sample.name)
    assert isinstance(app, App)
    app.destinations = [f"b2-destination/{sample.name}-bucket"]
    app.save(sample.name, overwrite=True)


def restored(sample: Sample, destination: B2Destination, target: Path) -> bytes:
    """What a restore of the newest backup gives of the large file."""
    request = RestoreRequest(sample.name, "latest", {"": str(target)}, source=f"{sample.name}-files")
    restore_backup(request, destination, keyring().trust)
    return (target / "large.bin").read_bytes()


def newest(sample: Sample, destination: B2Destination) -> BackupRecord:
    return Catalog(destination, sample.name, keyring().trust).history().find("latest", datetime.now(UTC))


@pytest.mark.law(7)
@pytest.mark.fault("T02", "T03")
def test_a_backup_whose_parts_fail_for_a_moment_is_committed_and_proven_by_the_stores_own_digest(
    sample: Sample, versioned: Place, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(5 * PART)
    (sample.files / "large.bin").write_bytes(data)
    monkeypatch.setenv("BACKUPS_SPOOL_LIMIT", str(4 * PART))
    destination = versioned.destination()
    to_bucket(sample, destination)
    versioned.proxy.inject("UploadPart", reset, 4, when=lambda call: call.part == 3)
    backup(app=sample.name, type="full")
    record = newest(sample, destination)
    assert {artifact.verified for artifact in record.artifacts} == {"server-digest"}
    assert restored(sample, destination, sample.root / "restored") == data
    assert versioned.server.uploads(versioned.bucket) == []
    assert versioned.proxy.count("CreateMultipartUpload") == 1


@pytest.mark.law(8)
@pytest.mark.fault("C01", "C02", "C03")
@pytest.mark.parametrize(
    "harm",
    [flip, lambda data: data[:-1], lambda data: b"", lambda data: data + b"\0"],
    ids=["flipped", "truncated", "empty", "extended"],
)
def test_an_artifact_that_is_not_what_it_was_is_not_restored(
    sample: Sample, plain: Place, harm: Callable[[bytes], bytes]
) -> None:
    (sample.files / "large.bin").write_bytes(os.urandom(100_000))
    destination = plain.destination(provider="other", prefix="office")
    to_bucket(sample, destination)
    backup(app=sample.name, type="files")
    (artifact,) = newest(sample, destination).artifacts
    whole = get(destination, artifact.key)
    plain.server.client.put_object(Bucket=plain.bucket, Key=f"office/{artifact.key}", Body=harm(whole))
    target = sample.root / "restored"
    with pytest.raises(IntegrityError):
        restored(sample, destination, target)
    assert not target.exists()
    plain.server.client.put_object(Bucket=plain.bucket, Key=f"office/{artifact.key}", Body=whole)
    assert restored(sample, destination, target) == (sample.files / "large.bin").read_bytes()


@pytest.mark.fault("D16")
def test_retention_where_a_lock_keeps_the_old_ones_says_until_when_and_the_run_succeeds(
    sample: Sample, locked: Place
) -> None:
    destination = locked.destination(object_lock_days=1)
    to_bucket(sample, destination)
    app = App.load(sample.name)
    assert isinstance(app, App)
    app.keep_last = 1
    app.save(sample.name, overwrite=True)
    backup(app=sample.name, type="files")
    result = backup(app=sample.name, type="files")
    assert result.warnings == ()
    newest_one, old = sample.retention()
    assert (newest_one["stays"], old["stays"]) == (True, True)
    assert "locked until" in str(old["why"])
    assert len(Catalog(destination, sample.name, keyring().trust).history().records) == 2


@pytest.mark.law(10)
@pytest.mark.fault("O12", "T06")
def test_the_command_saves_a_bucket_after_a_test_of_it_and_its_key_is_nowhere_to_be_seen(
    versioned: Place, tmp_path: Path
) -> None:
    for name in ("home", "server", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "data/a.txt").write_text("a")
    key, wrong = tmp_path / "key", tmp_path / "wrong"
    key.write_text(f"{SECRET}\n")
    wrong.write_text("K000wrong\n")
    store = ["--bucket", versioned.bucket, "--endpoint", versioned.proxy.endpoint, "--key-id", KEY_ID]
    add = ["destination", "add", "b2", "offsite", *store, "--provider", "b2"]
    with prefect_server(tmp_path / "server") as url:
        machine = Machine(tmp_path / "home", url)
        refused = machine.run(*add, ok=False)
        assert "--secret-file" in refused.stderr
        missing = machine.run(*add[:-2], "--bucket", "no-such-bucket", "--secret-file", str(key), ok=False)
        assert (missing.returncode, "bucket" in missing.stderr) != (0, False)
        assert machine.json("destination", "list") == []
        machine.run(*add, "--secret-file", str(key), "--prefix", "office")
        shown = machine.json("destination", "show", "offsite")
        assert (shown["bucket"], shown["key_id"], shown["prefix"]) == (versioned.bucket, KEY_ID, "office")
        machine.run("destination", "update", "offsite", "--secret-file", str(wrong), "--no-test")
        machine.run("destination", "update", "offsite", "--secret-file", str(key))
        ran = machine.start("run", "--app", "shop", "--source", f"files={tmp_path / 'data'}", "--to", "offsite")
        while ran.poll() is None:
            assert shown_by_processes(spellings(SECRET)) == []
        assert ran.returncode == 0, (machine.home / "output").read_text()
        (listed,) = machine.json("list", "shop", "--from", "offsite")
        assert listed["verified"] == "server-digest"
        machine.run("restore", "shop", "latest", "--from", "offsite", "--to", str(tmp_path / "restored"))
        assert (tmp_path / "restored/a.txt").read_text() == "a"
        steps = machine.json("destination", "test", "offsite")["steps"]
        assert [step["result"] for step in steps] == ["ok"] * len(steps)
        assert SECRET not in json.dumps([shown, listed, steps])
    assert files_with(tmp_path, spellings(SECRET)) == [key]
    everything = versioned.server.client.list_objects_v2(Bucket=versioned.bucket)["Contents"]
    for entry in everything:
        body = versioned.server.client.get_object(Bucket=versioned.bucket, Key=entry["Key"])["Body"].read()
        assert SECRET.encode() not in body
