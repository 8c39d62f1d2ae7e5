"""A part of a volume: into a directory, a new volume, or one in use, whose containers run on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.sources import target_for
from blocks.sources.base import Content
from blocks.sources.docker_volume import DockerVolume
from tests.contract.source import take
from tests.peers.docker import GNU, DockerEngine
from tests.reduced import reduced
from tests.sources.test_directory import seen, tree
from tests.sources.test_directory_part import only
from tests.sources.test_docker_volume import fill
from vault.errors import ConfigError, RestoreRefused

__all__ = ["tree"]


@pytest.fixture(params=reduced(["direct", "helper"], "helper"))
def source(docker: DockerEngine, tree: Path, request: pytest.FixtureRequest) -> DockerVolume:
    """A volume by its path, and through a helper container."""
    fill(docker.volume("shop"), tree)
    return DockerVolume(volume="shop", reach=request.param, helper_image=GNU)


@pytest.fixture
def content(source: DockerVolume, tmp_path: Path) -> Content:
    return take(source, tmp_path)


def names_in(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_a_part_of_a_volume_becomes_a_directory_or_a_new_volume(
    content: Content, source: DockerVolume, docker: DockerEngine, tree: Path, tmp_path: Path
) -> None:
    whole = seen(tree)
    for target in (target_for(source.kind, str(tmp_path / "new")), source.model_copy(update={"volume": "new"})):
        target.check_part(only("dir/deeper"))
        facts = target.restore(content, only("dir/deeper"))
        root = docker.content_of("new") if isinstance(target, DockerVolume) else tmp_path / "new"
        assert seen(root) == {name: whole[name] for name in (".", "dir", "dir/deeper", "dir/deeper/private")}
        assert facts["files"] == 1


@pytest.mark.law(8)
@pytest.mark.fault("N03")
def test_a_path_that_is_not_in_it_or_leads_elsewhere_makes_no_volume(
    content: Content, source: DockerVolume, docker: DockerEngine
) -> None:
    target = source.model_copy(update={"volume": "new"})
    with pytest.raises(RestoreRefused, match=r"does not hold 'dir/emty'(.|\n)*'dir/empty'"):
        target.restore(content, only("dir/emty"))
    with pytest.raises(ConfigError, match="not the path of something in the backup"):
        target.check_target(only("../x"))
    assert docker.volumes() == {"shop"}


@pytest.mark.law(8)
@pytest.mark.fault("A10")
def test_a_volume_in_use_takes_a_part_in_one_step_while_its_containers_run(
    content: Content, source: DockerVolume, docker: DockerEngine, tree: Path
) -> None:
    docker.start("web", "-v", "shop:/data")
    docker.start("frozen", "-v", "shop:/data")
    docker("pause", "frozen")
    place, whole = docker.content_of("shop"), seen(tree)
    (place / "dir/deeper/private").write_text("changed")
    (place / "file").unlink()
    (place / "later").write_text("precious")
    source.check_target(only("file"))
    source.restore(content, only("file"))
    assert docker("exec", "web", "sh", "-c", "wc -c </data/file") == "3000000"
    for act in (source.check_target, lambda options: source.restore(content, options)):
        with pytest.raises(RestoreRefused, match="dir/deeper/private in docker-volume:shop exists already"):
            act(only("dir/deeper/private"))
    assert (place / "dir/deeper/private").read_text() == "changed"
    source.restore(content, replace(only("dir/deeper/private"), overwrite=True))
    found = seen(place)
    assert found["dir/deeper/private"] == whole["dir/deeper/private"]
    assert set(found) == {*whole, "later"}
    assert docker.running() == {"web"}
    assert docker.state("frozen")["Status"] == "paused"
    assert os.listdir(place.parent) == ["_data"]


@pytest.mark.law(8)
def test_an_empty_volume_that_is_used_is_no_place_for_a_part_unless_its_containers_may_be_stopped(
    content: Content, source: DockerVolume, docker: DockerEngine
) -> None:
    docker.start("web", "-v", "empty:/data")
    target = source.model_copy(update={"volume": "empty"})
    with pytest.raises(RestoreRefused, match="used by web"):
        target.check_target(only("file"))
    target.restore(content, replace(only("file"), overwrite=True))
    assert docker("exec", "web", "sh", "-c", "wc -c </data/file") == "3000000"
