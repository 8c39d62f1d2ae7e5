"""A part of a directory: only what was asked for is written, from an archive that was judged whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from blocks.sources.base import Content, RestoreOptions
from blocks.sources.directory import Directory
from blocks.sources.sqlite import SqliteDatabase
from tests.contract.source import take
from tests.sources.test_directory import by, left_beside, seen, stored, tree
from tests.vault.test_archive import archive, directory, hard_link, member, symlink
from vault.errors import ConfigError, Corrupt, RestoreRefused, UnsafeArchive

__all__ = ["by", "tree"]

ODD = ("new\nline", "\x1b[31mred", "-rf", "a b", "*", "é", "e\u0301", os.fsdecode(b"latin-\xe9"), "n" * 255)


def only(*paths: str) -> RestoreOptions:
    return RestoreOptions(paths=paths)


@pytest.fixture
def content(tree: Path, tmp_path: Path) -> Content:
    return take(Directory(path=tree), tmp_path)


@pytest.fixture
def target(tmp_path: Path) -> Directory:
    return Directory(path=tmp_path / "restored")


def test_a_file_comes_back_as_it_was_with_the_directories_above_it_and_nothing_else(
    content: Content, tree: Path, target: Directory
) -> None:
    whole = seen(tree)
    facts = target.restore(content, only("dir/deeper/private"))
    assert seen(target.path) == {
        name: (*whole[name][:2], name) if name == "dir/deeper/private" else whole[name]
        for name in (".", "dir", "dir/deeper", "dir/deeper/private")
    }
    assert (facts["members"], facts["files"], facts["directories"], facts["bytes"]) == (4, 1, 3, 1)


def test_a_directory_comes_back_with_what_is_below_it(content: Content, tree: Path, target: Directory) -> None:
    whole = seen(tree)
    target.restore(content, only("dir"))
    assert seen(target.path) == {name: whole[name] for name in whole if name in (".", "dir") or name.startswith("dir/")}


@pytest.mark.fault("N02", "N04", "N05", "N06", "N11")
@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
def test_odd_names_are_taken_literally(content: Content, tree: Path, target: Directory, name: str) -> None:
    target.restore(content, only(name))
    assert os.listdir(target.path) == [name]
    assert (target.path / name).read_bytes() == (tree / name).read_bytes()


@pytest.mark.fault("S18")
def test_special_files_are_chosen_like_others(content: Content, tree: Path, target: Directory) -> None:
    whole = seen(tree)
    target.restore(content, only("fifo", "sparse", "cycle", "upwards-again", "absolute"))
    found = seen(target.path)
    for name in ("fifo", "sparse", "cycle", "absolute"):
        assert found[name] == whole[name]
    assert found["upwards-again"][:2] == whole["upwards"][:2]
    assert len(found) == 6


def test_a_hard_link_whose_target_is_left_out_is_a_file_of_its_own(
    content: Content, tree: Path, target: Directory
) -> None:
    target.restore(content, only("dir/same"))
    assert sorted(os.listdir(target.path / "dir")) == ["same"]
    assert seen(target.path)["dir/same"][:2] == seen(tree)["dir/same"][:2]
    assert seen(target.path)["dir"] == seen(tree)["dir"]


@pytest.mark.law(8)
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("dir/emty", "does not hold 'dir/emty'(.|\n)*'dir/empty'"),
        ("dir/*", r"does not hold 'dir/\*'"),
        ("cycle/file", "'cycle' is a symbolic link"),
        ("file/below", "does not hold 'file/below'"),
        ("nosuch\x1b[31m", r"does not hold 'nosuch\\\\x1b\[31m'(.|\n)*below the directory"),
    ],
)
def test_a_path_that_is_not_in_the_backup_is_refused_and_nothing_is_made(
    content: Content, target: Directory, path: str, said: str
) -> None:
    with pytest.raises(RestoreRefused, match=said):
        target.restore(content, only("dir", path))
    assert not target.path.exists()
    assert left_beside(target.path) == []


@pytest.mark.law(8)
@pytest.mark.fault("N03", "N04", "A15")
@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "dir/../../x", "a\0b", "."])
def test_a_path_that_leads_elsewhere_is_refused_before_anything_is_fetched(target: Directory, path: str) -> None:
    with pytest.raises(ConfigError, match="not the path of something in the backup"):
        target.check_target(only(path))


@pytest.mark.law(8)
@pytest.mark.fault("A01", "A02", "A04")
@pytest.mark.parametrize(
    "hostile",
    [
        [member("../victim", data=b"x")],
        [symlink("./evil", ".."), member("./evil/victim", data=b"x")],
        [member("./b"), member("./b")],
        [hard_link("./evil", "/etc/passwd")],
    ],
    ids=["upwards", "through a link", "twice", "hard link"],
)
def test_what_is_hostile_anywhere_in_the_archive_stops_the_restore_of_a_part(
    tmp_path: Path, target: Directory, hostile: list[object]
) -> None:
    data = archive(directory("./"), member("./a", data=b"fine"), *hostile)  # type: ignore[arg-type]
    with pytest.raises(UnsafeArchive):
        target.restore(stored(data, tmp_path), only("a"))
    assert not target.path.exists()
    assert left_beside(target.path) == []


@pytest.mark.fault("A06", "C02")
def test_the_whole_archive_has_to_be_what_its_record_says(tmp_path: Path, target: Directory) -> None:
    data = archive(directory("./"), member("./a", data=b"a"), member("./b", data=b"b"))
    for content in (stored(data, tmp_path, members=4, hard_links=0), stored(data[:2048], tmp_path, hard_links=0)):
        with pytest.raises(Corrupt):
            target.restore(content, only("a"))
        assert not target.path.exists()
    target.restore(stored(data, tmp_path, members=3, files=2, bytes=2), only("a"))
    assert os.listdir(target.path) == ["a"]


def test_a_directory_without_entries_of_its_own_is_chosen_by_what_is_below(tmp_path: Path, target: Directory) -> None:
    data = archive(member("a/b/c", data=b"c"), member("a/d", data=b"d"))
    target.restore(stored(data, tmp_path), only("a/b"))
    assert [str(path.relative_to(target.path)) for path in sorted(target.path.rglob("*"))] == ["a", "a/b", "a/b/c"]


def test_directories_that_may_not_be_written_to_are_no_obstacle(tmp_path: Path, target: Directory) -> None:
    shut = member("./d", b"5", mode=0o555)
    data = archive(directory("./"), shut, member("./d/x", data=b"x"), member("./d/y", data=b"y"))
    target.restore(stored(data, tmp_path), only("d/x"))
    assert stat.S_IMODE((target.path / "d").stat().st_mode) == 0o555
    assert os.listdir(target.path / "d") == ["x"]


def test_a_kind_without_parts_refuses_to_be_taken_in_part(tmp_path: Path, target: Directory) -> None:
    with pytest.raises(ConfigError, match="no path of a sqlite"):
        SqliteDatabase(path=tmp_path / "x.db").check_part(only("a"))
    with pytest.raises(ConfigError, match=r"no table of a directory(.|\n)*--path"):
        target.check_part(RestoreOptions(tables=("orders",)))
    target.check_part(only("a"))
