"""Docker volumes: a directory's contract by path and through a helper container, and what becomes of the containers."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from prefect.blocks.core import Block

from blocks.docker.engine import find_volume
from blocks.servers import LocalServer
from blocks.sources import source_from, target_for
from blocks.sources.base import Content, RestoreOptions
from blocks.sources.directory import Directory
from blocks.sources.docker_volume import DockerVolume
from tests.contract.source import BlockSuite, SourceContract, drain, take
from tests.docker.test_guard import wait_for_guards
from tests.peers.child import in_child
from tests.peers.docker import GNU, PLAIN, DockerEngine
from tests.reduced import reduced
from tests.sources.test_directory import seen, tree
from vault.errors import ConfigError, RestoreRefused, SourceError

__all__ = ["tree"]

KEEP = RestoreOptions()
OVERWRITE = RestoreOptions(overwrite=True)


class TestDockerVolumeBlock(BlockSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return DockerVolume


class TestDockerVolume(SourceContract):
    """By its path, and through a helper container."""

    @pytest.fixture(params=reduced(["direct", "helper"], "direct"))
    def source(self, docker: DockerEngine, tree: Path, request: pytest.FixtureRequest) -> DockerVolume:
        self.docker = docker
        fill(docker.volume("shop_uploads"), tree)
        return DockerVolume(volume="shop_uploads", reach=request.param, helper_image=GNU)

    @pytest.fixture
    def empty(self, source: DockerVolume) -> DockerVolume:
        return source.model_copy(update={"volume": "shop_uploads_restored"})

    @pytest.fixture
    def missing(self, source: DockerVolume) -> tuple[DockerVolume, str]:
        return source.model_copy(update={"volume": "shop_uplaods"}), "no volume shop_uplaods"

    def data(self, source: DockerVolume) -> object:
        return seen(self.docker.content_of(source.volume))

    def change(self, source: DockerVolume) -> None:
        place = self.docker.content_of(source.volume)
        (place / "later").write_text("later")
        (place / "file").write_text("changed")

    @pytest.mark.fault("S13", "S20")
    def test_a_name_with_a_typo_never_makes_a_volume(self, missing: tuple[DockerVolume, str]) -> None:
        self.test_check_and_dump_say_what_is_missing(missing)
        assert self.docker.volumes() == {"shop_uploads"}

    def test_nothing_is_left_of_what_looked_into_it(
        self, source: DockerVolume, empty: DockerVolume, tmp_path: Path
    ) -> None:
        self.test_a_dump_restores_to_equal_data(source, empty, tmp_path)
        assert self.docker("ps", "--all", "--quiet") == ""
        assert self.docker.volumes() == {"shop_uploads", "shop_uploads_restored"}
        for volume in self.docker.volumes():
            assert os.listdir(self.docker.content_of(volume).parent) == ["_data"]


def fill(place: Path, tree: Path) -> None:
    """*place* becomes what *tree* is, owners and all."""
    subprocess.run(["cp", "--archive", f"{tree}/.", place], check=True)


@pytest.fixture
def small(docker: DockerEngine) -> DockerVolume:
    """A volume with one small file, used by one of two containers that run, and by one that does not."""
    (docker.volume("shop") / "file").write_text("old")
    for name in ("shop-web", "idle"):
        docker.start(name, "-v", "shop:/srv/data")
    docker.start("other")
    docker("stop", "idle")
    return DockerVolume(volume="shop", helper_image=GNU)


@pytest.fixture
def content(small: DockerVolume, docker: DockerEngine, tmp_path: Path) -> Content:
    """A dump of it in which its file is new."""
    place = docker.content_of("shop")
    (place / "file").write_text("new")
    taken = take(small, tmp_path)
    (place / "file").write_text("old")
    return taken


@pytest.mark.fault("N09", "N01", "N02")
@pytest.mark.parametrize("name", ["/etc", "shop:/etc", "-v", "--all", "$(touch x)", "", "a b", "../x", "a\n", "a,b"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a container or volume"):
        DockerVolume(volume=name)
    with pytest.raises(ConfigError, match="not the name of a container or volume"):
        source_from(f"docker-volume:{name}")
    with pytest.raises(ConfigError, match="not the name of a container or volume"):
        target_for("directory", f"docker-volume:{name}")


@pytest.mark.parametrize("image", ["--privileged", "-v", "a b", "", "Upper", "a\n"])
def test_an_image_that_is_none_is_refused(image: str) -> None:
    with pytest.raises(ValueError, match="must be the name of an image"):
        DockerVolume(volume="shop", helper_image=image)


@pytest.mark.fault("S20")
def test_an_empty_volume_is_refused_unless_it_may_be_empty(docker: DockerEngine) -> None:
    docker.volume("empty")
    with pytest.raises(SourceError, match="docker-volume:empty has 0 entries"):
        DockerVolume(volume="empty").check()
    assert "GNU tar" in DockerVolume(volume="empty", min_entries=0).check()


def test_a_helper_image_that_is_not_there_is_an_error_and_is_not_pulled(small: DockerVolume) -> None:
    other = small.model_copy(update={"reach": "helper", "helper_image": "debian:stable-slim"})
    with pytest.raises(SourceError, match="helper image debian:stable-slim is not on this machine") as caught:
        other.check()
    assert "docker pull debian:stable-slim" in caught.value.remedy


def test_a_helper_image_without_gnu_tar_is_an_error(small: DockerVolume) -> None:
    with pytest.raises(SourceError, match="not GNU tar"):
        small.model_copy(update={"reach": "helper", "helper_image": PLAIN}).check()


def test_a_helper_sees_the_volume_without_a_network_and_may_not_write(
    small: DockerVolume, docker: DockerEngine
) -> None:
    with small.model_copy(update={"reach": "helper"}).dump() as dump:
        helper = docker("ps", "--quiet", "--filter=label=prefect-backups.helper")
        assert docker("inspect", "--format={{.HostConfig.NetworkMode}}", helper) == "none"
        assert "Read-only" in docker("exec", helper, "sh", "-c", "touch /x /volume/x 2>&1; :")
        drain(dump.stream)
    assert docker("ps", "--all", "--quiet", "--filter=label=prefect-backups.helper") == ""


def test_a_volume_that_is_mounted_from_elsewhere_is_read_through_a_helper_and_not_swapped(
    docker: DockerEngine, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_text("there")
    docker("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}/elsewhere", "bound")
    bound = DockerVolume(volume="bound", helper_image=GNU)
    content = take(bound, tmp_path)
    assert content.artifact.facts["files"] == 1
    with pytest.raises(RestoreRefused, match="mounted from elsewhere"):
        bound.check_target(OVERWRITE)
    with pytest.raises(RestoreRefused, match="mounted from elsewhere"):
        bound.restore(content, OVERWRITE)
    assert (tmp_path / "elsewhere/file").read_text() == "there"


# -- the containers that use it


@pytest.mark.parametrize("how", ["stop", "pause"])
def test_just_the_containers_that_use_it_are_down_while_it_is_read(
    small: DockerVolume, docker: DockerEngine, how: str
) -> None:
    with small.model_copy(update={"containers": how}).dump() as dump:
        assert docker.running() == {"other"}
        drain(dump.stream)
        wait_for_guards()
        assert docker.running() == {"other", "shop-web"}, "they are back before the end of the dump"
    assert dump.facts["containers_down"] == ["shop-web"]
    assert docker.state("idle")["Status"] == "exited"


def test_who_mounts_its_path_uses_it_too(small: DockerVolume, docker: DockerEngine) -> None:
    docker.start("by-path", "-v", f"{docker.content_of('shop')}:/x:ro")
    with small.model_copy(update={"containers": "stop"}).dump() as dump:
        assert docker.running() == {"other"}
        drain(dump.stream)
    assert docker.running() == {"other", "shop-web", "by-path"}


def test_they_run_on_where_nothing_is_said(small: DockerVolume, docker: DockerEngine) -> None:
    with small.dump() as dump:
        assert docker.running() == {"other", "shop-web"}
        drain(dump.stream)
    assert dump.facts["containers_down"] == []


def test_a_dump_that_fails_has_them_back(small: DockerVolume, docker: DockerEngine) -> None:
    os.mknod(docker.content_of("shop") / "device", 0o600 | 0o020000, os.makedev(1, 3))
    with (
        pytest.raises(SourceError, match="is a device"),
        small.model_copy(update={"containers": "stop"}).dump() as dump,
    ):
        drain(dump.stream)
    assert docker.running() == {"other", "shop-web"}


@pytest.mark.fault("K02")
@pytest.mark.parametrize("reach", ["direct", "helper"])
def test_a_worker_that_is_killed_while_they_are_down_leaves_them_running(
    small: DockerVolume, docker: DockerEngine, reach: str
) -> None:
    source = small.model_copy(update={"containers": "stop", "reach": reach})

    def die() -> None:
        with source.dump() as dump:
            dump.stream.read(1)
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die)[1] == -signal.SIGKILL
    wait_for_guards()
    assert docker.running() >= {"other", "shop-web"}
    while docker("ps", "--all", "--quiet", "--filter=label=prefect-backups.helper"):
        pass


# -- restore


@pytest.mark.law(8)
def test_a_volume_in_use_is_replaced_only_where_that_is_allowed_and_its_containers_see_the_new(
    small: DockerVolume, docker: DockerEngine, content: Content
) -> None:
    for _ in range(2):
        with pytest.raises(RestoreRefused, match="used by shop-web"):
            small.check_target(KEEP)
        with pytest.raises(RestoreRefused, match="used by shop-web"):
            small.restore(content, KEEP)
    started = docker.state("other")["StartedAt"]
    small.restore(content, OVERWRITE)
    assert docker("exec", "shop-web", "cat", "/srv/data/file") == "new"
    assert docker.running() == {"other", "shop-web"}
    assert docker.state("other")["StartedAt"] == started
    assert docker.state("idle")["Status"] == "exited"


def test_a_volume_that_somebody_holds_paused_is_refused(
    small: DockerVolume, docker: DockerEngine, content: Content
) -> None:
    docker("pause", "shop-web")
    with pytest.raises(RestoreRefused, match="shop-web, which is not just running"):
        small.check_target(OVERWRITE)
    with pytest.raises(RestoreRefused, match="shop-web, which is not just running"):
        small.restore(content, OVERWRITE)
    assert docker.state("shop-web")["Status"] == "paused"


@pytest.mark.law(8)
@pytest.mark.fault("K12", "A14", "K15")
@pytest.mark.parametrize("point", ["restore:before-swap", "restore:after-swap"])
@pytest.mark.parametrize("reach", reduced(["direct", "helper"], "direct"))
def test_a_restore_that_is_killed_leaves_the_volume_whole_and_the_next_one_cleans_up(
    small: DockerVolume, docker: DockerEngine, content: Content, monkeypatch: pytest.MonkeyPatch, point: str, reach: str
) -> None:
    target = small.model_copy(update={"reach": reach})
    place = docker.content_of("shop")

    def die(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr("blocks.sources.tar.milestone", die)
        for _ in range(2):
            assert in_child(lambda: target.restore(content, OVERWRITE))[1] == -signal.SIGKILL
            wait_for_guards()
            assert (place / "file").read_text() == ("old" if point == "restore:before-swap" else "new")
            assert docker.running() >= {"other", "shop-web"}
    target.restore(content, OVERWRITE)
    assert docker("exec", "shop-web", "cat", "/srv/data/file") == "new"
    assert os.listdir(place.parent) == ["_data"]


@pytest.mark.fault("K12")
def test_a_restore_to_a_new_volume_that_is_killed_can_be_done_again(
    small: DockerVolume, docker: DockerEngine, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = small.model_copy(update={"volume": "new"})
    with monkeypatch.context() as patch:
        patch.setattr("blocks.sources.tar.milestone", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        assert in_child(lambda: target.restore(content, KEEP))[1] == -signal.SIGKILL
    assert list(docker.content_of("new").iterdir()) == []
    target.restore(content, KEEP)
    assert (docker.content_of("new") / "file").read_text() == "new"


def test_a_volume_that_is_new_says_that_we_made_it(small: DockerVolume, docker: DockerEngine, content: Content) -> None:
    small.model_copy(update={"volume": "new"}).restore(content, KEEP)
    made = find_volume(LocalServer(), "new")
    assert made is not None
    assert set(made.labels) == {"prefect-backups.restore"}


def test_a_directory_is_restored_to_a_volume_and_the_other_way_round(
    docker: DockerEngine, tree: Path, tmp_path: Path
) -> None:
    directory = Directory(path=tree)
    volume = target_for("directory", "docker-volume:shop")
    assert isinstance(volume, DockerVolume)
    volume.restore(take(directory, tmp_path), KEEP)
    assert seen(docker.content_of("shop")) == seen(tree)
    back = target_for("docker-volume", str(tmp_path / "back"))
    assert isinstance(back, Directory)
    back.restore(take(volume, tmp_path), KEEP)
    assert seen(back.path) == seen(tree)


def test_a_volume_takes_no_database() -> None:
    with pytest.raises(ConfigError, match="docker-volume:shop"):
        target_for("sqlite", "docker-volume:shop")
    with pytest.raises(ConfigError, match="PostgreSQL database goes to a database"):
        target_for("postgres", "docker-volume:shop")


@pytest.mark.parametrize("reach", ["direct", "helper"])
def test_a_data_directory_of_postgresql_starts_from_another_volume(
    docker: DockerEngine, tmp_path: Path, reach: str
) -> None:
    docker.postgres("crm-postgres", "crm")
    docker.sql("crm-postgres", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n; CHECKPOINT")
    source = DockerVolume(volume="crm", containers="stop", reach=reach, helper_image=GNU)
    content = take(source, tmp_path)
    docker.await_postgres("crm-postgres")
    assert docker.sql("crm-postgres", "SELECT count(*) FROM t") == "1000"
    docker("stop", "crm-postgres")
    source.model_copy(update={"volume": "crm_restored"}).restore(content, KEEP)
    docker.postgres("crm-again", "crm_restored")
    assert docker.sql("crm-again", "SELECT sum(n) FROM t") == "500500"
    assert "database system was shut down" in docker.log("crm-again")
