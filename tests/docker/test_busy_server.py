"""A server that is busy with other dumps keeps no container down: a run has its turn there before it stops any."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client

from blocks import DockerVolume, SqliteDatabase
from blocks.destinations.local_upload import LocalUpload
from blocks.sources import Dump, Source
from blocks.ssh_server import SshServer
from blocks.turns import turn
from flows.backup import backup
from tasks.progress import Snapshot, listening
from tests.docker.test_consistent import WEB, change, records, shop
from tests.peers.docker import DockerEngine
from tests.peers.ssh_host import over
from tests.peers.sshd import SshServer as Sshd
from vault.store import StoredObject

__all__ = ["shop"]

GENEROUS = 300
Shop = tuple[str, Path]


@pytest.fixture
def busy(host: Sshd, shop: Shop) -> Iterator[SshServer]:
    """The server of the app's sources, which lets one dump run at once."""
    name = f"{shop[0]}-web"
    over(host).model_copy(update={"max_runs": 1}).save(name)
    server = SshServer.load(name)
    assert isinstance(server, SshServer)
    server.set_limit()
    SqliteDatabase(path=shop[1] / "db.sqlite", server=server).save(f"{shop[0]}-db", overwrite=True)
    yield server
    server.drop_limit()


def turns_taken(server: SshServer) -> int:
    with get_client(sync_client=True) as client:
        found = client.read_global_concurrency_limit_by_name(server.limit)
    return found.active_slots


@contextmanager
def waiting(app: str, server: SshServer, docker: DockerEngine) -> Iterator[None]:
    """A backup of *app* that waits for its turn, until the context ends; then it goes well."""
    waits = threading.Event()

    def listen(now: Snapshot) -> None:
        if "waiting for its turn" in now.stage:
            waits.set()

    with listening(listen), ThreadPoolExecutor(1) as pool:
        with turn([server.limit]):
            run = pool.submit(backup, app=app)
            while not waits.is_set() and docker.state(WEB)["Status"] == "running" and not run.done():
                pass
            yield
        run.result(GENEROUS)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, docker: DockerEngine, busy: SshServer) -> dict[str, object]:
    """How the container is while a source on the server is read, and what is taken there while it is sent."""
    seen: dict[str, object] = {}

    def watched(kind: type[Source]) -> None:
        real = kind.dump

        @contextmanager
        def dump(self: Source) -> Iterator[Dump]:
            with real(self) as found:
                seen["turns while read"] = turns_taken(busy)
                seen[self.kind] = docker.state(WEB)["Status"]
                yield found

        monkeypatch.setattr(kind, "dump", dump)

    for kind in (SqliteDatabase, DockerVolume):
        watched(kind)
    commit = LocalUpload.commit

    def sent(self: LocalUpload) -> StoredObject:
        if self._key.startswith(busy_app(busy)):
            while turns_taken(busy):  # it does not wait for us: else this never ends
                pass
            seen["turns while sent"] = 0
        return commit(self)

    monkeypatch.setattr(LocalUpload, "commit", sent)
    return seen


def busy_app(server: SshServer) -> str:
    return server.limit.removeprefix("backups-server-").removesuffix("-web")


def test_the_containers_of_a_consistent_backup_run_while_it_waits_for_its_turn_at_a_server(
    shop: Shop, docker: DockerEngine, busy: SshServer, seen: dict[str, object]
) -> None:
    change(shop[0], consistent=True, containers_on="local", parallel=2)
    with waiting(shop[0], busy, docker):
        assert docker.state(WEB)["Status"] == "running"
        assert seen == {}
    assert seen == {"turns while read": 1, "sqlite": "exited", "turns while sent": 0}
    assert records(shop)[0].held == (WEB,)


def test_the_containers_of_a_volume_run_while_it_waits_for_its_turn_at_a_server(
    shop: Shop, docker: DockerEngine, busy: SshServer, seen: dict[str, object]
) -> None:
    (docker.volume("uploads") / "content").write_text("content")
    docker("rm", "--force", WEB)
    docker.start(WEB, "-v", "uploads:/uploads")
    DockerVolume(volume="uploads", containers="stop", server=busy).save(f"{shop[0]}-uploads")
    change(shop[0], sources=[f"docker-volume/{shop[0]}-uploads"])
    with waiting(shop[0], busy, docker):
        assert docker.state(WEB)["Status"] == "running"
        assert seen == {}
    assert seen == {"turns while read": 1, "docker-volume": "exited", "turns while sent": 0}


def test_a_before_hook_is_run_after_the_wait_for_a_server(
    shop: Shop, docker: DockerEngine, busy: SshServer, seen: dict[str, object]
) -> None:
    from prefect_shell import ShellOperation

    hook = f"{shop[0]}-{uuid4().hex[:6]}"
    ShellOperation(commands=[f"touch {shop[1] / 'down'}"]).save(hook)
    change(shop[0], before=f"shell-operation/{hook}")
    with waiting(shop[0], busy, docker):
        assert not (shop[1] / "down").exists()
    assert (shop[1] / "down").exists()
    assert seen["turns while read"] == 1
