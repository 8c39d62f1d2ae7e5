"""Parts of a backup that go into a directory in use: each in one step, and nothing else in it is touched."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.sources.base import Content
from blocks.sources.directory import Directory
from tests.contract.source import take
from tests.peers.child import in_child
from tests.sources.test_directory import by, no_exchange, seen, stored, tree
from tests.sources.test_directory_part import ODD, only
from tests.vault.test_archive import archive, directory, member
from vault.errors import RestoreRefused

__all__ = ["by", "no_exchange", "tree"]


@pytest.fixture
def content(tree: Path, tmp_path: Path) -> Content:
    return take(Directory(path=tree), tmp_path)


@pytest.fixture
def live(tmp_path: Path) -> Directory:
    """A directory in use, in which a file of the backup was changed and a directory was lost."""
    root = tmp_path / "live"
    (root / "dir/deeper").mkdir(parents=True)
    (root / "dir/deeper/private").write_text("changed")
    (root / "theirs").write_text("precious")
    (root / "absolute").symlink_to(tmp_path)
    return Directory(path=root)


def names_in(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


@pytest.mark.law(8)
def test_what_is_missing_is_put_back_among_what_is_there(content: Content, tree: Path, live: Directory) -> None:
    whole, before = seen(tree), seen(live.path)
    facts = live.restore(content, only("dir/empty", "file", "fifo"))
    found = seen(live.path)
    assert set(found) == {*before, "dir/empty", "file", "fifo"}
    for name in ("file", "fifo", "dir/empty"):
        assert found[name][:2] == whole[name][:2]
    for name in ("theirs", "dir/deeper", "dir/deeper/private", "absolute"):
        assert found[name] == before[name]
    assert stat.S_IMODE((live.path / "dir").stat().st_mode) == 0o755
    assert facts["files"] == 2


def test_directories_that_are_missing_above_come_with_it(content: Content, tree: Path, live: Directory) -> None:
    shutil.rmtree(live.path / "dir")
    live.restore(content, only("dir/deeper/private", "dir/same"))
    assert names_in(live.path) == {"theirs", "absolute", "dir", "dir/same", "dir/deeper", "dir/deeper/private"}
    assert seen(live.path)["dir/deeper"] == seen(tree)["dir/deeper"]


@pytest.mark.law(8)
@pytest.mark.fault("A10")
def test_what_stands_there_is_replaced_only_where_that_is_allowed_and_nothing_else(
    content: Content, tree: Path, live: Directory
) -> None:
    before = seen(live.path)
    for act in (live.check_target, lambda options: live.restore(content, options)):
        with pytest.raises(RestoreRefused, match=r"dir/deeper/private in .* exists already(.|\n)*--overwrite"):
            act(only("file", "dir/deeper/private"))
    assert seen(live.path) == before
    live.restore(content, replace(only("file", "dir/deeper/private"), overwrite=True))
    found = seen(live.path)
    assert found["dir/deeper/private"][:2] == seen(tree)["dir/deeper/private"][:2]
    assert set(found) == {*before, "file"}
    assert found["theirs"] == before["theirs"]


def test_a_directory_that_is_replaced_is_that_of_the_backup(content: Content, tree: Path, live: Directory) -> None:
    (live.path / "dir/later").write_text("x")
    live.restore(content, replace(only("dir"), overwrite=True))
    whole = seen(tree)
    assert {n: f for n, f in seen(live.path).items() if n.startswith("dir")} == {
        n: f for n, f in whole.items() if n.startswith("dir")
    }
    assert (live.path / "theirs").read_text() == "precious"


@pytest.mark.law(8)
@pytest.mark.fault("A02", "A10")
def test_no_link_of_the_target_is_followed(tmp_path: Path, live: Directory) -> None:
    data = archive(directory("./"), directory("./absolute"), member("./absolute/victim", data=b"pwned"))
    before = seen(live.path)
    for options in (only("absolute/victim"), replace(only("absolute/victim"), overwrite=True)):
        with pytest.raises(RestoreRefused, match="absolute there is no directory that we may enter"):
            live.restore(stored(data, tmp_path), options)
    assert seen(live.path) == before
    assert not (tmp_path / "victim").exists()
    live.restore(stored(data, tmp_path), replace(only("absolute"), overwrite=True))
    assert (live.path / "absolute/victim").read_text() == "pwned"
    assert not (tmp_path / "victim").exists()


@pytest.mark.law(8)
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("meanwhile", ["a link on the way", "something in its place"])
def test_what_fails_half_way_is_undone(
    tmp_path: Path, live: Directory, monkeypatch: pytest.MonkeyPatch, overwrite: bool, meanwhile: str
) -> None:
    """The last of several parts."""
    new = ("file",) if not overwrite else ("theirs", "dir/deeper/private")
    parts = [directory("./"), directory("./dir"), directory("./dir/deeper"), directory("./dir/new"), directory("./z")]
    members = [member(f"./{name}", data=b"new") for name in (*new, "dir/new/x", "z/last")]
    (live.path / "z").mkdir()
    before = seen(live.path)

    def somebody_writes(name: str) -> None:
        if name == "restore:before-swap" and meanwhile == "a link on the way":
            (live.path / "z").rmdir()
            (live.path / "z").symlink_to(tmp_path)
        elif name == "restore:before-swap":
            (live.path / "z/last").mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", live.path / "z/last"], check=True)

    monkeypatch.setattr("blocks.sources.tar.milestone", somebody_writes)
    options = replace(only(*new, "dir/new/x", "z/last"), overwrite=overwrite)
    try:
        with pytest.raises(RestoreRefused, match=r"z/last in .* (cannot be|has come to be)"):
            live.restore(stored(archive(*parts, *members), tmp_path), options)
    finally:
        if meanwhile == "something in its place":
            subprocess.run(["umount", live.path / "z/last"], check=True)
            (live.path / "z/last").rmdir()
    found = seen(live.path)
    times = (".", "dir", "dir/deeper", "z")
    assert {name: found[name] for name in found if name not in times} == {
        n: before[n] for n in before if n not in times
    }
    assert set(found) == set(before)
    assert not (tmp_path / "last").exists()


@pytest.mark.law(8)
def test_what_somebody_writes_meanwhile_is_not_replaced(
    content: Content, live: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocks.sources.tar.milestone", lambda _: (live.path / "file").write_text("theirs"))
    with pytest.raises(RestoreRefused, match=r"file in .* has come to be meanwhile"):
        live.restore(content, only("dir/same", "file"))
    assert (live.path / "file").read_text() == "theirs"
    assert names_in(live.path) == {"theirs", "absolute", "file", "dir", "dir/deeper", "dir/deeper/private"}


def test_what_is_mounted_below_takes_no_part_for_nothing_gets_there_in_one_step(
    content: Content, live: Directory
) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", live.path / "dir/deeper"], check=True)
    try:
        with pytest.raises(RestoreRefused, match=r"dir/deeper/private in .* cannot be put in place"):
            live.restore(content, only("dir/deeper/private", "dir/same"))
        assert list((live.path / "dir/deeper").iterdir()) == []
    finally:
        subprocess.run(["umount", live.path / "dir/deeper"], check=True)
    assert names_in(live.path) == {"theirs", "absolute", "dir", "dir/deeper", "dir/deeper/private"}


def test_a_mount_point_takes_a_part(content: Content, tree: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", name], check=True)
        try:
            Path(name, "theirs").touch()
            Directory(path=Path(name)).restore(content, only("dir/deeper"))
            assert names_in(Path(name)) == {"theirs", "dir", "dir/deeper", "dir/deeper/private"}
        finally:
            subprocess.run(["umount", name], check=True)


@pytest.mark.law(8)
@pytest.mark.fault("K12", "A14", "K15")
@pytest.mark.parametrize("point", ["restore:before-swap", "restore:after-swap"])
def test_a_part_whose_restore_is_killed_is_the_old_or_the_new_and_the_next_one_cleans_up(
    content: Content, live: Directory, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    options = replace(only("dir/deeper/private"), overwrite=True)

    def die(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr("blocks.sources.tar.milestone", die)
        assert in_child(lambda: live.restore(content, options))[1] == -signal.SIGKILL
    is_old = (live.path / "dir/deeper/private").read_text() == "changed"
    assert is_old == (point == "restore:before-swap")
    live.restore(content, options)
    assert (live.path / "dir/deeper/private").read_text() == "x"
    while [name for name in names_in(live.path) if ".restore-" in name]:  # it removes itself, a moment after the kill
        pass
    assert names_in(live.path) == {"theirs", "absolute", "dir", "dir/deeper", "dir/deeper/private"}


@pytest.mark.law(8)
@pytest.mark.fault("N02", "N04", "N05", "N06", "N11")
def test_odd_names_are_put_in_place_literally(content: Content, tree: Path, live: Directory) -> None:
    for overwrite in (False, True):
        live.restore(content, replace(only(*ODD), overwrite=overwrite))
    assert names_in(live.path) == {"theirs", "absolute", "dir", "dir/deeper", "dir/deeper/private", *ODD}
    for name in ODD:
        assert (live.path / name).read_bytes() == (tree / name).read_bytes()


@pytest.mark.law(8)
@pytest.mark.usefixtures("no_exchange")
@pytest.mark.parametrize("by", ["shell"], indirect=True)
def test_what_cannot_be_exchanged_in_one_step_is_not_replaced(content: Content, live: Directory) -> None:
    before = seen(live.path)
    with pytest.raises(RestoreRefused, match=r"dir/deeper/private in .* perl or python3"):
        live.restore(content, replace(only("dir/deeper/private", "file"), overwrite=True))
    found = seen(live.path)
    assert {name: found[name] for name in found if name != "."} == {n: before[n] for n in before if n != "."}
    live.restore(content, only("file"))
    assert (live.path / "file").stat().st_size == 3_000_000


@pytest.mark.law(8)
@pytest.mark.fault("A10")
def test_no_part_goes_to_the_home_directory_or_through_a_link(
    content: Content, live: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(live.path)
    with pytest.raises(RestoreRefused, match="symbolic link"):
        Directory(path=tmp_path / "link").restore(content, only("file"))
    monkeypatch.setenv("HOME", str(live.path))
    with pytest.raises(RestoreRefused, match="home directory"):
        live.restore(content, only("file"))
    assert not (live.path / "file").exists()
