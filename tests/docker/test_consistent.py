"""Consistent backups: an app's containers are held still while all of it is read, and come back whatever happens."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from blocks import App, Directory, DockerVolume, LocalDestination, PostgresDatabase, SqliteDatabase
from blocks.destinations.local_upload import LocalUpload
from blocks.signing_key import keyring
from blocks.sources import Dump
from flows.backup import backup
from flows.report import BackupFailed
from tasks.limits import Limits
from tests.destinations.test_sftp import on
from tests.docker.test_guard import wait_for_guards
from tests.peers.command import Machine
from tests.peers.docker import DockerEngine
from tests.peers.prefect_server import prefect_server
from tests.peers.processes import descendants_gone
from tests.peers.proxy import Proxy, proxy
from tests.peers.sshd import running_sshd
from tests.reduced import reduced
from vault.catalog import Catalog
from vault.errors import BackupError, ConfigError, SourceError
from vault.record import BackupRecord
from vault.store import StoredObject

WEB = "shop-web"


@pytest.fixture
def shop(
    prefect_api: object, docker: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Path]]:
    """An app with a database, a directory and one container, which runs; and where it is."""
    monkeypatch.setenv("BACKUPS_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.setenv("HOME", str(tmp_path))
    docker.start(WEB)
    name = f"still-{uuid4().hex[:8]}"
    with closing(sqlite3.connect(tmp_path / "db.sqlite")) as database, database:
        database.execute("CREATE TABLE t AS SELECT 1 AS x")
    (tmp_path / "files").mkdir()
    (tmp_path / "files/content").write_text("content")
    SqliteDatabase(path=tmp_path / "db.sqlite").save(f"{name}-db")
    Directory(path=tmp_path / "files").save(f"{name}-files")
    place = LocalDestination(root=tmp_path / "disk")
    place.prepare()
    place.save(f"{name}-disk")
    App(
        sources=[f"sqlite-database/{name}-db", f"directory/{name}-files"],
        destinations=[f"local-destination/{name}-disk"],
        containers=[WEB],
    ).save(name)
    yield name, tmp_path
    wait_for_guards()


def change(name: str, **fields: object) -> None:
    App.load(name).model_copy(update=fields).save(name, overwrite=True)


def records(shop: tuple[str, Path]) -> tuple[BackupRecord, ...]:
    return Catalog(LocalDestination(root=shop[1] / "disk"), shop[0], keyring().trust).history().records


def watched(monkeypatch: pytest.MonkeyPatch, docker: DockerEngine) -> dict[str, str]:
    """How the container is while each kind is read, and while what was read of the files is committed."""
    seen: dict[str, str] = {}
    for kind in (SqliteDatabase, Directory):
        real = kind.dump

        @contextmanager
        def dump(self: SqliteDatabase | Directory, real: object = real) -> Iterator[Dump]:
            with real(self) as found:  # type: ignore[operator]
                yield found
                seen[self.kind] = docker.state(WEB)["Status"]

        monkeypatch.setattr(kind, "dump", dump)
    commit = LocalUpload.commit

    def sent(self: LocalUpload) -> StoredObject:
        if ".tar" in self._key:
            while docker.state(WEB)["Status"] != "running":  # it does not wait for us: else this never ends
                pass
            seen["sent"] = "running"
        return commit(self)

    monkeypatch.setattr(LocalUpload, "commit", sent)
    return seen


@pytest.mark.parametrize(("hold", "status"), [("stop", "exited"), ("pause", "paused")])
def test_the_containers_are_held_still_around_databases_and_files_and_back_before_all_is_sent(
    shop: tuple[str, Path], docker: DockerEngine, monkeypatch: pytest.MonkeyPatch, hold: str, status: str
) -> None:
    change(shop[0], hold=hold)
    seen = watched(monkeypatch, docker)
    backup(app=shop[0], consistent=True)
    assert seen == {"sqlite": status, "directory": status, "sent": "running"}
    assert records(shop)[0].held == (WEB,)
    seen.clear()
    backup(app=shop[0])
    assert seen == {"sqlite": "running", "directory": "running", "sent": "running"}
    assert records(shop)[1].held == ()


@pytest.fixture
def slow(shop: tuple[str, Path], docker: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    """The one destination of the app takes some megabytes, and then hardly anything until the container, which was
    down, runs again. The spool of a run holds less than a source, and no two sources are read at once."""
    name, _ = shop
    monkeypatch.setattr("tasks.preflight.limits", lambda: Limits(spool=4_000_000, stall_timeout=10))
    with running_sshd() as server, proxy(server.port) as line:
        door = on(server, Path("docker/backups"), port=line.port)
        door.prepare()
        door.save(f"{name}-slow")
        change(name, destinations=[f"sftp-destination/{name}-slow"])
        line.wire.drip_up = 3_000_000
        made = Slow(docker, line)
        yield made
        made.over.set()
        if made.ident:
            made.join()


class Slow(threading.Thread):
    """Lets the line to a destination go when the container that was down runs again; *sent*: the bytes until then."""

    def __init__(self, docker: DockerEngine, line: Proxy) -> None:
        super().__init__()
        self.docker, self.line = docker, line
        self.over = threading.Event()
        self.sent = 0

    def run(self) -> None:
        for status in ("exited", "running"):
            while not self.over.is_set() and self.docker.state(WEB)["Status"] != status:
                pass
        self.sent = self.line.up
        self.line.wire.drip_up = None


def test_no_destination_however_slow_keeps_the_containers_of_a_consistent_backup_down(
    shop: tuple[str, Path], slow: Slow
) -> None:
    name, root = shop
    (root / "files/content").write_bytes(os.urandom(6_000_000))
    (root / "more").mkdir()
    (root / "more/content").write_bytes(os.urandom(6_000_000))
    Directory(path=root / "more").save(f"{name}-more")
    change(name, sources=[*App.load(name).sources, f"directory/{name}-more"])
    slow.start()
    backup(app=name, consistent=True)
    assert 0 < slow.sent < 6_000_000


def test_no_destination_however_slow_keeps_the_containers_of_a_volume_down(
    shop: tuple[str, Path], docker: DockerEngine, slow: Slow
) -> None:
    name = shop[0]
    (docker.volume("uploads") / "content").write_bytes(os.urandom(12_000_000))
    docker("rm", "--force", WEB)
    docker.start(WEB, "-v", "uploads:/uploads")
    DockerVolume(volume="uploads", containers="stop").save(f"{name}-uploads")
    change(name, sources=[f"docker-volume/{name}-uploads"])
    slow.start()
    backup(app=name)
    assert 0 < slow.sent < 6_000_000


def test_hooks_are_run_while_the_containers_run(shop: tuple[str, Path], docker: DockerEngine) -> None:
    from prefect_shell import ShellOperation

    log = shop[1] / "log"
    said = f"docker inspect --format='{{{{.State.Status}}}}' {WEB} >> {log}"
    environment = {"DOCKER_HOST": docker.host}
    ShellOperation(commands=[said], env=environment).save(f"{shop[0]}-ask", overwrite=True)
    change(shop[0], consistent=True, before=f"shell-operation/{shop[0]}-ask", after=f"shell-operation/{shop[0]}-ask")
    backup(app=shop[0])
    assert log.read_text().split() == ["running", "running"]


@pytest.mark.fault("S02")
def test_they_come_back_when_a_source_fails(
    shop: tuple[str, Path], docker: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Directory) -> object:
        assert docker.state(WEB)["Status"] == "exited"
        raise SourceError("the disk has failed")

    monkeypatch.setattr(Directory, "dump", fail)
    with pytest.raises(SourceError, match="the disk has failed"):
        backup(app=shop[0], consistent=True)
    assert docker.state(WEB)["Status"] == "running"
    assert records(shop) == ()


def test_a_backup_during_which_somebody_started_them_is_none(
    shop: tuple[str, Path], docker: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Directory.dump

    @contextmanager
    def dump(self: Directory) -> Iterator[Dump]:
        docker("start", WEB)
        with real(self) as found:
            yield found

    monkeypatch.setattr(Directory, "dump", dump)
    with pytest.raises((BackupFailed, BackupError), match="while they had to be down"):
        backup(app=shop[0], consistent=True)
    assert records(shop) == ()


@pytest.mark.fault("N09")
def test_a_container_that_is_not_there_or_not_named_is_an_error_before_anything_is_read(
    shop: tuple[str, Path], docker: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqliteDatabase, "dump", lambda self: pytest.fail("it was read"))
    change(shop[0], containers=["shop-wbe"])
    with pytest.raises(SourceError, match="shop-wbe"):
        backup(app=shop[0], consistent=True)
    change(shop[0], containers=[])
    with pytest.raises(ConfigError, match="no container of the app is known"):
        backup(app=shop[0], consistent=True)
    with pytest.raises(ValueError, match="name of a container"):
        App(sources=[], containers=["/etc:/etc"])


def test_a_database_goes_on_in_its_own_container_and_others_are_found_by_the_volumes_that_they_use(
    shop: tuple[str, Path], docker: DockerEngine
) -> None:
    name = shop[0]
    (docker.volume("uploads") / "content").write_text("content")
    docker("rm", "--force", WEB)
    docker.start(WEB, "-v", "uploads:/uploads")
    docker.postgres("shop-db", "rows", "-v", "uploads:/uploads")
    docker.sql("shop-db", "CREATE TABLE t AS SELECT 1 AS x")
    PostgresDatabase(database="postgres", username="postgres", host="/run/postgresql", container="shop-db").save(
        f"{name}-pg"
    )
    DockerVolume(volume="uploads").save(f"{name}-uploads")
    change(name, containers=[], sources=[f"postgres-database/{name}-pg", f"docker-volume/{name}-uploads"])
    before = docker.state("shop-db")["StartedAt"]
    backup(app=shop[0], consistent=True)
    assert records(shop)[0].held == (WEB,)
    assert docker.state("shop-db")["StartedAt"] == before


@pytest.mark.law(1)
@pytest.mark.fault("K02", "K13")
@pytest.mark.parametrize("number", reduced([signal.SIGKILL, signal.SIGTERM], signal.SIGKILL))
@pytest.mark.parametrize("milestone", reduced(["held", "read:database"], "read:database"))
def test_they_come_back_when_the_worker_dies_or_is_told_to_end(
    docker: DockerEngine, tmp_path: Path, milestone: str, number: int
) -> None:
    docker.start(WEB)
    (tmp_path / "files").mkdir()
    (tmp_path / "files/content").write_text("content")
    with closing(sqlite3.connect(tmp_path / "db.sqlite")) as database, database:
        database.execute("CREATE TABLE t AS SELECT 1 AS x")
    with prefect_server(tmp_path / "server") as url:
        (tmp_path / "home").mkdir()
        machine = Machine(tmp_path / "home", url, {"DOCKER_HOST": docker.host})
        sources = ("--source", f"db={tmp_path / 'db.sqlite'}", "--source", f"files={tmp_path / 'files'}")
        machine.run("app", "add", "shop", *sources, "--to", str(tmp_path / "disk"), "--container", WEB, "--consistent")
        run = machine.stop_at(milestone, "run", "shop")
        assert docker.state(WEB)["Status"] == "exited"
        run.send_signal(number)
        run.send_signal(signal.SIGCONT)
        run.wait(timeout=300)
        wait_for_guards()
        descendants_gone(run.pid)
        assert docker.state(WEB)["Status"] == "running"
        machine.run("run", "shop")
        assert docker.state(WEB)["Status"] == "running"
        (row,) = [row for row in machine.json("list", "shop") if row["status"] == "success"]
        assert f"held still while all was read: {WEB}" in machine.run("show", row["id"]).stdout
