"""``backups demo``: the main job on a sample app, proven byte by byte and row by row."""

from __future__ import annotations

import filecmp
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cli.api import prefect_api
from cli.output import note, progress_line, show_table
from vault.errors import IntegrityError
from vault.units import human

APP = "backups-demo"
_REFERENCES = (
    f"backup-app/{APP}",
    f"sqlite-database/{APP}-db",
    f"directory/{APP}-uploads",
    f"local-destination/{APP}-disk",
)
_ROWS = 20_000
_FILES = 200


@dataclass(frozen=True)
class _Step:
    what: str
    seconds: float
    detail: str

    def cells(self) -> tuple[str, str, str]:
        return self.what, f"{self.seconds:.1f} s", self.detail


def demo() -> int:
    """Back up a sample app, list it, restore it elsewhere, and compare: everything in a new temporary directory.

    Example: backups demo
    """
    root = Path(tempfile.mkdtemp(prefix="backups-demo-"))
    steps = list(_steps(root))
    print()
    show_table(("STEP", "TIME", "RESULT"), [step.cells() for step in steps])
    print(
        f"""
The restored app is equal to the original, byte by byte and row by row. Everything lies in {root}.

Next:
  backups list {APP} --from {root}/backups
  backups restore {APP} latest --from {root}/backups --to {root}/restored-again
  backups run --app myapp --source ./mydata --to /mnt/backups     # your own; --source also takes postgresql:// and mysql://user@host/db
  backups up                                                      # Prefect's UI, with the run that you just made"""
    )
    return 0


def _steps(root: Path) -> Iterator[_Step]:
    began = time.monotonic()
    size = _build(root / "app")
    yield _Step("build the app", time.monotonic() - began, f"{_ROWS} rows and {_FILES} files, {human(size)}")
    began = time.monotonic()
    with prefect_api():
        _save(root)
        started = time.monotonic() - began
        yield _Step("start Prefect", started, "a running server, or else its embedded API")
        from prefect.blocks.core import Block

        from flows.backup import backup

        began = time.monotonic()
        with progress_line():
            result = backup(app=APP)
        for ref in _REFERENCES:  # the run stays in Prefect's history, its blocks would only be in the way
            Block.delete(ref)
        record = result.record
        if record is None:
            raise IntegrityError("the demo's backup was not committed")
        yield _Step(
            "back up", time.monotonic() - began, f"{result.id}: {human(record.size)}, verified by {record.verified}"
        )
    began = time.monotonic()
    listed = _listed(root)
    yield _Step("list", time.monotonic() - began, f"{listed} at {root}/backups")
    began = time.monotonic()
    _restore(root)
    yield _Step("restore", time.monotonic() - began, f"to {root}/restored, without Prefect")
    began = time.monotonic()
    rows, files = _compare(root / "app", root / "restored")
    yield _Step("compare", time.monotonic() - began, f"{rows} rows and {files} files are equal")


def _build(app: Path) -> int:
    """A database of orders and a directory of uploads; pseudo-random, so that it compresses like real data."""
    source = random.Random(1)  # noqa: S311 - sample data, no secret
    uploads = app / "uploads"
    uploads.mkdir(parents=True)
    with closing(sqlite3.connect(app / "shop.sqlite")) as database, database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, total REAL)")
        database.executemany(
            "INSERT INTO orders (customer, total) VALUES (?, ?)",
            ((f"customer {source.randrange(5000)}", source.random() * 100) for _ in range(_ROWS)),
        )
    for number in range(_FILES):
        folder = uploads / f"{number % 10}"
        folder.mkdir(exist_ok=True)
        (folder / f"upload {number}.bin").write_bytes(source.randbytes(source.randrange(50_000)))
    (uploads / "latest").symlink_to("0/upload 0.bin")
    return sum(path.stat().st_size for path in app.rglob("*") if path.is_file())


def _save(root: Path) -> None:
    from blocks import App, Directory, LocalDestination, SqliteDatabase

    SqliteDatabase(path=root / "app/shop.sqlite").save(f"{APP}-db", overwrite=True)
    Directory(path=root / "app/uploads").save(f"{APP}-uploads", overwrite=True)
    destination = LocalDestination(root=root / "backups")
    destination.prepare()
    destination.save(f"{APP}-disk", overwrite=True)
    App(
        sources=[f"sqlite-database/{APP}-db", f"directory/{APP}-uploads"],
        destinations=[f"local-destination/{APP}-disk"],
    ).save(APP, overwrite=True)


def _listed(root: Path) -> str:
    from blocks import LocalDestination
    from blocks.signing_key import known_trust
    from vault.catalog import Catalog

    history = Catalog(LocalDestination(root=root / "backups"), APP, known_trust()).history()
    return f"{len(history.records)} backup, {len(history.damaged)} damaged"


def _restore(root: Path) -> None:
    from blocks import LocalDestination
    from blocks.signing_key import known_trust
    from tasks.resolve import RestoreRequest
    from tasks.restore import restore_backup

    request = RestoreRequest(APP, "latest", {"": str(root / "restored")})
    restore_backup(request, LocalDestination(root=root / "backups"), known_trust())


def _compare(app: Path, restored: Path) -> tuple[int, int]:
    query = "SELECT * FROM orders ORDER BY id"
    tables = []
    for path in (app / "shop.sqlite", restored / f"{APP}-db.sqlite"):
        with closing(sqlite3.connect(path)) as database:
            tables.append(database.execute(query).fetchall())
    files = 0
    for path in sorted((app / "uploads").rglob("*")):
        twin = restored / f"{APP}-uploads" / path.relative_to(app / "uploads")
        same = path.readlink() == twin.readlink() if path.is_symlink() else path.is_dir() or _equal(path, twin)
        files += not path.is_dir()
        if not same:
            raise IntegrityError(f"{twin} differs from {path}")
    if tables[0] != tables[1]:
        raise IntegrityError("the restored database differs")
    note("Compared: everything is equal.")
    return len(tables[0]), files


def _equal(one: Path, other: Path) -> bool:
    return filecmp.cmp(one, other, shallow=False)
