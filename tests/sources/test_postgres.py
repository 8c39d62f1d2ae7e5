"""PostgreSQL: the contract against a real server, and what is its own. Bad tools are scripts in ``bin_dir``."""

# ruff: noqa: S608  # the SQL of tests is made of their own names
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from prefect.blocks.core import Block
from pydantic import SecretStr, ValidationError

from blocks.servers import LocalServer
from blocks.sources import postgres_dump, postgres_facts, postgres_swap
from blocks.sources.base import Content, Dump, RestoreOptions
from blocks.sources.postgres import PostgresDatabase
from blocks.sources.postgres_plain import check_script
from cli.api import free_port
from tests.contract.source import (
    BlockSuite,
    SourceContract,
    children,
    content_of,
    drain,
    secrets_of,
    take,
    wait_until_gone,
)
from tests.peers.postgres import PASSWORD, PostgresServer, find_binaries
from vault.errors import (
    ConfigError,
    Corrupt,
    IncompleteDump,
    RestoreRefused,
    SourceError,
    SourceUnavailable,
    SpoolError,
)

OVERWRITE = RestoreOptions(overwrite=True)
ROLES = "DO $$ BEGIN CREATE ROLE seller; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
SHOP = (
    ROLES
    + """
    CREATE EXTENSION IF NOT EXISTS plpgsql;
    CREATE SCHEMA "odd schema";
    CREATE TYPE state AS ENUM ('new', 'paid');
    CREATE TABLE orders (id serial PRIMARY KEY, item text NOT NULL, state state DEFAULT 'new');
    INSERT INTO orders (item) SELECT repeat(md5(i::text), 8) FROM generate_series(1, 9000) i;
    CREATE TABLE "odd schema"."a ""table"" ; --" (x text);
    INSERT INTO "odd schema"."a ""table"" ; --" VALUES (E'tab\\t newline\\n back\\\\slash \\\\. $$'), (NULL);
    CREATE TABLE empty (n int);
    CREATE TABLE parent (n int) PARTITION BY RANGE (n);
    CREATE TABLE child PARTITION OF parent FOR VALUES FROM (0) TO (10);
    INSERT INTO parent VALUES (1), (2);
    CREATE VIEW paid AS SELECT * FROM orders WHERE state = 'paid';
    CREATE FUNCTION hello() RETURNS text LANGUAGE sql AS $f$ SELECT 'it''s; \\ {}' $f$;
    CREATE INDEX ON orders (item);
    ALTER TABLE empty OWNER TO seller;
    GRANT SELECT ON orders TO seller;
    SELECT lo_from_bytea(0, 'a large object');
    """
)


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[PostgresDatabase]:
    """A database with some of everything."""
    with postgres_server.database(SHOP) as name:
        yield door(postgres_server, name)
        for left in postgres_server.databases():
            if left.startswith(name):
                postgres_server.drop(left)


@pytest.fixture(scope="module")
def shop(postgres_server: PostgresServer) -> Iterator[PostgresDatabase]:
    """The same, for tests that only read it."""
    with postgres_server.database(SHOP, "shop") as name:
        yield door(postgres_server, name)


def door(server: PostgresServer, name: str, **fields: object) -> PostgresDatabase:
    given = {"password": SecretStr(server.password), "username": server.admin, **fields}
    return PostgresDatabase(host=server.host, port=server.port, database=name, **given)  # type: ignore[arg-type]


def ours(server: PostgresServer, name: str) -> list[str]:
    """The database and what was made beside it."""
    return [found for found in server.databases() if found.startswith(name[:40])]


def all_of(server: PostgresServer, name: str) -> dict[str, list[str]]:
    """Rows, and what else a dump has to bring back."""
    rest = server.sql(
        """
        SELECT json_agg(json_build_array(relname, relkind, pg_get_userbyid(relowner), relacl) ORDER BY relname)
            FROM pg_class WHERE relkind IN ('r', 'v', 'S')
            AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace);
        SELECT coalesce(json_agg(lo_get(oid) ORDER BY oid), '[]') FROM pg_largeobject_metadata;
        SELECT to_regproc('hello') IS NOT NULL;
        """,
        name,
    )
    return {**server.rows(name), "the rest": rest.splitlines()}


class Postgres(SourceContract):
    format = "custom"

    @pytest.fixture
    def source(self, database: PostgresDatabase, postgres_server: PostgresServer) -> PostgresDatabase:
        self.server = postgres_server
        return database.model_copy(update={"format": self.format})

    @pytest.fixture
    def empty(self, source: PostgresDatabase) -> PostgresDatabase:
        return source.model_copy(update={"database": f"{source.database}_restored"})

    @pytest.fixture
    def missing(self, source: PostgresDatabase) -> tuple[PostgresDatabase, str]:
        return source.model_copy(update={"database": "nosuch"}), '"nosuch" does not exist'

    def data(self, source: PostgresDatabase) -> dict[str, list[str]]:
        return all_of(self.server, source.database)

    def change(self, source: PostgresDatabase) -> None:
        self.server.sql("DELETE FROM orders WHERE id > 10; CREATE TABLE later (n int)", source.database)


class TestCustom(Postgres):
    pass


class TestPlain(Postgres):
    reduced = True
    format = "plain"


