"""Some tables of a database: each one whole, with what it needs, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.sources.base import Content, RestoreOptions
from blocks.sources.postgres import PostgresDatabase
from blocks.sources.postgres_contents import contents_of
from tests.contract.source import content_of, drain, take
from tests.peers.postgres import PostgresServer
from tests.sources.postgres_everything import EVERYTHING, definitions, objects
from tests.sources.test_postgres import door, ours
from vault.errors import Corrupt, RestoreRefused, SourceError

ODD = '"odd schema.with a dot"."a ""table"" ; --"'


@pytest.fixture(scope="module")
def everything(postgres_server: PostgresServer) -> Iterator[PostgresDatabase]:
    with postgres_server.database(EVERYTHING) as name:
        yield door(postgres_server, name)
        postgres_server.sql("DROP SUBSCRIPTION from_nowhere", name)


@pytest.fixture(scope="module")
def content(everything: PostgresDatabase, tmp_path_factory: pytest.TempPathFactory) -> Content:
    return take(everything, tmp_path_factory.mktemp("dump"))


@pytest.fixture
def target(everything: PostgresDatabase) -> Iterator[PostgresDatabase]:
    with everything.scratch() as scratch:
        yield scratch


def only(*tables: str) -> RestoreOptions:
    return RestoreOptions(tables=tables)


def of(server: PostgresServer, database: str, *tables: str) -> list[str]:
    """How pg_dump would make just these tables, with all that it takes for a part of them."""
    return definitions(server, database, *(f"--table={table}" for table in tables))


def test_a_table_comes_with_all_that_is_its_own_and_all_that_it_needs(
    everything: PostgresDatabase, content: Content, target: PostgresDatabase, postgres_server: PostgresServer
) -> None:
    facts = target.restore(content, only("orders", "sales.customers"))
    tables = ("public.orders", "sales.customers")
    assert of(postgres_server, target.database, *tables) == of(postgres_server, everything.database, *tables)
    found, whole = (postgres_server.rows(door.database) for door in (target, everything))
    assert found == {name: whole[name] for name in ("public.orders", "sales.customers")}
    assert facts["rows"] == {"public.orders": 900, "sales.customers": 2}
    assert facts["left_out"] == []
    there = objects(postgres_server, target.database)
    assert {"index", "trigger", "policy", "rule", "statistics object", "default value", "table constraint"} <= set(
        there
    )
    assert there["sequence"] == [
        *("public.lonely", "public.orders_big_seq", "public.orders_id_seq", "sales.customers_id_seq")
    ]
    assert not {"view", "materialized view", "publication", "subscription", "event trigger", "large object"} & set(
        there
    )
    assert (
        postgres_server.sql(
            "SELECT last_value FROM orders_big_seq; SELECT nextval('sales.customers_id_seq'); SELECT nextval('lonely')",
            target.database,
        ).split()
        == postgres_server.sql(
            "SELECT 5000; SELECT last_value + 1 FROM sales.customers_id_seq;"
            "SELECT CASE WHEN last_value + 3 > 100 THEN 1 ELSE last_value + 3 END FROM lonely",
            everything.database,
        ).split()
    )
    assert postgres_server.sql("UPDATE sales.customers SET note = 'x' RETURNING note", target.database) == "x!\nx!"


def test_what_needs_a_table_that_was_not_chosen_is_left_out_and_named(
    content: Content, target: PostgresDatabase, postgres_server: PostgresServer
) -> None:
    facts = target.restore(content, only("orders"))
    assert facts["left_out"] == ["FK CONSTRAINT public.orders orders_customer_fkey: it needs TABLE sales.customers"]
    assert list(postgres_server.rows(target.database)) == ["public.orders"]


def test_a_partitioned_table_comes_with_its_partitions_and_one_of_them_alone(
    everything: PostgresDatabase, content: Content, target: PostgresDatabase, postgres_server: PostgresServer
) -> None:
    target.restore(content, only("events"))
    whole = postgres_server.rows(everything.database)
    events = {name: rows for name, rows in whole.items() if "events" in name}
    assert postgres_server.rows(target.database) == events
    assert of(postgres_server, target.database, "*.events*") == of(postgres_server, everything.database, "*.events*")
    with everything.scratch() as alone:
        facts = alone.restore(content, only("events_2025"))
        rows = events["public.events_2025"]
        assert postgres_server.rows(alone.database) == {"public.events_2025": rows, "public.events": rows}
        assert facts["left_out"] == []


def test_a_table_that_inherits_brings_the_definition_of_its_parent(
    content: Content, target: PostgresDatabase, postgres_server: PostgresServer
) -> None:
    target.restore(content, only("birds"))
    assert postgres_server.rows(target.database) == {"public.animals": ["(owl,2)"], "public.birds": ["(owl,2,2)"]}


@pytest.mark.fault("N01", "N02", "N04", "N05", "N06", "N11")
@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("cache", "public.cache"),
        ("public.cache", "public.cache"),
        ('"public"."cache"', "public.cache"),
        ('a "table" ; --', ODD),
        (ODD, ODD),
        ('odd schema.with a dot.a "table" ; --', ODD),
        ("new\nline", 'public."new\nline"'),
        ("nothing", "public.nothing"),
        ("of_type", "public.of_type"),
        ("other_heap", "public.other_heap"),
    ],
    ids=range(10),
)
def test_a_table_is_found_by_its_exact_name(
    everything: PostgresDatabase,
    content: Content,
    target: PostgresDatabase,
    postgres_server: PostgresServer,
    name: str,
    table: str,
) -> None:
    target.restore(content, only(name))
    assert postgres_server.rows(target.database) == {table: postgres_server.rows(everything.database)[table]}


@pytest.mark.law(8)
@pytest.mark.fault("N03", "N11")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("order", r"no table 'order'(.|\n)*public\.orders"),
        ("ORDERS", r"no table 'ORDERS'(.|\n)*public\.orders"),
        ("order*", r"no table 'order\*'"),
        ("public.*", "no table"),
        ("sales.order", "no table"),
        ("%", r"no table '%'(.|\n)*It holds \d+ tables"),
        ("paid", r"no table 'paid'(.|\n)*VIEW public\.paid, which is no table"),
        ("words", r"FOREIGN TABLE public\.words, which is no table"),
        ("", "no table ''"),
        ("x\x1b[31m", r"no table 'x\\\\x1b\[31m'"),
        ("a\0b", "no table"),
        ("; DROP TABLE orders", "no table"),
    ],
    ids=range(12),
)
def test_a_name_that_is_not_in_the_dump_is_refused_before_anything_is_made(
    content: Content, target: PostgresDatabase, postgres_server: PostgresServer, name: str, said: str
) -> None:
    with pytest.raises(RestoreRefused, match=said):
        target.restore(content, only("cache", name))
    assert ours(postgres_server, target.database) == []
    assert list(content.work.iterdir()) == []


def test_a_name_that_two_schemas_have_is_asked_for_in_full(postgres_server: PostgresServer, tmp_path: Path) -> None:
    script = "CREATE SCHEMA a; CREATE TABLE a.t (n int); CREATE TABLE t (n int); INSERT INTO a.t VALUES (7)"
    with postgres_server.database(script) as name:
        source = door(postgres_server, name)
        content = take(source, tmp_path)
        with source.scratch() as scratch:
            with pytest.raises(RestoreRefused, match=r"several tables 't' in the dump: a\.t, public\.t"):
                scratch.restore(content, only("t"))
            scratch.restore(content, only("a.t"))
            assert postgres_server.rows(scratch.database) == {"a.t": ["(7)"]}


@pytest.mark.law(8)
@pytest.mark.fault("A10")
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_table_is_never_put_among_others(
    content: Content, postgres_server: PostgresServer, everything: PostgresDatabase, overwrite: bool
) -> None:
    options = replace(only("cache"), overwrite=overwrite)
    with postgres_server.database("CREATE TABLE cache AS SELECT 'precious' AS key") as name:
        target = door(postgres_server, name)
        with pytest.raises(RestoreRefused, match=r"never put among others(.|\n)*pg_dump --table"):
            target.check_target(options)
        with pytest.raises(RestoreRefused, match="never put among others"):
            target.restore(content, options)
        assert postgres_server.rows(name) == {"public.cache": ["(precious)"]}
        assert ours(postgres_server, name) == [name]


def test_an_empty_database_takes_a_table(content: Content, postgres_server: PostgresServer) -> None:
    with postgres_server.database() as name:
        door(postgres_server, name).restore(content, replace(only("cache"), overwrite=True))
        assert postgres_server.rows(name) == {"public.cache": ["(k,v)"]}


def test_of_a_plain_dump_no_table_can_be_taken_and_the_way_is_said(
    everything: PostgresDatabase, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    source = everything.model_copy(update={"format": "plain"})
    content = take(source, tmp_path)
    with source.scratch() as scratch:
        with pytest.raises(RestoreRefused, match=r"SQL script(.|\n)*pg_dump --table=NAME"):
            scratch.restore(content, only("orders"))
        assert ours(postgres_server, scratch.database) == []


@pytest.mark.fault("A06")
def test_rows_that_are_not_those_of_the_record_are_found_in_a_part_too(
    everything: PostgresDatabase, target: PostgresDatabase, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    content = take(everything, tmp_path)
    facts = {**content.artifact.facts, "rows": {**content.artifact.facts["rows"], "public.cache": 2}}
    object.__setattr__(content.artifact, "facts", facts)
    with pytest.raises(Corrupt, match=r"public\.cache has 1 rows instead of 2"):
        target.restore(content, only("cache"))
    assert ours(postgres_server, target.database) == []
    assert target.restore(content, only("nothing"))["rows"] == {"public.nothing": 0}


@pytest.mark.fault("A12", "C02")
def test_a_table_of_contents_that_we_do_not_know_is_refused(
    everything: PostgresDatabase, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with everything.dump() as dump:
        data = drain(dump.stream)
    newer = data[:6] + b"\x63" + data[7:]
    cases = ((newer, "archive of version 1.99"), (data[:4000], "within its table of contents"))
    for bad, said in cases:
        (tmp_path / "dump").write_bytes(bad)
        with pytest.raises((RestoreRefused, Corrupt), match=said):
            contents_of(tmp_path / "dump")
    with everything.scratch() as scratch:
        with pytest.raises((RestoreRefused, SourceError)):
            scratch.restore(content_of(everything, dump, newer, tmp_path), only("orders"))
        assert ours(postgres_server, scratch.database) == []


def test_a_pg_restore_that_reads_another_table_of_contents_than_we_do_is_not_believed(
    everything: PostgresDatabase, content: Content, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    tools = tmp_path / "bin"
    shutil.copytree(postgres_server.bin, tools, symlinks=True)
    real = postgres_server.bin / "pg_restore"
    (tools / "pg_restore").unlink()
    (tools / "pg_restore").write_text(
        f'#!/bin/sh\n[ "$1" = --list ] && echo "999999; 1 1 TABLE x y z"\nexec {real} "$@"'
    )
    (tools / "pg_restore").chmod(0o755)
    target = everything.model_copy(update={"bin_dir": str(tools), "database": f"{everything.database}_other"})
    with pytest.raises(RestoreRefused, match="other entries"):
        target.restore(content, only("orders"))
    assert ours(postgres_server, target.database) == []
