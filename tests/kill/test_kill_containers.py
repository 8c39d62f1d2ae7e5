"""Kill a backup -9 while it holds containers still: they run again, and the next backup is whole."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.docker.test_guard import wait_for_guards
from tests.peers.command import Machine
from tests.peers.docker import DockerEngine, docker, docker_engine
from tests.peers.prefect_server import prefect_server
from tests.peers.processes import descendants_gone

__all__ = ["docker", "docker_engine"]


@pytest.mark.fault("K02", "K15", "S13")
def test_a_backup_that_is_killed_leaves_no_container_down_and_the_next_one_is_whole(
    docker: DockerEngine, tmp_path: Path
) -> None:
    place = docker.volume("shop_uploads")
    (place / "file").write_bytes(os.urandom(100_000))
    for name in ("shop-web", "shop-worker"):
        docker.start(name, "-v", "shop_uploads:/srv/uploads")
    docker.start("other")
    with prefect_server(tmp_path / "server") as url:
        machine = Machine(tmp_path, url, {"DOCKER_HOST": docker.host})
        typo = ("source", "add", "docker-volume", "shop-typo", "--volume", "shop_uplaods")
        assert "no volume shop_uplaods" in machine.run(*typo, ok=False).stderr
        assert docker.volumes() == {"shop_uploads"}
        machine.run("source", "add", "docker-volume", "shop-files", "--volume", "shop_uploads", "--stop-containers")
        machine.run("app", "add", "shop", "--source", "shop-files", "--to", str(tmp_path / "disk"))
        for _ in range(2):
            process = machine.stop_at("dump:begun", "run", "shop")
            assert docker.running() == {"other"}
            process.send_signal(signal.SIGKILL)
            process.wait()
            wait_for_guards()
            assert docker.running() == {"other", "shop-web", "shop-worker"}
            descendants_gone(process.pid)
        process = machine.stop_at("dump:proven", "run", "shop")
        assert docker.running() == {"other", "shop-web", "shop-worker"}, "they are back before anything else"
        process.send_signal(signal.SIGCONT)
        assert process.wait() == 0
    restore = ("restore", "shop", "latest", "--from", str(tmp_path / "disk"), "--to")
    without = Machine(tmp_path, None, {"DOCKER_HOST": docker.host})
    without.run(*restore, "docker-volume:shop_restored")
    assert (docker.content_of("shop_restored") / "file").read_bytes() == (place / "file").read_bytes()
    without.run(*restore, str(tmp_path / "as-directory"))
    assert (tmp_path / "as-directory/file").read_bytes() == (place / "file").read_bytes()
    assert "is used by shop-web, shop-worker" in without.run(*restore, "docker-volume:shop_uploads", ok=False).stderr
    (place / "file").write_text("changed")
    without.run(*restore, "docker-volume:shop_uploads", "--overwrite")
    assert docker("exec", "shop-web", "wc", "-c", "/srv/uploads/file").startswith("100000 ")
    assert docker.running() == {"other", "shop-web", "shop-worker"}