class TestBlock(BlockSuite):
    @pytest.fixture(params=[PostgresDatabase, LocalServer])
    def block(self, request: pytest.FixtureRequest) -> type[Block]:
        return request.param


def test_facts_name_tables_rows_roles_and_the_database(shop: PostgresDatabase) -> None:
    with shop.dump() as dump:
        drain(dump.stream)
    facts = dump.facts
    assert facts["tables"] == 4
    assert facts["rows"] == {
        "public.child": 2,
        "public.empty": 0,
        "public.orders": 9000,
        '"odd schema"."a ""table"" ; --"': 2,
    }
    assert facts["estimated_rows"] == {}
    assert facts["roles"] == ["admin", "seller"]
    assert facts["database"]["encoding"] == "UTF8"
    assert json.loads(json.dumps(facts)) == facts
    assert dump.warnings == []


def test_what_is_counted_is_what_is_dumped_whatever_is_written_meanwhile(
    database: PostgresDatabase, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            postgres_server.sql("INSERT INTO orders (item) VALUES ('x')", database.database)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        content = take(database, tmp_path)
    finally:
        stop.set()
        writer.join()
    with database.scratch() as scratch:
        facts = scratch.restore(content, RestoreOptions())
    assert facts["rows"] == content.artifact.facts["rows"]


def test_large_tables_are_estimated(shop: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_facts, "EXACT_ROWS", 500)
    with shop.dump() as dump:
        drain(dump.stream)
    assert list(dump.facts["estimated_rows"]) == ["public.orders"]
    assert "public.orders" not in dump.facts["rows"]


def test_counting_that_takes_too_long_ends_with_the_dump(
    shop: PostgresDatabase, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_dump, "GRACE", 0)
    monkeypatch.setattr(postgres_dump, "_COUNTING", "SELECT pg_sleep(1000);")
    before = children()
    with shop.dump() as dump:
        drain(dump.stream)
    assert dump.facts["rows"] == {}
    assert "public.orders" in dump.facts["estimated_rows"]
    assert children() == before


@pytest.mark.fault("S13", "S14")
def test_a_database_without_tables_is_dumped_with_a_warning(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with postgres_server.database() as name:
        source = door(postgres_server, name)
        content = take(source, tmp_path)
        assert content.artifact.warnings == ("the database has no tables",)
        with source.scratch() as scratch:
            assert scratch.restore(content, RestoreOptions())["tables"] == 0


# Tools that are missing, old, or lie


@pytest.fixture
def tools(postgres_server: PostgresServer, tmp_path: Path) -> Path:
    """A directory with the real tools, to be replaced one by one."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in ("psql", "pg_dump", "pg_restore"):
        (place / name).symlink_to(postgres_server.bin / name)
    return place


def fake(tools: Path, script: str, name: str = "pg_dump") -> None:
    """Put a script in the place of a tool; it says the right version, and ``$REAL`` is the real one."""
    path = tools / name
    real = find_binaries() / name
    path.unlink()
    version = f'[ "$1" = --version ] && exec {real} --version\n'
    path.write_text(f"#!/bin/bash\nREAL={real}\n{version}{textwrap.dedent(script)}\n")
    path.chmod(0o755)


def dump_with(source: PostgresDatabase, tools: Path, **fields: object) -> tuple[Dump, bytes]:
    with source.model_copy(update={"bin_dir": str(tools), **fields}).dump() as dump:
        data = drain(dump.stream)
    return dump, data


@pytest.mark.fault("S01")
@pytest.mark.parametrize("name", ["pg_dump", "psql"])
def test_a_missing_tool_is_named(shop: PostgresDatabase, tools: Path, name: str) -> None:
    (tools / name).unlink()
    source = shop.model_copy(update={"bin_dir": str(tools)})
    with pytest.raises(SourceError, match=rf"{name}.*not installed(.|\n)*postgresql-client") as caught:
        source.check()
    assert not isinstance(caught.value, SourceUnavailable)


@pytest.mark.fault("S02", "S03")
@pytest.mark.parametrize("output", ["", "head -c 10000000 /dev/zero;"])
def test_a_dump_that_fails_is_an_error_with_what_it_said(shop: PostgresDatabase, tools: Path, output: str) -> None:
    fake(tools, f"{output} echo 'pg_dump: error: permission denied for table secret_table' >&2; exit 1")
    with pytest.raises(SourceError, match=r"exit code 1: .*permission denied for table secret_table") as caught:
        dump_with(shop, tools)
    assert not isinstance(caught.value, SourceUnavailable)


@pytest.mark.fault("S04")
@pytest.mark.parametrize("format", ["custom", "plain"])
def test_a_dump_of_no_bytes_is_no_dump(shop: PostgresDatabase, tools: Path, format: str) -> None:
    fake(tools, "exit 0")
    with pytest.raises(IncompleteDump, match="wrote nothing"):
        dump_with(shop, tools, format=format)


@pytest.mark.fault("S05", "S07")
@pytest.mark.parametrize("format", ["custom", "plain"])
def test_a_cut_dump_is_no_dump_though_the_tool_says_so(shop: PostgresDatabase, tools: Path, format: str) -> None:
    # 120: what follows the last line of a script is for psql alone
    for cut in ("head -c -120", "head -c 1500000", "head -c 3000", "head -c 30", "head -c 7", "tail -c +2"):
        fake(tools, f'"$REAL" "$@" | {cut}; exit 0')
        with pytest.raises(IncompleteDump):
            dump_with(shop, tools, format=format)


@pytest.mark.fault("S05")
@pytest.mark.parametrize("large", ["'end'", "''", "decode(repeat('00', 20000), 'hex')", None])
def test_an_archive_that_lacks_its_last_bytes_is_no_dump(
    postgres_server: PostgresServer, tools: Path, large: str | None
) -> None:
    script = "CREATE TABLE t AS SELECT 1 AS n;" + (f"SELECT lo_from_bytea(0, {large})" if large else "")
    with postgres_server.database(script) as name:
        source = door(postgres_server, name)
        assert dump_with(source, tools)[1].startswith(b"PGDMP")
        for missing in (1, 4, 5, 6, 9):
            fake(tools, f'"$REAL" "$@" | head -c -{missing}')
            with pytest.raises(IncompleteDump, match="is cut after"):
                dump_with(source, tools)


@pytest.mark.fault("S05")
def test_a_dump_that_leaves_a_table_out_is_no_dump(shop: PostgresDatabase, tools: Path) -> None:
    fake(tools, '"$REAL" "$@" --exclude-table=orders')
    with pytest.raises(IncompleteDump, match=r"left out 1 of 4 tables: public\.orders"):
        dump_with(shop, tools)
    fake(tools, '"$REAL" "$@" --exclude-table-data=empty')
    with pytest.raises(IncompleteDump, match=r"left out 1 of 4 tables: public\.empty"):
        dump_with(shop, tools)


@pytest.mark.fault("S05")
def test_a_long_table_of_contents_is_read(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_dump, "FIRST_LOOK", 100)
    with postgres_server.database("CREATE TABLE t AS SELECT generate_series(1, 100000) AS n") as name:
        with door(postgres_server, name).dump() as dump:
            drain(dump.stream)
        assert dump.facts["rows"] == {"public.t": 100_000}


@pytest.mark.fault("S06")
def test_warnings_of_a_dump_are_kept(shop: PostgresDatabase, tools: Path) -> None:
    fake(tools, 'echo "pg_dump: warning: there are circular foreign-key constraints" >&2; exec "$REAL" "$@"')
    dump, _ = dump_with(shop, tools)
    assert dump.warnings == ["pg_dump: warning: there are circular foreign-key constraints"]


@pytest.mark.fault("S08")
def test_a_killed_dump_may_be_tried_again(shop: PostgresDatabase, tools: Path) -> None:
    fake(tools, "echo PGDMP; kill -9 $$")
    with pytest.raises(SourceUnavailable, match="pg_dump was killed by SIGKILL"):
        dump_with(shop, tools)


@pytest.mark.fault("S09")
def test_a_dump_that_hangs_is_stopped_with_all_it_started(shop: PostgresDatabase, tools: Path, tmp_path: Path) -> None:
    fake(tools, f"sleep 1000 & echo $! > {tmp_path}/pid; echo PGDMP; wait")
    before = children()
    with pytest.raises(SourceUnavailable, match="no sign of life for 2 seconds"):
        dump_with(shop, tools, idle_timeout=2)
    assert children() == before
    wait_until_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.fault("S11")
def test_tools_that_are_too_old_are_refused_with_both_versions(shop: PostgresDatabase, tools: Path) -> None:
    (tools / "pg_dump").unlink()
    (tools / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.2.24'\n")
    (tools / "pg_dump").chmod(0o755)
    source = shop.model_copy(update={"bin_dir": str(tools)})
    for act in (source.check, lambda: source.dump().__enter__()):
        with pytest.raises(SourceError, match=r"PostgreSQL \d\d\.\d+: .*9\.2\.24"):
            act()


@pytest.mark.fault("S12", "T01")
def test_a_refused_connection_may_be_tried_again(shop: PostgresDatabase) -> None:
    source = shop.model_copy(update={"port": free_port()})
    with pytest.raises(SourceUnavailable, match="Connection refused"):
        source.check()
    with pytest.raises(SourceUnavailable, match="could not translate host name"):
        shop.model_copy(update={"host": "nosuch.invalid"}).check()


@pytest.mark.fault("S12")
def test_a_wrong_password_will_not_do_and_is_not_shown(shop: PostgresDatabase) -> None:
    source = shop.model_copy(update={"password": SecretStr("wrong-canary-77")})
    with pytest.raises(SourceError, match="password authentication failed") as caught:
        source.check()
    assert not isinstance(caught.value, SourceUnavailable)
    assert "wrong-canary-77" not in repr(caught.value)


@pytest.mark.fault("S12")
def test_a_server_without_tls_is_refused_when_tls_is_asked_for(shop: PostgresDatabase) -> None:
    with pytest.raises(SourceError, match="SSL") as caught:
        shop.model_copy(update={"ssl_mode": "verify-full"}).check()
    assert not isinstance(caught.value, SourceUnavailable)


@pytest.mark.fault("S21")
def test_a_table_that_is_locked_for_long_may_be_tried_again(
    shop: PostgresDatabase, postgres_server: PostgresServer
) -> None:
    env = {"PATH": os.environ["PATH"], "PGPASSWORD": postgres_server.password}
    argv = [postgres_server.bin / "psql", "-XqAt", "-h", postgres_server.host, "-p", str(postgres_server.port)]
    with subprocess.Popen(
        [*argv, "-U", "admin", shop.database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, bufsize=0
    ) as migration:
        migration.stdin.write(b"BEGIN; LOCK TABLE orders; SELECT 'locked';\n")
        assert migration.stdout.readline() == b"locked\n"
        with pytest.raises(SourceUnavailable, match="no sign of life"):
            dump_with(shop, postgres_server.bin, idle_timeout=2)
        migration.stdin.close()


# Passwords and names


@pytest.mark.fault("N08")
@pytest.mark.law(10)
def test_the_password_is_in_no_argument_and_no_environment(shop: PostgresDatabase, tools: Path, tmp_path: Path) -> None:
    for name in ("psql", "pg_dump", "pg_restore"):
        fake(tools, f'(echo "$@"; env; ls -ld "$PGPASSFILE") >> {tmp_path}/seen; exec "$REAL" "$@"', name)
    source = shop.model_copy(update={"bin_dir": str(tools)})
    content = take(source, tmp_path)
    with source.scratch() as scratch:
        scratch.restore(content, RestoreOptions())
    seen = (tmp_path / "seen").read_text()
    assert "PGPASSFILE=" in seen
    assert "PGPASSWORD" not in seen
    assert secrets_of(source) == [PASSWORD]
    assert PASSWORD not in seen
    assert PASSWORD.replace("\\", "\\\\").replace(":", "\\:") not in seen
    assert {line.split()[0] for line in seen.splitlines() if "/secret" in line and "PG" not in line} == {"-rw-------"}


@pytest.mark.fault("N08")
@pytest.mark.parametrize("password", [r"pa\"ss\'#;%:\\", " ", ":", "\\", "*", "#x", "ü€"])
def test_any_password_is_handed_over_whole(postgres_server: PostgresServer, password: str) -> None:
    escaped = password.replace("'", "''")
    postgres_server.sql(f"CREATE ROLE odd LOGIN PASSWORD '{escaped}'")
    try:
        source = door(postgres_server, "postgres", username="odd", password=SecretStr(password))
        assert source.check().startswith("pg_dump")
    finally:
        postgres_server.sql("DROP ROLE odd")


@pytest.mark.fault("N08")
def test_a_password_with_a_line_break_is_refused_and_not_shown() -> None:
    with pytest.raises(ValidationError, match="line break") as caught:
        PostgresDatabase(database="shop", password=SecretStr("canary-1\ncanary-2"))
    assert "canary-1" not in repr(caught.value)


def test_the_operators_own_password_serves_where_none_is_saved(
    shop: PostgresDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = shop.model_copy(update={"password": SecretStr("")})
    with pytest.raises(SourceError, match="no password supplied"):
        source.check()
    own = tmp_path / "pgpass"
    escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    own.write_text(f"*:*:*:*:{escaped}\n")
    own.chmod(0o600)
    with monkeypatch.context() as patch:
        patch.setenv("PGPASSFILE", str(own))
        assert source.check()
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert source.check()


@pytest.mark.fault("N01", "N02", "N04", "N07", "N11", "N12")
@pytest.mark.parametrize(
    "name",
    [
        "x host=evil.example port=1",
        "postgresql://evil.example/x",
        "--output=pwned",
        "; touch pwned; $(touch pwned) `touch pwned`",
        "it's \\ \"quoted\" %s {x} {{y}} :x :'x' *.[a-z]*",
        "Größe 数 " + "x" * 51,
    ],
)
def test_an_odd_database_name_is_a_name(
    postgres_server: PostgresServer, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with postgres_server.database("CREATE TABLE t AS SELECT 1 AS n", name):
        source = door(postgres_server, name)
        content = take(source, tmp_path)
        postgres_server.sql("INSERT INTO t VALUES (2)", name)
        source.restore(content, OVERWRITE)
        assert postgres_server.rows(name) == {"public.t": ["(1)"]}
        assert PostgresDatabase.from_url(source.location).database == name
        with source.scratch() as scratch:
            scratch.restore(content, RestoreOptions())
        assert ours(postgres_server, name) == [name]
    assert not (tmp_path / "pwned").exists()


@pytest.mark.fault("N04", "N05")
@pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "\x1b[31m", "x\u202ey", "a\u2028b", "x" * 64, "ü" * 32])
def test_a_name_that_tools_or_terminals_would_change_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        PostgresDatabase(database=name)


@pytest.mark.fault("N01", "N07")
@pytest.mark.parametrize("host", ["a,b", "evil port=1", "x'", "a b", "../x", "-h", "a\nb", "x;y"])
def test_a_host_is_one_host(host: str) -> None:
    if host == "-h":
        assert "host='-h'" in PostgresDatabase(database="x", host=host)._endpoint().conninfo("x")
        return
    with pytest.raises(ValidationError):
        PostgresDatabase(database="x", host=host)


def test_a_url_says_where_the_database_is() -> None:
    shop = PostgresDatabase.from_url("postgresql://jo%40x@db.example:5433/my%20shop?sslmode=verify-full")
    assert (shop.username, shop.host, shop.port, shop.database) == ("jo@x", "db.example", 5433, "my shop")
    assert shop.ssl_mode == "verify-full"
    assert shop.location == "postgresql://jo%40x@db.example:5433/my%20shop"
    local = PostgresDatabase.from_url("postgres:///shop?host=/run/postgresql")
    assert (local.username, local.host) == ("", "/run/postgresql")
    assert PostgresDatabase.from_url(local.location) == local
    assert PostgresDatabase.from_url("postgresql://[::1]/shop").location == "postgresql://[::1]:5432/shop"


@pytest.mark.fault("O12")
@pytest.mark.parametrize("url", ["postgresql://jo:hunter2@db/shop", "postgresql://jo@db/shop?password=hunter2"])
def test_a_password_in_a_url_is_refused_with_the_better_way(url: str) -> None:
    with pytest.raises(ConfigError, match="pgpass") as caught:
        PostgresDatabase.from_url(url)
    assert "hunter2" not in repr(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://x/y",
        "postgresql://h:notaport/x",
        "postgresql://h:99999/x",
        "postgresql://h/",
        "postgresql://h/x?sslmode=maybe",
        "postgresql://h/x?service=evil",
        "postgresql://h/a%0Ab",
        "postgresql://h/%ff",
        "postgresql://[::1/x",
        "postgresql://h/x#f",
        "",
    ],
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        PostgresDatabase.from_url(url)


def test_the_local_socket_serves(postgres_server: PostgresServer) -> None:
    directory = postgres_server.sql("SHOW unix_socket_directories")
    assert door(postgres_server, "postgres").model_copy(update={"host": directory}).check()
    with pytest.raises(SourceUnavailable):
        door(postgres_server, "postgres").model_copy(update={"host": "/nosuch"}).check()


# Restore


@pytest.mark.law(8)
def test_an_empty_database_is_used_and_keeps_what_is_its_own(
    database: PostgresDatabase, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    content = take(database, tmp_path)
    with postgres_server.database() as name:
        target = door(postgres_server, name)
        postgres_server.sql(
            f"""ALTER DATABASE {name} SET search_path TO "odd schema", public;
            ALTER DATABASE {name} SET default_transaction_read_only TO on;
            ALTER ROLE seller IN DATABASE {name} SET work_mem TO '7MB';
            REVOKE ALL ON DATABASE {name} FROM PUBLIC; GRANT CONNECT ON DATABASE {name} TO seller;
            ALTER DATABASE {name} OWNER TO seller"""
        )
        own = f"""
            SELECT pg_get_userbyid(datdba), (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a)
                FROM pg_database WHERE datname = '{name}';
            SELECT setrole::regrole, unnest(setconfig) FROM pg_db_role_setting
                JOIN pg_database d ON d.oid = setdatabase WHERE datname = '{name}' ORDER BY 2"""
        before = postgres_server.sql(own)
        facts = target.restore(content, RestoreOptions())
        assert facts["notes"] == []
        assert postgres_server.sql(own) == before
        assert postgres_server.rows(name) == postgres_server.rows(database.database)


FILL = "CREATE TABLE precious AS SELECT 1 AS n"
FILLED = {"public.precious": ["(1)"]}


def filling(content: Content, server: PostgresServer, name: str) -> Content:
    """*content* during whose staging somebody fills the database *name*."""

    def opened() -> AbstractContextManager[BinaryIO]:
        server.sql(FILL, name)
        return content.open()

    return replace(content, open=opened)


@pytest.mark.law(8)
@pytest.mark.fault("A10")
def test_an_empty_database_that_is_filled_during_the_restore_is_left(
    database: PostgresDatabase, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    content = take(database, tmp_path)
    with postgres_server.database() as name:
        target = door(postgres_server, name)
        with pytest.raises(RestoreRefused, match=f"'{name}' is not empty any more(.|\n)*--overwrite"):
            target.restore(filling(content, postgres_server, name), RestoreOptions())
        assert postgres_server.rows(name) == FILLED
        assert ours(postgres_server, name) == [name]
        target.restore(content, OVERWRITE)
        assert postgres_server.rows(name) == postgres_server.rows(database.database)


@pytest.mark.law(8)
@pytest.mark.fault("A10")
def test_an_empty_database_that_is_filled_while_clients_are_disconnected_is_left(
    database: PostgresDatabase, postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = take(database, tmp_path)
    real, left = postgres_swap._disconnecting, [FILL]

    @contextmanager
    def disconnecting(target: postgres_swap.Target) -> Iterator[None]:
        if left:
            postgres_server.sql(left.pop(), target.name)
        with real(target):
            yield

    monkeypatch.setattr(postgres_swap, "_disconnecting", disconnecting)
    with postgres_server.database() as name:
        with pytest.raises(RestoreRefused, match="is not empty any more"):
            door(postgres_server, name).restore(content, RestoreOptions())
        assert not left
        assert postgres_server.rows(name) == FILLED
        assert ours(postgres_server, name) == [name]


def test_a_new_database_gets_owner_rights_and_settings_of_the_dumped(
    database: PostgresDatabase, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    name = database.database
    postgres_server.sql(
        f"ALTER DATABASE {name} OWNER TO seller; ALTER DATABASE {name} SET work_mem TO '7MB';"
        f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC"
    )
    content = take(database, tmp_path)
    postgres_server.drop(name)
    database.restore(content, RestoreOptions())
    rights = "(SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a)"
    settings = "(SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = d.oid)"
    own = f"SELECT pg_get_userbyid(datdba), {rights}, {settings} FROM pg_database d WHERE datname = '{name}'"
    assert postgres_server.sql(own) == "seller|{=T/seller,seller=CTc/seller}|{work_mem=7MB}"


def test_connected_clients_do_not_stop_an_overwrite(
    database: PostgresDatabase, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    content = take(database, tmp_path)
    before = all_of(postgres_server, database.database)
    stop = threading.Event()

    def reconnect() -> None:
        env = {"PATH": os.environ["PATH"], "PGPASSWORD": postgres_server.password}
        argv = [postgres_server.bin / "psql", "-Xq", "-h", postgres_server.host, "-p", str(postgres_server.port)]
        while not stop.is_set():
            subprocess.run(
                [*argv, "-U", "admin", "-d", database.database, "-c", "SELECT pg_sleep(1000)"],
                env=env,
                capture_output=True,
            )

    clients = [threading.Thread(target=reconnect) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        database.restore(content, OVERWRITE)
        assert all_of(postgres_server, database.database) == before
    finally:
        stop.set()
        while any(client.is_alive() for client in clients):
            postgres_server.sql(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database.database}'"
            )
            for client in clients:
                client.join(timeout=0.1)


def test_roles_that_are_missing_are_named_before_anything_is_touched(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    script = """CREATE ROLE "Odd owner"; CREATE ROLE grantee; CREATE TABLE t AS SELECT 1 AS n;
    ALTER TABLE t OWNER TO "Odd owner"; GRANT SELECT ON t TO grantee"""
    with postgres_server.database(script) as name:
        source = door(postgres_server, name)
        content = take(source, tmp_path)
        postgres_server.drop(name)
        postgres_server.sql('DROP ROLE "Odd owner"; DROP ROLE grantee')
        with pytest.raises(RestoreRefused, match="do not exist here: Odd owner, grantee"):
            source.restore(content, RestoreOptions())
        assert ours(postgres_server, name) == []
        broken = content_of(source, Dump(None, "pgdump", "pg_dump 15", ""), b"PGDMP" + bytes(99), tmp_path)
        object.__setattr__(broken.artifact, "facts", content.artifact.facts)
        roles = """SELECT string_agg(rolname || rolcanlogin, ',' ORDER BY 1) FROM pg_roles
            WHERE rolname IN ('Odd owner', 'grantee')"""
        with pytest.raises(SourceError):
            source.restore(broken, RestoreOptions(create_roles=True))
        assert postgres_server.sql(roles) == ""
        source.restore(content, RestoreOptions(create_roles=True))
        assert postgres_server.sql(roles) == "Odd ownerfalse,granteefalse"
        assert postgres_server.rows(name) == {"public.t": ["(1)"]}
        postgres_server.drop(name)
        postgres_server.sql('DROP ROLE "Odd owner"; DROP ROLE grantee')


@pytest.mark.fault("A10")
def test_the_servers_templates_are_never_restored_over(
    database: PostgresDatabase, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    content = take(database, tmp_path)
    with pytest.raises(RestoreRefused, match="template"):
        door(postgres_server, "template1").restore(content, OVERWRITE)


@pytest.fixture
def clerk(postgres_server: PostgresServer) -> Iterator[str]:
    """A user without any rights but to log in."""
    postgres_server.sql("CREATE ROLE clerk LOGIN PASSWORD 'pw'")
    yield "clerk"
    postgres_server.sql("DROP OWNED BY clerk; DROP ROLE clerk")


def test_who_may_not_make_databases_restores_into_an_empty_one_whole_or_not_at_all(
    postgres_server: PostgresServer, tmp_path: Path, clerk: str
) -> None:
    with postgres_server.database() as first, postgres_server.database() as second:
        for name in (first, second):
            postgres_server.sql("GRANT ALL ON SCHEMA public TO clerk", name)
        source = door(postgres_server, first, username=clerk, password=SecretStr("pw"))
        target = source.model_copy(update={"database": second})
        source_sql = "SET ROLE clerk; CREATE TABLE t AS SELECT generate_series(1, 1000) AS n; CREATE TABLE u AS TABLE t"
        postgres_server.sql(source_sql, first)
        content = take(source, tmp_path)
        with source.dump() as dump:
            data = drain(dump.stream)
        cut = content_of(source, dump, data[:-1000], tmp_path)
        with pytest.raises(SourceError):
            target.restore(cut, RestoreOptions())
        assert postgres_server.rows(second) == {}
        with pytest.raises(RestoreRefused, match="is not empty any more"):
            target.restore(filling(content, postgres_server, second), RestoreOptions())
        assert postgres_server.rows(second) == FILLED
        postgres_server.sql("DROP TABLE precious", second)
        target.restore(content, RestoreOptions())
        assert postgres_server.rows(second) == postgres_server.rows(first)
        with pytest.raises(RestoreRefused, match="may not create databases"):
            target.restore(content, OVERWRITE)
        postgres_server.sql("DROP OWNED BY clerk", first)
        postgres_server.sql("DROP OWNED BY clerk", second)


@pytest.mark.fault("A06")
def test_a_dump_with_other_rows_than_its_record_is_not_restored(
    database: PostgresDatabase, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    content = take(database, tmp_path)
    facts = {**content.artifact.facts, "rows": {**content.artifact.facts["rows"], "public.empty": 1}}
    object.__setattr__(content.artifact, "facts", facts)
    before = all_of(postgres_server, database.database)
    with pytest.raises(Corrupt, match=r"public\.empty has 0 rows instead of 1"):
        database.restore(content, OVERWRITE)
    assert all_of(postgres_server, database.database) == before
    assert ours(postgres_server, database.database) == [database.database]


@pytest.mark.fault("F03", "A14")
@pytest.mark.parametrize("format", ["custom", "plain"])
def test_a_restore_that_fails_half_way_leaves_the_live_database(
    database: PostgresDatabase, postgres_server: PostgresServer, tmp_path: Path, format: str
) -> None:
    source = database.model_copy(update={"format": format})
    with source.dump() as dump:
        data = drain(dump.stream)
    before = all_of(postgres_server, database.database)
    bad = data.replace(b"CREATE INDEX", b"CREATE INDEY", 1)
    assert bad != data
    for content in (
        content_of(source, dump, bad, tmp_path),
        content_of(source, dump, data[: len(data) // 2], tmp_path),
    ):
        with pytest.raises((SourceError, RestoreRefused)):
            source.restore(content, OVERWRITE)
        assert all_of(postgres_server, database.database) == before
        assert ours(postgres_server, database.database) == [database.database]


@pytest.mark.fault("F03")
def test_a_full_disk_leaves_the_live_database(
    database: PostgresDatabase, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    content = take(database, tmp_path)
    before = all_of(postgres_server, database.database)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", content.work], check=True)
    try:
        with pytest.raises(SpoolError, match="No space left"):
            database.restore(content, OVERWRITE)
        assert os.listdir(content.work) == []
    finally:
        subprocess.run(["umount", content.work], check=True)
    assert all_of(postgres_server, database.database) == before


RESTORE = """
import sys, pickle
from pathlib import Path
from pydantic import SecretStr
from blocks.sources.base import Dump, RestoreOptions
from blocks.sources.postgres import PostgresDatabase
from tests.contract.source import content_of
work, port, name, password = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
source = PostgresDatabase(host="127.0.0.1", port=port, username="admin", database=name, password=SecretStr(password))
data = (work / "dump").read_bytes()
content = content_of(source, Dump(None, "pgdump", "pg_dump 15", "x"), data, work)
source.restore(content, RestoreOptions(overwrite=True))
"""


@pytest.mark.fault("K12")
@pytest.mark.parametrize(("point", "is_new"), [("restore:before-swap", False), ("restore:after-swap", True)])
def test_a_restore_that_is_killed_leaves_the_old_or_the_new(
    database: PostgresDatabase, postgres_server: PostgresServer, tmp_path: Path, point: str, is_new: bool
) -> None:
    name = database.database
    with database.dump() as dump:
        (tmp_path / "dump").write_bytes(drain(dump.stream))
    dumped = all_of(postgres_server, name)
    postgres_server.sql("DELETE FROM orders", name)
    live = all_of(postgres_server, name)
    argv = [sys.executable, "-c", RESTORE, str(tmp_path), str(postgres_server.port), name, PASSWORD]
    process = subprocess.Popen(argv, env={**os.environ, "BACKUPS_STOP_AT": point})
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), status
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert all_of(postgres_server, name) == (dumped if is_new else live)
    assert len(ours(postgres_server, name)) == 2
    wait_until_unlocked(postgres_server)
    assert subprocess.run(argv).returncode == 0
    assert all_of(postgres_server, name) == dumped
    assert ours(postgres_server, name) == [name]


def wait_until_unlocked(server: PostgresServer) -> None:
    while server.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") != "0":
        pass


def test_two_restores_of_one_database_do_not_run_at_once(
    database: PostgresDatabase, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    name = database.database
    with database.dump() as dump:
        (tmp_path / "dump").write_bytes(drain(dump.stream))
    argv = [sys.executable, "-c", RESTORE, str(tmp_path), str(postgres_server.port), name, PASSWORD]
    process = subprocess.Popen(argv, env={**os.environ, "BACKUPS_STOP_AT": "restore:before-swap"})
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), status
    (tmp_path / "second").mkdir()
    with pytest.raises(RestoreRefused, match=r"another restore(.|\n)*ClientAliveInterval"):
        database.restore(take(database, tmp_path / "second"), OVERWRITE)
    process.send_signal(signal.SIGCONT)
    assert process.wait() == 0
    assert ours(postgres_server, name) == [name]


# Scripts


@pytest.mark.fault("A07")
@pytest.mark.parametrize(
    "evil",
    [
        "\\! touch {canary}",
        "SELECT 1 \\! touch {canary}",
        "\\i /etc/passwd",
        "\\copy t to program 'touch {canary}'",
        "SELECT 1 \\g | touch {canary}",
        "\\o |touch {canary}",
        "\\connect postgres",
        "\\set x `touch {canary}`",
        "\\restrict x\n\\unrestrict x\n\\! touch {canary}",
        "/* /* */ */ \\! touch {canary}",
        "-- '\n\\! touch {canary}\n-- '",
        "SELECT $$x$$ \\! touch {canary}",
        "SELECT E'\\'' \\! touch {canary} '",
        "SET standard_conforming_strings = off; SELECT 'a\\'', ' \\! touch {canary}",
        "COPY (SELECT 1) TO PROGRAM 'touch {canary}';",
        "COPY public.nosuch FROM stdin;\n\\.\n\\! touch {canary}",
    ],
)
def test_a_script_with_commands_to_psql_is_refused(
    database: PostgresDatabase, postgres_server: PostgresServer, tmp_path: Path, evil: str
) -> None:
    canary = tmp_path / "canary"
    source = database.model_copy(update={"format": "plain"})
    with source.dump() as dump:
        data = drain(dump.stream)
    before = all_of(postgres_server, database.database)
    bad = evil.replace("{canary}", str(canary)).encode()
    for script in (data + b"\n" + bad + b"\n", bad + b"\n" + data):
        with pytest.raises(RestoreRefused, match="not one of pg_dump"):
            source.restore(content_of(source, dump, script, tmp_path), OVERWRITE)
    assert not canary.exists()
    assert all_of(postgres_server, database.database) == before


@pytest.mark.fault("A09")
@pytest.mark.parametrize(
    "evil",
    [
        "DROP DATABASE postgres;",
        "create role evil superuser;",
        "ALTER ROLE admin PASSWORD 'x';",
        "/* */ ALTER /* */ SYSTEM SET archive_command = 'touch pwned';",
        "CREATE USER evil SUPERUSER;",
    ],
)
def test_a_script_that_reaches_beyond_its_database_is_refused(tmp_path: Path, evil: str) -> None:
    script = tmp_path / "script.sql"
    script.write_text(f"SELECT 1;\n{evil}\n")
    with pytest.raises(RestoreRefused, match="it holds the statement"):
        check_script(script)


@pytest.mark.fault("A07")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECT 'no end",
        'SELECT "no end',
        "SELECT $a$ no end $b$;",
        "/* no end",
        "SELECT 1",
        "COPY t FROM stdin;\n1\n2\n",
    ],
)
def test_a_script_that_is_cut_is_refused(tmp_path: Path, text: str) -> None:
    script = tmp_path / "script.sql"
    script.write_text(text)
    with pytest.raises(RestoreRefused):
        check_script(script)


@pytest.mark.parametrize(
    "text",
    [
        'COPY public.t (a, "b;") FROM stdin;\n\\N\t\\\\!\n\'\n\\.\n\nSELECT 1;\n',
        "COPY t FROM stdin;\n\\.\nSELECT 1;",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; END;",
        "SELECT E'\\\\!', U&'x', $a$ \\! $b$ ' $a$, 'it''s', \"a\"\"\\\" , a$b$c, $1;",
        "CREATE USER MAPPING FOR x SERVER y; ALTER DEFAULT PRIVILEGES FOR ROLE x GRANT SELECT ON TABLES TO y;",
        "-- it's\n/* it's /* nested */ \\! */ SELECT 1 - -1 / 2;",
    ],
)
def test_what_pg_dump_writes_is_let_through(tmp_path: Path, text: str) -> None:
    script = tmp_path / "script.sql"
    script.write_text(text)
    check_script(script)


@pytest.mark.fault("A09")
def test_a_dump_of_another_kind_is_refused(shop: PostgresDatabase, tmp_path: Path) -> None:
    content = content_of(shop, Dump(None, "sqlite", "SQLite 3.40", ""), b"SQLite format 3\0", tmp_path)
    with pytest.raises(RestoreRefused, match="not made by pg_dump"):
        shop.restore(content, OVERWRITE)


def test_the_newest_dump_needs_a_pg_restore_that_knows_it(shop: PostgresDatabase, tmp_path: Path) -> None:
    content = content_of(shop, Dump(None, "pgdump", "pg_dump 99.1, PostgreSQL 99.1", ""), b"PGDMP", tmp_path)
    with pytest.raises(SourceError, match=r"99(.|\n)*apt-get install postgresql-client-99"):
        shop.restore(content, OVERWRITE)


@pytest.mark.law(4)
@pytest.mark.parametrize("format", ["custom", "plain"])
def test_the_line_in_the_record_restores_without_us(
    shop: PostgresDatabase, postgres_server: PostgresServer, format: str
) -> None:
    with shop.model_copy(update={"format": format}).dump() as dump:
        data = drain(dump.stream)
    with postgres_server.database() as name:
        where = f"host={postgres_server.host} port={postgres_server.port} user=admin dbname={name}"
        line = dump.restore_with.replace("TARGET", f"'{where}'")
        env = {"PATH": f"{postgres_server.bin}:{os.environ['PATH']}", "PGPASSWORD": PASSWORD}
        subprocess.run(["bash", "-c", line], input=data, env=env, check=True, stdout=subprocess.DEVNULL)
        assert all_of(postgres_server, name) == all_of(postgres_server, shop.database)
