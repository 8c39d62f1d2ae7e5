"""A database with an object of every kind comes back with each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.sources.base import RestoreOptions
from blocks.sources.postgres import PostgresDatabase
from tests.contract.source import take
from tests.peers.postgres import PostgresServer
from tests.sources.postgres_everything import EVERYTHING, KINDS, definitions, large_objects, objects
from tests.sources.test_postgres import door


@pytest.fixture(scope="module")
def everything(postgres_server: PostgresServer) -> Iterator[PostgresDatabase]:
    with postgres_server.database(EVERYTHING) as name:
        yield door(postgres_server, name)
        postgres_server.sql("DROP SUBSCRIPTION from_nowhere", name)


def test_the_database_of_these_tests_has_every_kind_of_object(
    everything: PostgresDatabase, postgres_server: PostgresServer
) -> None:
    assert set(objects(postgres_server, everything.database)) >= KINDS


@pytest.mark.law(6)
@pytest.mark.parametrize("format", ["custom", "plain"])
@pytest.mark.parametrize("jobs", [1, 4])
def test_each_object_comes_back_as_it_was(
    everything: PostgresDatabase, postgres_server: PostgresServer, tmp_path: Path, format: str, jobs: int
) -> None:
    source = everything.model_copy(update={"format": format})
    content = take(source, tmp_path)
    assert content.artifact.warnings == ()
    before = {look: look(postgres_server, source.database) for look in (objects, large_objects, definitions)}
    rows = postgres_server.rows(source.database)
    with source.scratch() as scratch:
        scratch.restore(content, RestoreOptions(jobs=jobs))
        for look, found in before.items():
            assert look(postgres_server, scratch.database) == found
        assert postgres_server.rows(scratch.database) == rows
        assert postgres_server.sql("SELECT last_value FROM orders_big_seq", scratch.database) == "5000"
