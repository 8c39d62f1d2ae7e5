"""``backups restore APP --to-server NAME``: an app's databases on another server, which has a localhost of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from blocks import MySQLDatabase, PostgresDatabase
from blocks.loading import load
from tests.cli.conftest import Command
from tests.peers.mariadb import MariaDBServer, mariadb_server, running_mariadb
from tests.peers.network import network
from tests.peers.postgres import PostgresServer, postgres_server, running_server
from tests.peers.ssh_host import over, ssh_host
from tests.peers.sshd import SshServer as Sshd
from tests.sources import mysql, test_postgres

__all__ = ["mariadb_server", "postgres_server"]

ROLE = "shipper"
ORDERS = "CREATE TABLE orders (n int); INSERT INTO orders VALUES (1), (2);"
POSTGRES = f"{ORDERS} CREATE ROLE {ROLE}; GRANT SELECT ON orders TO {ROLE};"


@dataclass(frozen=True)
class Web2:
    """Another server: its databases listen on the ports that those of this machine have."""

    host: Sshd
    postgres: PostgresServer
    mariadb: MariaDBServer


@pytest.fixture(scope="module")
def web2(postgres_server: PostgresServer, mariadb_server: MariaDBServer) -> Iterator[Web2]:
    with (
        network() as other,
        ssh_host(within=other.within) as host,
        running_server(port=postgres_server.port, within=other.within) as postgres,
        running_mariadb(port=mariadb_server.port, within=other.within) as mariadb,
    ):
        over(host).save("t-web2", overwrite=True)
        yield Web2(host, postgres, mariadb)


@pytest.fixture
def shop(
    command: Command, postgres_server: PostgresServer, mariadb_server: MariaDBServer, tmp_path: Path
) -> Iterator[str]:
    """The id of a backup of an app with two databases, on this machine."""
    with (
        postgres_server.database(POSTGRES, "t_shop") as database,
        mariadb_server.database(ORDERS, "t_blog") as blog,
    ):
        test_postgres.door(postgres_server, database).save("t-shop-db", overwrite=True)
        mysql.door(mariadb_server, blog).save("t-shop-blog", overwrite=True)
        sources = ("--source", "t-shop-db", "--source", "t-shop-blog")
        command("destination", "add", "local", "t-disk", tmp_path / "disk")
        command("app", "add", "t-shop", *sources, "--to", "t-disk")
        yield command("run", "t-shop", "--json").json["id"]
        command("app", "remove", "t-shop")
        command("destination", "remove", "t-disk")
    postgres_server.sql(f"DROP ROLE {ROLE}")


@pytest.mark.law(8)
@pytest.mark.fault("A11")
def test_databases_are_restored_to_the_localhost_of_the_other_server(
    command: Command,
    shop: str,
    web2: Web2,
    postgres_server: PostgresServer,
    mariadb_server: MariaDBServer,
) -> None:
    postgres_server.sql("DELETE FROM orders WHERE n = 2", "t_shop")
    mariadb_server.sql("DELETE FROM orders WHERE n = 2", "t_blog")
    restore = ("restore", "t-shop", shop, "--to-server", "t-web2")
    where = f"on ssh://{web2.host.user}@{web2.host.host}:{web2.host.port}"
    plan = command(*restore, "--dry-run", "--json")
    assert {row["target"] for row in plan.json["artifacts"]} == {
        f"postgresql://admin@127.0.0.1:{postgres_server.port}/t_shop {where}",
        f"mysql://admin@127.0.0.1:{mariadb_server.port}/t_blog {where}",
    }
    assert not [row for row in plan.json["artifacts"] if row["replaces"] or row["refused"]]
    assert "as seen from" not in plan.err
    refused = command(*restore, "--yes", code=1).err  # what the one server has, the other may lack
    assert "do not exist here: shipper" in refused
    assert web2.postgres.databases() == []
    command(*restore, "--yes", "--create-roles")
    assert web2.postgres.rows("t_shop") == {"public.orders": ["(1)", "(2)"]}
    assert web2.mariadb.rows("t_blog") == {"orders": ["1", "2"]}
    assert postgres_server.rows("t_shop") == {"public.orders": ["(1)"]}
    assert mariadb_server.rows("t_blog") == {"orders": ["1"]}
    again = command(*restore, "--yes", code=1).err
    assert "the database 't_shop' is not empty" in again
    assert "the database 't_blog' is not empty" in again
    web2.postgres.drop("t_shop")
    web2.mariadb.drop("t_blog")


@pytest.mark.law(8)
@pytest.mark.fault("A11")
def test_a_database_that_is_named_by_its_host_may_be_the_one_in_use_and_the_plan_says_so(
    command: Command, shop: str, web2: Web2
) -> None:
    # No address of any network, and on that server, which has only its loopback, none that a packet is sent to.
    for ref, kind in (("t-shop-db", PostgresDatabase), ("t-shop-blog", MySQLDatabase)):
        saved = load(f"{kind.get_block_type_slug()}/{ref}", kind)
        saved.model_copy(update={"host": "192.0.2.1"}).save(ref, overwrite=True)
    said = command("restore", "t-shop", shop, "--to-server", "t-web2", "--dry-run", code=1).err
    warnings = [line for line in said.splitlines() if "192.0.2.1 is, as seen from ssh://" in line]
    assert {line.split()[1] for line in warnings} == {"t-shop-blog", "t-shop-db"}
    assert "--to t-shop-db=URL" in said
    url = f"postgresql://admin@127.0.0.1:{web2.postgres.port}/t_shop"
    one = command(
        *("restore", "t-shop", shop, "--to-server", "t-web2", "--source", "t-shop-db", "--dry-run"),
        *("--to", f"t-shop-db={url}"),
        code=None,
    )
    assert "as seen from" not in one.err
