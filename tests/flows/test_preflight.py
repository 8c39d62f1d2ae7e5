"""A destination that does not answer for a moment when a run begins is asked again, before anything is read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from blocks.destinations import SftpDestination
from blocks.signing_key import keyring
from blocks.sources import Dump, SqliteDatabase
from flows.backup import backup
from flows.copy_backup import copy_backup
from flows.report import BackupFailed
from tasks.policy import RETRIES
from tests.destinations.test_sftp import on
from tests.flows.conftest import Sample
from tests.peers.proxy import Proxy, proxy
from tests.peers.sshd import running_sshd
from vault.catalog import Catalog
from vault.errors import DestinationUnavailable


class Blip(logging.Handler):
    """Has a line go again, if it *passes*, when it is said that what failed on it is tried again, but not at once."""

    def __init__(self, line: Proxy) -> None:
        super().__init__()
        self.line, self.said, self.passes = line, 0, True

    def emit(self, record: logging.LogRecord) -> None:
        if "trying again" in record.getMessage():
            self.said += 1
            if self.passes and self.said == RETRIES - 1:
                self.line.wire.cut_up = None


@pytest.fixture
def blip(sample: Sample) -> Iterator[Blip]:
    """A saved destination, ``…-far``, whose line refuses whatever comes; and what sets that right."""
    with running_sshd() as server, proxy(server.port) as line:
        place = on(server, Path("preflight/backups"), port=line.port)
        place.prepare()
        place.save(f"{sample.name}-far")
        line.wire.cut_up = 0
        made = Blip(line)
        logger = logging.getLogger("prefect")
        logger.addHandler(made)
        yield made
        logger.removeHandler(made)


def both(sample: Sample) -> list[str]:
    return [f"local-destination/{sample.name}-backups", f"sftp-destination/{sample.name}-far"]


@pytest.mark.fault("T01")
def test_a_destination_that_refused_a_connection_when_the_run_began_has_its_copy_all_the_same(
    sample: Sample, blip: Blip
) -> None:
    done = backup(app=sample.name, destinations=both(sample))
    assert [bool(landing.record) for landing in done.destinations] == [True, True]
    far = SftpDestination.load(f"{sample.name}-far")
    assert isinstance(far, SftpDestination)
    assert [record.id for record in Catalog(far, sample.name, keyring().trust).history().records] == [done.id]
    assert blip.said == RETRIES - 1


@pytest.mark.fault("T01")
def test_one_that_goes_on_refusing_is_out_after_as_many_tries_as_any_step_has_before_anything_is_read(
    sample: Sample, blip: Blip, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SqliteDatabase.dump

    def dump(self: SqliteDatabase) -> AbstractContextManager[Dump]:
        assert blip.said == RETRIES
        return real(self)

    monkeypatch.setattr(SqliteDatabase, "dump", dump)
    blip.passes = False
    with pytest.raises(BackupFailed) as failed:
        backup(app=sample.name, destinations=both(sample))
    near, far = failed.value.result.destinations
    assert near.record
    assert not far.record
    assert blip.said == RETRIES


@pytest.mark.fault("T01")
def test_where_all_fail_for_the_moment_the_whole_preflight_is_tried_again(sample: Sample, blip: Blip) -> None:
    with pytest.raises(DestinationUnavailable):
        backup(app=sample.name, destinations=both(sample)[1:])
    assert blip.said == 0, "its own tries are enough"


@pytest.mark.fault("T01")
def test_a_copy_asks_a_target_again_too(sample: Sample, blip: Blip) -> None:
    made = backup(app=sample.name)
    near, far = both(sample)
    assert copy_backup(backup=made.id, origin=near, destinations=[far]).id == made.id
    assert blip.said == RETRIES - 1
