"""A part of a backup, from the command line."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from tests.cli.conftest import Command
from tests.peers.docker import DockerEngine, docker, docker_engine

__all__ = ["docker", "docker_engine"]

LATIN = os.fsdecode(b"latin-\xe9")


@pytest.fixture
def app(command: Command, tmp_path: Path) -> str:
    """An app with a directory and a database, backed up to a saved destination of its name and to its path."""
    name = f"part-{uuid4().hex[:8]}"
    (tmp_path / "files/etc").mkdir(parents=True)
    for path in ("etc/app.conf", "etc/other", "-rf", LATIN):
        (tmp_path / "files" / path).write_text("it")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database:
        database.execute("CREATE TABLE t (n)")
    command("destination", "add", "local", name, tmp_path / "disk")
    sources = (f"{name}-files={tmp_path / 'files'}", f"{name}-db={tmp_path / 'shop.db'}")
    command("run", "--app", name, "--source", sources[0], "--source", sources[1], "--to", name)
    return name


@pytest.mark.parametrize("how", ["saved", "path"])
def test_one_file_of_one_source_is_restored(command: Command, app: str, tmp_path: Path, how: str) -> None:
    place, target = app if how == "saved" else tmp_path / "disk", tmp_path / "restored"
    restore = ("restore", app, "--from", place, "--source", f"{app}-files", "--to", target)
    done = command(*restore, "--path", "etc/app.conf", "--path=-rf", "--path", LATIN, "--json").json
    assert sorted(os.listdir(target)) == ["-rf", "etc", LATIN]
    assert os.listdir(target / "etc") == ["app.conf"]
    assert done["artifacts"][0]["facts"]["files"] == 3


@pytest.mark.law(8)
def test_what_cannot_be_chosen_is_said_and_nothing_is_made(command: Command, app: str, tmp_path: Path) -> None:
    target = tmp_path / "restored"
    restore = ("restore", app, "--from", tmp_path / "disk", "--to", target)
    assert "has several sources" in command(*restore, "--path", "etc/app.conf", code=2).err
    of_files = (*restore, "--source", f"{app}-files")
    assert "'etc/app.conf'" in command(*of_files, "--path", "etc/app.cnf", code=1).err
    assert "--path" in command(*of_files, "--table", "t", code=2).err
    assert "no table of a sqlite" in command(*restore, "--source", f"{app}-db", "--table", "t", code=2).err
    for path in ("../x", "/etc/app.conf", ""):
        assert "--path etc/app.conf" in command(*of_files, "--path", path, code=2).err
    assert not target.exists()


@pytest.mark.law(8)
def test_a_file_goes_back_to_where_it_lies_and_nothing_else_there_is_touched(
    command: Command, app: str, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    (files / "etc/app.conf").write_text("broken")
    (files / "-rf").unlink()
    (files / "later").write_text("precious")
    restore = ("restore", app, "--source", f"{app}-files", "--yes")
    command(*restore, "--path=-rf")
    assert (files / "-rf").read_text() == "it"
    assert "exists already" in command(*restore, "--path", "etc/app.conf", code=1).err
    assert (files / "etc/app.conf").read_text() == "broken"
    done = command(*restore, "--path", "etc/app.conf", "--overwrite")
    assert "replaced: etc/app.conf" in done.err
    assert (files / "etc/app.conf").read_text() == "it"
    assert sorted(os.listdir(files)) == ["-rf", "etc", "later", LATIN]
    assert (files / "later").read_text() == "precious"


@pytest.mark.law(8)
def test_one_path_of_a_volume_goes_to_a_directory_to_a_new_volume_and_back_to_where_it_was(
    command: Command, docker: DockerEngine, tmp_path: Path
) -> None:
    place = docker.volume("uploads")
    (place / "etc").mkdir()
    for path in ("etc/app.conf", "etc/other"):
        (place / path).write_text("it")
    docker.start("part-web", "-v", "uploads:/uploads")
    command("destination", "add", "local", "part-disk", tmp_path / "disk")
    command("source", "add", "docker-volume", "part-uploads", "--volume", "uploads")
    command("app", "add", "part", "--source", "part-uploads", "--to", "part-disk")
    command("run", "part")
    restore = ("restore", "part", "--yes", "--path", "etc/app.conf")
    command(*restore, "--to", tmp_path / "restored")
    command(*restore, "--to", "docker-volume:new")
    for root in (tmp_path / "restored", docker.content_of("new")):
        assert [str(path.relative_to(root)) for path in sorted(root.rglob("*"))] == ["etc", "etc/app.conf"]
    refused = command("restore", "part", "--path", "etc/app.cnf", "--to", "docker-volume:newer", code=1)
    assert "'etc/app.conf'" in refused.err
    assert docker.volumes() == {"uploads", "new"}
    (place / "etc/app.conf").write_text("broken")
    (place / "etc/other").write_text("precious")
    assert "etc/app.conf in docker-volume:uploads exists already" in command(*restore, code=1).err
    started = docker.state("part-web")["StartedAt"]
    assert "replaced: etc/app.conf in docker-volume:uploads" in command(*restore, "--overwrite").err
    assert docker("exec", "part-web", "cat", "/uploads/etc/app.conf", "/uploads/etc/other") == "itprecious"
    assert docker.state("part-web")["StartedAt"] == started
