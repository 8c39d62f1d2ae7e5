"""A whole backup, and its restore, with Google Drive beside a local directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.blocks.core import Block

from blocks import App, GoogleDriveDestination
from blocks.signing_key import keyring
from flows.backup import backup
from tasks.resolve import RestoreRequest
from tasks.restore import restore_backup
from tests.destinations.test_google_drive import destination, lies_in, pauses, server
from tests.flows.conftest import Sample
from tests.peers.drive import DriveServer
from vault.catalog import Catalog

__all__ = ["destination", "pauses", "server"]  # fixtures


@pytest.fixture
def both(
    sample: Sample, destination: GoogleDriveDestination, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GoogleDriveDestination]:
    """The sample app, with 5 MB that do not compress, goes to its directory and to Google Drive."""
    (sample.files / "large.bin").write_bytes(os.urandom(5_000_000))
    monkeypatch.setenv("BACKUPS_SPOOL_LIMIT", str(4_000_000))  # so that segments have 1 MB, and the spool fills
    destination.save(f"{sample.name}-drive")
    app = App.load(sample.name)
    assert isinstance(app, App)
    app.destinations.append(f"google-drive-destination/{sample.name}-drive")
    app.save(sample.name, overwrite=True)
    yield destination
    Block.delete(f"google-drive-destination/{sample.name}-drive")


@pytest.mark.law(1, 7)
@pytest.mark.fault("T02", "T03", "T05")
def test_a_backup_goes_to_google_drive_through_faults_and_comes_back(
    sample: Sample, both: GoogleDriveDestination, server: DriveServer, tmp_path: Path
) -> None:
    server.drive.fail("chunk", after=3, status=503)
    server.drive.fail("chunk", after=1, keep=300_000, cut="after")
    server.drive.fail("update", cut="after")
    server.drive.fail("list", after=7, status=401, reason="authError")
    result = backup(app=sample.name)
    (record,) = Catalog(both, sample.name, keyring().trust).history().records
    assert record.id == result.id
    assert {artifact.verified for artifact in record.artifacts} == {"server-digest"}
    assert lies_in(server) == {artifact.key for artifact in record.artifacts} | {record.key}
    target = tmp_path / "target"
    restore_backup(RestoreRequest(sample.name, "latest", {"": str(target)}), both, keyring().trust)
    name = f"{sample.name}-files"
    assert (target / name / "large.bin").read_bytes() == (sample.files / "large.bin").read_bytes()


@pytest.mark.law(7)
def test_a_run_proves_its_copy_by_googles_md5_where_google_has_no_other_digest(
    sample: Sample, both: GoogleDriveDestination, server: DriveServer
) -> None:
    server.drive.checksums = "md5"
    backup(app=sample.name)
    (record,) = Catalog(both, sample.name, keyring().trust).history().records
    assert {artifact.verified for artifact in record.artifacts} == {"server-digest"}


@pytest.mark.fault("T07", "D18", "X08")
def test_google_drive_that_fails_for_good_does_not_stop_the_other_copy(
    sample: Sample, both: GoogleDriveDestination, server: DriveServer
) -> None:
    server.drive.fail("chunk", after=2, status=403, reason="storageQuotaExceeded", times=1000)
    with pytest.raises(Exception, match="storageQuotaExceeded"):
        backup(app=sample.name)
    assert len(sample.history().records) == 1
    assert Catalog(both, sample.name, keyring().trust).history().records == ()
    assert lies_in(server) == set()


@pytest.mark.fault("T02", "X06")
def test_a_session_that_ends_under_way_is_begun_anew_from_the_spool(
    sample: Sample, both: GoogleDriveDestination, server: DriveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BACKUPS_SPOOL_LIMIT")  # the spool still has it all
    server.drive.fail("chunk", after=1, status=404, reason="notFound")  # after that of the probe
    server.drive.fail("status", status=404, reason="notFound")
    backup(app=sample.name)
    (record,) = Catalog(both, sample.name, keyring().trust).history().records
    keys = {artifact.key for artifact in record.artifacts} | {record.key}
    assert {name for name in lies_in(server) if not name.startswith("upload ")} == keys
    assert server.drive.count("start") == 1 + len(keys) + 1
