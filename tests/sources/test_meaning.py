"""What a person types for a source or a target, and what is made of it."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path

import pytest

from blocks.sources import Directory, MySQLDatabase, PostgresDatabase, SqliteDatabase, source_from, target_for
from cli.adhoc import source_name
from tests.peers.child import as_nobody
from vault.errors import ConfigError


def test_a_source_is_what_lies_at_its_path(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE t (n)")
    connection.close()
    (tmp_path / "new.db").touch()
    assert source_from(str(tmp_path)) == Directory(path=tmp_path)
    assert source_from(str(tmp_path / "shop.db")) == SqliteDatabase(path=tmp_path / "shop.db")
    assert source_from(str(tmp_path / "new.db")) == SqliteDatabase(path=tmp_path / "new.db")
    assert source_from("sqlite:///srv/shop.db") == SqliteDatabase(path=Path("/srv/shop.db"))
    assert source_from("mysql://jo@db/shop") == MySQLDatabase(host="db", username="jo", database="shop")
    assert source_from("mariadb://jo@db/shop") == MySQLDatabase(host="db", username="jo", database="shop")
    assert source_from("postgresql://jo@db/shop") == PostgresDatabase(host="db", username="jo", database="shop")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mysql://jo@db/Shop%20One?socket=/run/mysqld/mysqld.sock", "app-shop-20one"),
        ("postgresql:///shop?host=/run/postgresql", "app-shop"),
        ("mysql:///app", "app-db"),
        ("sqlite:///srv/orders.sqlite", "app-orders"),
    ],
)
def test_a_source_is_named_by_its_database(text: str, name: str) -> None:
    assert source_name("app", source_from(text)) == name


@pytest.mark.parametrize("text", ["nosuch", "file/below"])
def test_a_source_that_is_not_there_is_said_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="does not exist"):
        source_from(str(tmp_path / text))


@pytest.mark.fault("A03")
def test_a_fifo_a_device_and_another_file_are_no_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "text").write_text("no database")
    for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path / "text"):
        with pytest.raises(ConfigError, match=r"neither a directory nor an SQLite(.|\n)*the directory they lie in"):
            source_from(str(path))


def test_a_source_that_may_not_be_read_is_named_with_what_to_do() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "closed").mkdir(mode=0o700)
        for path in (directory / "shop.db", directory / "closed" / "shop.db"):
            path.write_bytes(b"SQLite format 3\0")
            path.chmod(0o600)
            directory.chmod(0o755)
            said = as_nobody(lambda path=path: source_from(str(path)))
            assert said.startswith(f"ConfigError: source {path} cannot be read: Permission denied")
            assert "right to read it" in said


@pytest.mark.parametrize("text", ["./postgres", "postgresql", "a/b"])
def test_a_path_that_begins_as_a_scheme_does_is_a_path(text: str) -> None:
    assert target_for("directory", text) == Directory(path=Path(text).absolute())


@pytest.mark.law(10)
@pytest.mark.fault("O12")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:SECRET@h/db", "postgresql://h/db"),
        ("POSTGRES://SECRET@h:1/db", "POSTGRES://h:1/db"),
        ("postgresql://u:x@SECRET@h/db", "postgresql://h/db"),
        ("postgresql://u:x/SECRET@h/db", "postgresql://h/db"),
        ("postgresql://u:x#SECRET@h/db", "postgresql://h/db"),
        ("postgresql://u:x?SECRET@h/db", "postgresql://…"),
        ("postgresql://u@h/db?password=SECRET", "postgresql://h/db"),
        ("postgresql://u@h/db?password=x@SECRET", "postgresql://…"),
        ("postgresql://h/db", "postgresql://h/db"),
        ("postgresql://u:\n\N{FULLWIDTH NUMBER SIGN}SECRET@[h/db", "postgresql://[h/db"),
    ],
)
def test_a_target_of_the_wrong_kind_is_quoted_without_its_password(text: str, shown: str) -> None:
    for kind, below in (("directory", None), ("sqlite", "db"), ("postgres", "db"), ("mysql", None)):
        with pytest.raises(ConfigError) as caught:
            target_for(kind, text, below)
        assert shown in caught.value.message.split()[:1] + caught.value.message.split()[-1:]
        assert "SECRET" not in repr(caught.value)
    with pytest.raises(ConfigError) as caught:
        source_from("other" + text[text.index(":") :])
    assert "SECRET" not in repr(caught.value)


@pytest.mark.law(10)
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mysql://u:SECRET@h/db", "mysql://h/db"),
        ("postgresql:/u:SECRET@h/db", "postgresql:/h/db"),
        ("u:SECRET@h/db", "u:h/db"),
        ("/srv/jo@shop", "/srv/jo@shop"),
    ],
)
def test_what_is_no_url_of_postgres_is_quoted_without_a_password_either(text: str, shown: str) -> None:
    with pytest.raises(ConfigError) as caught:
        target_for("postgres", text)
    assert caught.value.message.endswith(f"not to {shown}")
    assert "SECRET" not in repr(caught.value)
