"""Pins and confirmations lie beside the record that they are about, and go with it."""

from __future__ import annotations

import pytest

from blocks.destinations.local import LocalDestination
from tests.flows.committed import commit, put
from vault import marks
from vault.catalog import Catalog
from vault.errors import NotFound
from vault.record import BackupId
from vault.signing import Signer, Trust

SIGNER = Signer.generate()
TRUST = Trust.of([SIGNER.public_key])


@pytest.fixture
def backup_id(store: LocalDestination) -> BackupId:
    return commit(store, "shop", SIGNER, {"files": b"content"}).backup_id


def test_a_pin_and_a_confirmation_are_found_and_taken_back(store: LocalDestination, backup_id: BackupId) -> None:
    catalog = Catalog(store, "shop", TRUST)
    for _ in range(2):
        marks.put(store, "shop", backup_id, "pinned", SIGNER)
        marks.put(store, "shop", backup_id, "confirmed", SIGNER)
    history = catalog.history()
    assert (history.pinned, history.confirmed, history.orphans, history.damaged) == ({backup_id}, {backup_id}, (), ())
    for _ in range(2):
        marks.take_back(store, "shop", backup_id, "pinned")
    assert (catalog.history().pinned, catalog.history().confirmed) == (frozenset(), {backup_id})


def test_they_go_with_their_backup_and_need_one(store: LocalDestination, backup_id: BackupId) -> None:
    marks.put(store, "shop", backup_id, "pinned", SIGNER)
    Catalog(store, "shop", TRUST).remove(backup_id)
    assert list(store.list("shop/")) == []
    with pytest.raises(NotFound):
        marks.put(store, "shop", backup_id, "pinned", SIGNER)
    assert list(store.list("shop/")) == []


@pytest.mark.law(4)
@pytest.mark.fault("Z11")
def test_a_confirmation_counts_only_with_a_signature_that_we_trust_over_that_very_backup(
    store: LocalDestination, backup_id: BackupId
) -> None:
    other = commit(store, "shop", SIGNER, {"files": b"content"}).backup_id
    marks.put(store, "shop", other, "confirmed", SIGNER)
    with store.open(f"shop/{other}.confirmed") as stream:
        genuine_elsewhere = stream.read()
    for data in (b"", b"[]", b'{"signer": 1}', genuine_elsewhere):
        put(store, f"shop/{backup_id}.confirmed", data)
        assert Catalog(store, "shop", TRUST).history().confirmed == {other}
        marks.take_back(store, "shop", backup_id, "confirmed")
    marks.put(store, "shop", backup_id, "confirmed", Signer.generate())
    assert Catalog(store, "shop", TRUST).history().confirmed == {other}
    marks.put(store, "shop", backup_id, "confirmed", SIGNER)
    assert Catalog(store, "shop", TRUST).history().confirmed == {other, backup_id}


def test_an_unsigned_pin_is_a_pin(store: LocalDestination, backup_id: BackupId) -> None:
    put(store, f"shop/{backup_id}.pinned", b"")
    assert Catalog(store, "shop", TRUST).history().pinned == {backup_id}
    marks.put(store, "shop", backup_id, "pinned", SIGNER)
