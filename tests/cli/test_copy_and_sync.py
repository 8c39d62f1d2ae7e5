"""``backups copy`` and ``backups sync-catalog``, as a person types them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from blocks import App, LocalDestination
from blocks.signing_key import keyring
from tests.cli.conftest import Command
from tests.flows.committed import commit, put
from vault import known_signers
from vault.signing import Signer, key_id


@pytest.fixture
def disk(prefect_api: object, tmp_path: Path) -> LocalDestination:
    place = LocalDestination(root=tmp_path / "disk")
    place.prepare()
    return place


@pytest.fixture
def name(disk: LocalDestination) -> str:
    name = f"disk-{uuid4().hex[:8]}"
    disk.save(name)
    return name


def test_copy_takes_saved_destinations_and_paths_and_says_what_became_of_each(
    command: Command, disk: LocalDestination, name: str, tmp_path: Path
) -> None:
    record = commit(disk, "shop", keyring().signer, {"db": b"data"})
    done = command("copy", record.id[-6:], "--from", name, "--to", tmp_path / "b", "--to", tmp_path / "c", "--json")
    assert [(place["status"], place["verified"]) for place in done.json["destinations"]] == [
        ("committed", "read-back")
    ] * 2
    again = command("copy", record.id, "--from", tmp_path / "b", "--to", name)
    assert "was there already" in again.out
    assert f"backups restore shop {record.id} --from {name}" in again.out
    listed = command("list", "shop", "--from", tmp_path / "c", "--json").json
    assert [row["id"] for row in listed] == [record.id]


@pytest.mark.fault("N01", "N03", "N04")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("x;y", "--from", "{disk}", "--to", "/tmp/x"), 2, "not the id"),
        (("../x", "--from", "{disk}", "--to", "/tmp/x"), 2, "not the id"),
        (("20200101", "--from", "{disk}", "--to", "{disk}-b"), 2, "has no backup"),
        (("20200101", "--from", "nosuch", "--to", "{disk}-b"), 2, "there is no destination 'nosuch'"),
        (("20200101", "--from", "{disk}-none", "--to", "{disk}-b"), 1, "is its disk mounted?"),
        (("20200101", "--from", "{disk}", "--to", "{disk}-b", "--trust", "x"), 2, "32 hex digits"),
        (("20200101", "--from", "{disk}"), 2, "--to"),
    ],
)
def test_a_copy_that_cannot_be_says_why(
    command: Command, disk: LocalDestination, arguments: tuple[str, ...], code: int, said: str
) -> None:
    assert said in command("copy", *(argument.format(disk=disk.root) for argument in arguments), code=code).err


@pytest.mark.fault("D11", "C07")
def test_sync_catalog_shows_what_others_made_and_what_to_type_next(
    command: Command, disk: LocalDestination, name: str
) -> None:
    ours, theirs, known = keyring().signer, Signer.generate(), Signer.generate()
    known_signers.add(known_signers.default_path(), known.public_key)
    app = f"app-{uuid4().hex[:8]}"
    App(sources=["directory/x"]).save(app)
    commit(disk, app, ours, {"x": b"mine"})
    commit(disk, "unsaved", ours, {"x": b"mine"})
    commit(disk, "shop", theirs, {"x": b"1"}, datetime(2026, 1, 1, tzinfo=UTC))
    newest = commit(disk, "shop", theirs, {"x": b"2"}, datetime(2026, 1, 2, tzinfo=UTC))
    commit(disk, app, known, {"x": b"3"})
    put(disk, newest.key.replace("20260102", "20260103"), b"{}")
    rows = {(row["app"], row["signer"]): row for row in command("sync-catalog", "--from", name, "--json").json}
    assert set(rows) == {
        ("unsaved", key_id(ours.public_key)),
        ("shop", key_id(theirs.public_key)),
        (app, key_id(known.public_key)),
    }
    shop = rows["shop", key_id(theirs.public_key)]
    restore = f"backups restore shop {newest.id} --from {name} --to DIRECTORY"
    assert (shop["backups"], shop["newest"], shop["trusted"], shop["saved"]) == (2, newest.id, False, False)
    assert shop["next"] == [f"backups keys trust {theirs.public_key}", restore]
    assert rows[app, key_id(known.public_key)]["trusted"] is True
    shown = command("sync-catalog", "--from", name)
    assert f"backups keys trust {theirs.public_key}" in shown.out
    assert "compare its id" in shown.err
    assert "1 records at" in shown.err


def test_what_sync_catalog_says_next_works(command: Command, disk: LocalDestination, tmp_path: Path) -> None:
    theirs = Signer.generate()
    record = commit(disk, "shop", theirs, {"x": b"data"})
    (row,) = command("sync-catalog", "--from", disk.root, "--json").json
    trust, restore = (line.split()[1:] for line in row["next"])
    command(*trust)
    (row,) = command("sync-catalog", "--from", disk.root, "--json").json
    assert row["trusted"] is True
    assert row["next"] == [" ".join(["backups", *restore])]
    command("copy", record.id, "--from", disk.root, "--to", tmp_path / "b")
    refused = command(*restore[:-1], tmp_path / "restored", code=None)
    assert "--trust" not in refused.err, "the signer is known; what these bytes are is another matter"
    (tmp_path / "empty").mkdir()
    assert command("sync-catalog", "--from", tmp_path / "empty", code=1).err != ""
