"""The container of our own through which a volume is seen: what it may, and how it ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from blocks.docker.helper import helper
from blocks.held import apart
from blocks.servers import LocalServer
from blocks.sources.base import RestoreOptions
from blocks.sources.docker_volume import DockerVolume
from tests.contract.source import take
from tests.peers.docker import GNU, DockerEngine, running_engine
from vault.process import Command

_CLEANING = "echo begun; cat >/dev/null; until [ -e /volume/go ]; do sleep 0.1; done; touch /volume/cleaned"


@pytest.mark.fault("K02")
def test_one_that_writes_stays_until_whoever_cleans_up_in_it_has_done_so(docker: DockerEngine) -> None:
    place = docker.volume("shop")

    def fail() -> None:
        with (
            helper(LocalServer(), GNU, ("type=volume", "source=shop"), writes=True) as inside,
            inside.session(apart(_CLEANING)) as tool,
        ):
            assert tool.stdout.readline() == b"begun\n"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    (place / "go").touch()
    while docker("ps", "--all", "--quiet"):
        pass
    assert (place / "cleaned").exists()


@pytest.mark.parametrize("writes", [False, True])
def test_it_may_do_no_more_than_it_has_to(docker: DockerEngine, writes: bool) -> None:
    docker.volume("shop")
    with helper(LocalServer(), GNU, ("type=volume", "source=shop"), writes=writes) as inside:
        status = inside.run(Command(("cat", "/proc/self/status"))).stdout.decode()
        host = docker("inspect", "--format={{json .HostConfig}}", inside.name)
    found = dict(line.split(":\t", 1) for line in status.splitlines())
    chown, override, read, fowner, fsetid, setfcap = (1 << bit for bit in (0, 1, 2, 3, 4, 31))
    assert int(found["CapEff"], 16) == (chown | override | fowner | fsetid | setfcap if writes else read)
    assert found["NoNewPrivs"] == "1"
    assert '"NetworkMode":"none"' in host
    assert '"ReadonlyRootfs":true' in host
    assert ('"PidMode":"host"' in host) == writes


def test_owners_are_those_of_the_server_where_its_daemon_maps_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So they are the same whichever way a volume is read, and whichever way it is restored."""
    with running_engine(first_user=200_000) as docker:
        monkeypatch.setenv("DOCKER_HOST", docker.host)
        docker.start("web", "-v", "shop:/data")
        docker("exec", "web", "sh", "-c", "cd /data; touch root user; chown 1000:1001 user; chmod 600 *")
        for reach in ("direct", "helper"):
            source = DockerVolume(volume="shop", reach=reach, helper_image=GNU)
            content = take(source, tmp_path)
            for other in ("direct", "helper"):
                target = source.model_copy(update={"volume": f"{reach}-{other}", "reach": other})
                target.restore(content, RestoreOptions())
                place = docker.content_of(target.volume)
                owners = [
                    (file.lstat().st_uid, file.lstat().st_gid) for file in (place, place / "root", place / "user")
                ]
                assert owners == [(200_000, 200_000), (200_000, 200_000), (201_000, 201_001)]


def test_what_only_the_system_may_see_is_in_no_backup_through_it(docker: DockerEngine, tmp_path: Path) -> None:
    file = docker.volume("shop") / "file"
    file.touch()
    kept = {"security.capability": b"\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "user.note": b"x"}
    for name, value in {**kept, "trusted.note": b"x"}.items():
        os.setxattr(file, name, value)
    for reach, more in (("direct", {"trusted.note": b"x"}), ("helper", {})):
        source = DockerVolume(volume="shop", reach=reach, helper_image=GNU)
        source.model_copy(update={"volume": reach}).restore(take(source, tmp_path), RestoreOptions())
        copy = docker.content_of(reach) / "file"
        assert {name: os.getxattr(copy, name) for name in os.listxattr(copy)} == {**kept, **more}
