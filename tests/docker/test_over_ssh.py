"""Docker on a server behind SSH: volumes, containers, and what becomes of them when the connection is cut."""

from __future__ import annotations

import io
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from blocks import App, Directory, SftpDestination, SqliteDatabase
from blocks.docker.container import Container
from blocks.docker.guard import stopped
from blocks.signing_key import keyring
from blocks.sources.base import Content, RestoreOptions
from blocks.sources.docker_volume import DockerVolume
from blocks.sources.postgres import PostgresDatabase
from blocks.ssh_server import SshServer
from tests.cli.conftest import Command, command
from tests.contract.source import drain, take
from tests.destinations.test_sftp import on
from tests.peers.command import Machine
from tests.peers.docker import GNU, DockerEngine
from tests.peers.proxy import Proxy, proxy
from tests.peers.ssh_host import left_on, over
from tests.peers.sshd import SshServer as Sshd
from tests.reduced import reduced
from tests.sources import test_docker_volume
from tests.sources.test_directory import tree
from vault.catalog import Catalog
from vault.errors import RestoreRefused, SourceError
from vault.process import Command as Tool
from vault.streams import ChunkStream

__all__ = ["command", "tree"]


@pytest.fixture
def server(host: Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    """The way there; on this machine no daemon could be found."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/socket")
    yield over(host)
    assert left_on(host) == []


class TestDockerVolume(test_docker_volume.TestDockerVolume):
    reduced = True

    @pytest.fixture(params=["direct", "helper"])
    def source(  # type: ignore[override]
        self, docker: DockerEngine, tree: Path, server: SshServer, request: pytest.FixtureRequest
    ) -> DockerVolume:
        self.docker = docker
        test_docker_volume.fill(docker.volume("shop_uploads"), tree)
        return DockerVolume(volume="shop_uploads", server=server, reach=request.param, helper_image=GNU)


@pytest.fixture
def shop(docker: DockerEngine, server: SshServer) -> DockerVolume:
    """A volume that a container uses, with more in it than fits on the way."""
    (docker.volume("shop") / "file").write_bytes(os.urandom(40_000_000))
    docker.start("shop-web", "-v", "shop:/data")
    return DockerVolume(volume="shop", server=server, containers="stop", helper_image=GNU)


@pytest.fixture(params=reduced(["direct", "helper"], "helper"))
def used(docker: DockerEngine, server: SshServer, request: pytest.FixtureRequest) -> DockerVolume:
    """A small volume of the server, with a file that is old, which a container uses."""
    (docker.volume("used") / "etc").mkdir()
    (docker.content_of("used") / "etc/app.conf").write_text("old")
    docker.start("used-web", "-v", "used:/data")
    return DockerVolume(volume="used", server=server, reach=request.param, helper_image=GNU)


@pytest.fixture
def content(used: DockerVolume, docker: DockerEngine, tmp_path: Path) -> Content:
    """A dump of it in which that file is new."""
    file = docker.content_of("used") / "etc/app.conf"
    file.write_text("new")
    taken = take(used, tmp_path)
    file.write_text("old")
    return taken


@pytest.mark.law(8)
def test_a_volume_in_use_on_a_server_is_replaced_only_where_that_is_allowed_whole_or_in_part(
    used: DockerVolume, docker: DockerEngine, content: Content
) -> None:
    place = docker.content_of("used")
    (place / "later").write_text("precious")
    for act in (used.check_target, lambda options: used.restore(content, options)):
        with pytest.raises(RestoreRefused, match="used by used-web"):
            act(RestoreOptions())
        with pytest.raises(RestoreRefused, match=r"etc/app\.conf in docker-volume:used on .* exists already"):
            act(RestoreOptions(paths=("etc/app.conf",)))
    started = docker.state("used-web")["StartedAt"]
    used.restore(content, RestoreOptions(paths=("etc/app.conf",), overwrite=True))
    assert docker("exec", "used-web", "cat", "/data/etc/app.conf", "/data/later") == "newprecious"
    assert docker.state("used-web")["StartedAt"] == started
    used.restore(content, RestoreOptions(overwrite=True))
    assert docker("exec", "used-web", "find", "/data", "-type", "f") == "/data/etc/app.conf"
    assert docker.running() == {"used-web"}
    assert os.listdir(place.parent) == ["_data"]


@pytest.mark.law(8)
@pytest.mark.fault("A14", "K12")
def test_a_connection_that_is_cut_during_a_restore_leaves_a_volume_as_it_was_and_makes_none(
    used: DockerVolume, docker: DockerEngine, content: Content, host: Sshd
) -> None:
    @contextmanager
    def cut() -> Iterator[BinaryIO]:
        with content.open() as stream:
            yield io.BufferedReader(ChunkStream(parts(stream)))

    def parts(stream: BinaryIO) -> Iterator[bytes]:
        yield stream.read(1024)
        host.kill_sessions()
        yield stream.read()

    broken = replace(content, open=cut)
    new = used.model_copy(update={"volume": "new"})
    for target, options in ((used, RestoreOptions(overwrite=True)), (new, RestoreOptions())):
        with pytest.raises(SourceError):
            target.restore(broken, options)
    assert docker.volumes() == {"used"}
    place = docker.content_of("used")
    assert (place / "etc/app.conf").read_text() == "old"
    assert docker.running() >= {"used-web"}
    while os.listdir(place.parent) != ["_data"] or docker.running() != {"used-web"}:  # what cleans up sees the end
        pass
    used.restore(content, RestoreOptions(overwrite=True))
    assert docker("exec", "used-web", "cat", "/data/etc/app.conf") == "new"


def test_a_volume_is_restored_to_another_server_by_its_name(
    command: Command, host: Sshd, docker: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/socket")
    (docker.volume("uploads") / "content").write_text("content")
    for name in ("web1", "web2"):
        over(host).save(f"volumes-{name}")
    command("source", "add", "docker-volume", "volumes-uploads", "--volume", "uploads", "--server", "volumes-web1")
    command("app", "add", "volumes", "--source", "volumes-uploads", "--to", tmp_path / "disk")
    command("run", "volumes")
    restore = ("restore", "volumes", "latest", "--server", "volumes-web2", "--yes", "--to")
    command(*restore, "docker-volume:uploads_restored")
    assert (docker.content_of("uploads_restored") / "content").read_text() == "content"
    assert "is not empty" in command(*restore, "docker-volume:uploads", code=1).err
    assert "not the name of a container or volume" in command(*restore, "docker-volume:/etc", code=2).err
    assert docker.volumes() == {"uploads", "uploads_restored"}


def running(docker: DockerEngine, *names: str) -> None:
    """Wait until just these run."""
    while docker.running() != set(names):
        pass


@pytest.mark.fault("K02")
@pytest.mark.parametrize("reach", ["direct", "helper"])
def test_a_connection_that_is_cut_while_containers_are_down_leaves_them_running(
    shop: DockerVolume, docker: DockerEngine, host: Sshd, reach: str
) -> None:
    source = shop.model_copy(update={"reach": reach})

    def cut() -> None:
        with source.dump() as dump:
            dump.stream.read(1)
            assert "shop-web" not in docker.running()
            host.kill_sessions()
            drain(dump.stream)

    with pytest.raises(SourceError):
        cut()
    running(docker, "shop-web")
    while docker("ps", "--all", "--quiet", "--filter=label=prefect-backups.helper"):
        pass
    with source.dump() as dump:
        assert len(drain(dump.stream)) > 40_000_000
    assert dump.facts["containers_down"] == ["shop-web"]
    running(docker, "shop-web")


@pytest.mark.fault("X06")
def test_a_connection_on_which_nothing_comes_any_more_leaves_none_stopped(
    docker: DockerEngine, server: SshServer, host: Sshd
) -> None:
    """As when a cable is pulled: the server hears nothing of us, and no end either."""
    docker.start("shop-web")

    def wait() -> None:
        with stopped(server, ["shop-web"], patience=1) as guard:
            guard._ended.set()  # no sign of life from now on
            running(docker, "shop-web")

    with pytest.raises(SourceError, match="no sign of life"):
        wait()


@pytest.mark.fault("K02")
def test_a_tool_in_a_container_ends_when_the_connection_is_cut(
    docker: DockerEngine, server: SshServer, host: Sshd
) -> None:
    docker.start("place")

    def cut() -> None:
        with Container(server, "place").stream(Tool(("sleep", "987"))) as tool:
            while "sleep 987" not in docker("top", "place", "-eo", "pid,args"):
                pass
            host.kill_sessions()
            tool.stdout.read()

    with pytest.raises(SourceError):
        cut()
    while "sleep 987" in docker("top", "place", "-eo", "pid,args"):
        pass


def test_a_database_in_a_container_is_dumped_and_restored_over_ssh(
    docker: DockerEngine, server: SshServer, tmp_path: Path
) -> None:
    docker.postgres("crm-postgres-1", "crm")
    docker.sql("crm-postgres-1", "CREATE DATABASE crm")
    docker.sql("crm-postgres-1", "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n", "crm")
    url = "postgresql://postgres@localhost/crm?container=crm-postgres-1"
    source = PostgresDatabase.from_url(url, server)
    target = source.model_copy(update={"database": "crm_restored"})
    target.restore(take(source, tmp_path), RestoreOptions())
    rows = "SELECT md5(string_agg(t::text, '' ORDER BY n)) FROM t"
    assert docker.sql("crm-postgres-1", rows, "crm_restored") == docker.sql("crm-postgres-1", rows, "crm")
    assert "crm-postgres-1" in source.location
    assert server.location in source.location


@pytest.fixture
def line(host: Sshd) -> Iterator[Proxy]:
    """A way to the server that may become slow."""
    with proxy(host.port) as made:
        yield made


@pytest.fixture
def disk(host: Sshd, line: Proxy) -> SftpDestination:
    """A directory of the server, at the end of that way."""
    place = on(host, Path("docker/backups"), port=line.port)
    place.prepare()
    return place


@pytest.fixture
def far(prefect_api: object, docker: DockerEngine, host: Sshd, disk: SftpDestination, tmp_path: Path) -> Machine:
    """A worker that has no Docker, and the app ``far`` on the server: a container that runs, a database and files."""
    from prefect.settings import PREFECT_API_URL

    docker.start("far-web")
    with closing(sqlite3.connect(tmp_path / "db.sqlite")) as database, database:
        database.execute("CREATE TABLE t AS SELECT 1 AS x")
    (tmp_path / "files").mkdir()
    (tmp_path / "files/content").write_bytes(os.urandom(8_000_000))
    server = over(host)
    SqliteDatabase(path=tmp_path / "db.sqlite", server=server).save("far-db")
    Directory(path=tmp_path / "files", server=server).save("far-files")
    disk.save("far-disk")
    App(
        sources=["sqlite-database/far-db", "directory/far-files"],
        destinations=["sftp-destination/far-disk"],
        containers=["far-web"],
        consistent=True,
    ).save("far")
    (tmp_path / "home").mkdir()
    return Machine(tmp_path / "home", str(PREFECT_API_URL.value()), {"DOCKER_HOST": "unix:///no/such/socket"})


@pytest.mark.law(1)
@pytest.mark.fault("K02")
def test_an_app_on_a_server_is_held_still_until_it_is_read_and_no_longer_whatever_becomes_of_the_worker(
    far: Machine, docker: DockerEngine, host: Sshd, disk: SftpDestination, line: Proxy
) -> None:
    killed = far.stop_at("read:database", "run", "far")
    assert docker.running() == set()
    killed.kill()
    killed.wait()
    running(docker, "far-web")
    line.wire.drip_up = 3_000_000
    run = far.start("run", "far")
    for names in (set(), {"far-web"}):
        while docker.running() != names:
            assert run.poll() is None, (far.home / "output").read_text()
    assert run.poll() is None, "it still sends what it has read"
    line.wire.drip_up = None
    assert run.wait() == 0, (far.home / "output").read_text()
    assert docker.running() == {"far-web"}
    (record,) = Catalog(disk, "far", keyring().trust).history().records
    assert record.held == ("far-web",)
    notes = host.served / ".local/state/prefect-backups/stopped"
    assert list(notes.iterdir()) == left_on(host) == []
