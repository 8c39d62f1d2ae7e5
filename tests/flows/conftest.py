"""A sample app, saved as blocks in a Prefect API of the test session's own."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from blocks import App, Directory, LocalDestination, SqliteDatabase
from blocks.signing_key import keyring
from tests.peers.postgres import postgres_server
from vault.catalog import Catalog, History
from vault.workspace import leftovers

__all__ = ["postgres_server"]


@dataclass
class Sample:
    """An app with an SQLite database and a directory, and where its backups go."""

    name: str
    root: Path

    @property
    def database(self) -> Path:
        return self.root / "shop.sqlite"

    @property
    def files(self) -> Path:
        return self.root / "uploads"

    def destination(self, name: str = "backups") -> LocalDestination:
        return LocalDestination(root=self.root / name)

    def history(self, name: str = "backups") -> History:
        return Catalog(self.destination(name), self.name, keyring().trust).history()

    def add_destination(self, name: str) -> str:
        place = self.destination(name)
        place.prepare()
        place.save(f"{self.name}-{name}", overwrite=True)
        return f"local-destination/{self.name}-{name}"

    def retention(self) -> list[dict[str, object]]:
        """The newest table of retention that Prefect's UI shows."""
        with get_client(sync_client=True) as client:
            wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[f"retention-{self.name}"]))
            found = max(client.read_artifacts(artifact_filter=wanted), key=lambda artifact: artifact.created or 0)
        return list(json.loads(found.data))  # type: ignore[arg-type]

    def rows(self, path: Path | None = None) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(path or self.database)) as database:
            return database.execute("SELECT * FROM orders ORDER BY id").fetchall()


@pytest.fixture
def sample(prefect_api: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sample]:
    name = f"app-{uuid4().hex[:8]}"
    root = tmp_path / "shop"
    (root / "uploads").mkdir(parents=True)
    (root / "uploads/a.bin").write_bytes(os.urandom(100_000))
    (root / "uploads/b.txt").write_text("b")
    with closing(sqlite3.connect(root / "shop.sqlite")) as database, database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT)")
        database.executemany("INSERT INTO orders (customer) VALUES (?)", [(f"customer {i}",) for i in range(1000)])
    monkeypatch.setenv("BACKUPS_WORK_DIR", str(tmp_path / "work"))
    sample = Sample(name, root)
    SqliteDatabase(path=sample.database).save(f"{name}-db")
    Directory(path=sample.files).save(f"{name}-files")
    App(
        sources=[f"sqlite-database/{name}-db", f"directory/{name}-files"],
        destinations=[sample.add_destination("backups")],
    ).save(name)
    yield sample
    assert leftovers(tmp_path / "work") == [], "a run left its private directory behind"
