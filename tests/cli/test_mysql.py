"""A MySQL database from the command line: saved, backed up, restored, and replaced with a safety backup first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.destinations import destination_from
from blocks.signing_key import known_trust
from blocks.sources.base import RestoreOptions
from tasks.restore import RestoreRequest, restore_backup
from tests.cli.conftest import Command
from tests.peers.mariadb import MariaDBServer, mariadb_server

__all__ = ["mariadb_server"]

ONE, TWO = {"t": ["1"]}, {"t": ["2"]}


@pytest.fixture
def shop(mariadb_server: MariaDBServer) -> Iterator[str]:
    with mariadb_server.database("CREATE TABLE t AS SELECT 1 AS n; CREATE VIEW v AS SELECT * FROM t") as name:
        yield name
        for left in mariadb_server.databases():
            if left.startswith(name):
                mariadb_server.drop(left)


@pytest.mark.law(8, 10)
def test_a_database_is_saved_backed_up_and_replaced_with_a_safety_backup_first(
    command: Command, mariadb_server: MariaDBServer, shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, disk = mariadb_server, str(tmp_path / "backups")
    (tmp_path / "password").write_text(server.password + "\n")
    where = ("--host", server.host, "--port", server.port, "--password-file", tmp_path / "password")
    added = ("source", "add", "mysql", f"{shop.replace('_', '-')}-db", "--database", shop, "--user", server.admin)
    wrong = command(*added[:5], "nosuch", *added[6:], *where, code=1)
    assert "Unknown database 'nosuch'" in wrong.err
    command(*added, *where)
    command("app", "add", "blog", "--source", added[3], "--to", disk)
    first = command("run", "blog", "--json").json
    server.sql("UPDATE t SET n = 2", shop)

    monkeypatch.setenv("MYSQL_PWD", server.password)
    url = f"mysql://{server.admin}@{server.host}:{server.port}/"
    refused = command("restore", "blog", first["id"], "--from", disk, "--to", url + shop, code=1)
    assert "--overwrite" in refused.err
    assert server.rows(shop) == TWO
    done = command("restore", "blog", first["id"], "--from", disk, "--to", url + shop, "--overwrite")
    assert server.rows(shop) == ONE

    told = re.search(r"backed up first, as (\S+) of (\S+) at", done.err)
    assert told, done.err
    saved, app = told.groups()
    assert app == "blog-before-restore"
    (only,) = [backup for backup in command("list", "blog", "--from", disk, "--json").json]
    assert only["id"] == first["id"]  # what was replaced is not the latest backup of the app
    command("restore", app, saved, "--from", disk, "--to", f"{url}{shop}_before")
    assert server.rows(f"{shop}_before") == TWO
    assert [name for name in server.databases() if name.startswith(shop)] == [shop, f"{shop}_before"]


@pytest.mark.law(8)
def test_nothing_is_replaced_where_the_safety_backup_fails(
    command: Command, mariadb_server: MariaDBServer, shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYSQL_PWD", mariadb_server.password)
    disk = tmp_path / "backups"
    url = f"mysql://{mariadb_server.admin}@{mariadb_server.host}:{mariadb_server.port}/{shop}"
    command("run", "--app", "blog2", "--source", url, "--to", disk)
    mariadb_server.sql("UPDATE t SET n = 2; CREATE TABLE gone (n int); CREATE VIEW broken AS SELECT * FROM gone", shop)
    mariadb_server.sql("DROP TABLE gone", shop)  # now the tool cannot dump it
    failed = command("restore", "blog2", "latest", "--from", disk, "--to", url, "--overwrite", code=1)
    assert "broken" in failed.err
    assert mariadb_server.rows(shop) == TWO
    assert [name for name in mariadb_server.databases() if name.startswith(shop)] == [shop]
    assert list((disk / "blog2-before-restore").glob("2*")) == []


@pytest.mark.law(5, 8)
@pytest.mark.fault("O09")
def test_without_prefect_what_is_replaced_is_kept_beside(
    command: Command, mariadb_server: MariaDBServer, shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYSQL_PWD", mariadb_server.password)
    url = f"mysql://{mariadb_server.admin}@{mariadb_server.host}:{mariadb_server.port}/{shop}"
    command("run", "--app", "blog3", "--source", url, "--to", tmp_path / "backups")
    for kept in (1, 2):  # the first is no leftover to the second
        mariadb_server.sql("UPDATE t SET n = 2", shop)
        request = RestoreRequest("blog3", "latest", {"": url}, options=RestoreOptions(overwrite=True))
        result = restore_backup(request, destination_from(str(tmp_path / "backups")), known_trust())
        assert mariadb_server.rows(shop) == ONE
        beside = [name for name in mariadb_server.databases() if name.startswith(f"{shop}__kept_")]
        assert len(beside) == kept
        assert all(mariadb_server.rows(name) == TWO for name in beside)
        (note,) = result.artifacts[0].facts["notes"]
        assert any(name in note for name in beside)
