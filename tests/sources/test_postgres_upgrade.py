"""A server of PostgreSQL that was upgraded, or is older, since the backup was made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.sources.base import RestoreOptions
from blocks.sources.postgres import PostgresDatabase
from tests.contract.source import take
from tests.peers.postgres import PostgresServer
from tests.peers.postgres_majors import NEWER, OLDER, postgres_of
from tests.reduced import reduced
from tests.sources.test_postgres import SHOP, all_of, door, ours
from vault.errors import SourceError

OVERWRITE = RestoreOptions(overwrite=True, create_roles=True)


@pytest.fixture(scope="module")
def older() -> Iterator[PostgresServer]:
    with postgres_of(OLDER) as server:
        yield server


@pytest.fixture(scope="module")
def newer() -> Iterator[PostgresServer]:
    with postgres_of(NEWER) as server:
        yield server


@pytest.fixture
def shops(older: PostgresServer, newer: PostgresServer) -> Iterator[dict[str, PostgresDatabase]]:
    """A database of the same content on each, by the tools of its own version."""
    with older.database(SHOP, "shop"), newer.database(SHOP, "shop"):
        yield {
            "older": door(older, "shop", bin_dir=str(older.bin)),
            "newer": door(newer, "shop", bin_dir=str(newer.bin)),
        }


def content(server: PostgresServer) -> dict[str, list[str]]:
    """All there is; the right to MAINTAIN came with version 17, and an owner has all rights."""
    found = all_of(server, "shop")
    return {**found, "the rest": [line.replace("admin=arwdDxtm/", "admin=arwdDxt/") for line in found["the rest"]]}


@pytest.mark.fault("S22")
@pytest.mark.parametrize("format", reduced(["custom", "plain"], "custom"))
@pytest.mark.parametrize("tools", ["older", "newer"])
def test_a_backup_is_restored_to_a_server_that_was_upgraded_since(
    shops: dict[str, PostgresDatabase],
    older: PostgresServer,
    newer: PostgresServer,
    tools: str,
    format: str,
    tmp_path: Path,
) -> None:
    backup = take(shops["older"].model_copy(update={"format": format}), tmp_path)
    before = content(older)
    newer.sql("DELETE FROM orders; CREATE TABLE later (n int)", "shop")
    facts = shops["newer"].model_copy(update={"bin_dir": shops[tools].bin_dir}).restore(backup, OVERWRITE)
    assert content(newer) == before
    assert facts["rows"] == backup.artifact.facts["rows"]
    assert facts["notes"] == []
    again = take(shops["newer"], tmp_path)
    assert again.artifact.facts["rows"] == backup.artifact.facts["rows"]


@pytest.mark.fault("S11")
def test_tools_that_were_not_upgraded_with_the_server_are_refused_for_its_backups(
    shops: dict[str, PostgresDatabase],
) -> None:
    with pytest.raises(SourceError, match=r"the server is PostgreSQL 18\.\d+: its pg_dump has to be 18 or newer"):
        shops["newer"].model_copy(update={"bin_dir": shops["older"].bin_dir}).check()


@pytest.mark.fault("S22")
@pytest.mark.parametrize("tools", ["older", "newer"])
def test_a_backup_of_a_newer_server_says_so_where_an_older_one_does_not_take_it(
    shops: dict[str, PostgresDatabase], older: PostgresServer, tools: str, tmp_path: Path
) -> None:
    backup = take(shops["newer"], tmp_path)
    older.sql("DELETE FROM orders WHERE id > 10", "shop")
    before = content(older)
    target = shops["older"].model_copy(update={"bin_dir": shops[tools].bin_dir})
    said = {
        "older": r"its pg_restore has to be 18 or newer",
        "newer": r"transaction_timeout(.|\n)*backup is of PostgreSQL 18\.\d+, and this server is 16\.\d+",
    }
    with pytest.raises(SourceError, match=said[tools]):
        target.restore(backup, OVERWRITE)
    assert content(older) == before
    assert ours(older, "shop") == ["shop"]
