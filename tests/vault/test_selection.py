"""A part of a tar stream: just what is chosen, whole, in an archive that GNU tar and the judge take."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vault.test_archive import Member, archive, directory, hard_link, header, judged, member, symlink
from vault.errors import ConfigError, Corrupt, UnsafeArchive
from vault.selection import Selection, place_of, why_missing
from vault.tar_headers import END

LONG = "/".join(["d" * 90] * 3)


def part(data: bytes, *paths: str, size: int = 1 << 20) -> bytes:
    """What passes of *data*, read as often as its hard links want."""
    selection = Selection(map(place_of, paths))
    passed = fed(selection, data, size)
    if selection.elsewhere:
        passed = fed(selection.again(), data, size)
    assert not selection.missing
    judged(passed + END)
    return passed + END


def fed(selection: Selection, data: bytes, size: int) -> bytes:
    return b"".join(selection.feed(data[at : at + size]) for at in range(0, len(data), size))


def held(data: bytes) -> dict[str, object]:
    """What GNU's and Python's reader agree on that an archive holds."""
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as tar:
        found: dict[str, object] = {}
        for info in tar.getmembers():
            file = tar.extractfile(info) if info.isreg() else None
            found[info.name.removeprefix("./")] = file.read() if file else info.linkname.removeprefix("./") or None
    listed = subprocess.run(
        ["tar", "-t", "--quoting-style=literal", "--show-transformed-names"], input=data, capture_output=True
    )
    assert listed.returncode == 0, listed.stderr
    return found


TREE = archive(
    directory("./"),
    directory("./etc"),
    member("./etc/app.conf", data=b"conf"),
    member("./etc/app.conf.old", data=b"old"),
    directory("./etc/deeper"),
    member("./etc/deeper/x", data=b"x" * 3000),
    directory(f"./{LONG}"),
    member(f"./{LONG}/é", data=b"long"),
    member("./other", data=b"other"),
    symlink("./link", "etc"),
)


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (["etc/app.conf"], {".": None, "etc": None, "etc/app.conf": b"conf"}),
        (["./etc/deeper/"], {".": None, "etc": None, "etc/deeper": None, "etc/deeper/x": b"x" * 3000}),
        (["other", "link"], {".": None, "other": b"other", "link": "etc"}),
        ([f"{LONG}/é"], {".": None, LONG: None, f"{LONG}/é": b"long"}),
        (["etc/deeper", "etc/deeper/x"], {".": None, "etc": None, "etc/deeper": None, "etc/deeper/x": b"x" * 3000}),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
@pytest.mark.parametrize("size", [1, 511, 512, 1000, 1 << 20])
def test_what_is_chosen_passes_with_what_is_below_and_the_directories_above(
    paths: list[str], found: dict[str, object], size: int
) -> None:
    assert held(part(TREE, *paths, size=size)) == found


@pytest.mark.fault("N11")
@pytest.mark.parametrize("path", ["etc/*", "etc/app.con?", "etc/[a]pp.conf", "ETC/app.conf", "tc/app.conf", "etc/app"])
def test_a_path_is_no_pattern_and_no_prefix(path: str) -> None:
    selection = Selection([place_of(path)])
    passed = held(fed(selection, TREE, 1000) + END)
    assert selection.missing == [path.encode()]
    assert set(passed) <= {".", "etc"}


@pytest.mark.fault("N02", "N03", "N04", "N05", "N06", "N11")
@pytest.mark.parametrize(
    "name",
    ["-rf", "--help", " ", "a b", "new\nline", "\x1b[31m", "*", "[x]", "é", "e\u0301", "\udce9", "n" * 255, "%s"],
)
def test_odd_names_are_found_byte_by_byte(name: str) -> None:
    data = archive(directory("./"), directory("./d"), member(f"./d/{name}", data=b"it"), member("./d/other"))
    assert held(part(data, f"d/{name}")) == {".": None, "d": None, f"d/{name}": b"it"}


@pytest.mark.fault("N03", "N04", "N05")
@pytest.mark.parametrize("path", ["", ".", "./", "/", "/etc/passwd", "..", "../x", "a/../b", "a//b", "a/./b", "a\0b"])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="not the path of something in the backup"):
        place_of(path)


# -- hard links


LINKED: list[Member] = [
    directory("./"),
    directory("./a"),
    member("./a/file", data=b"data" * 1000, mode=0o640, pax_headers={"SCHILY.xattr.user.note": "x"}),
    member("./a/other", data=b"other"),
    directory("./b"),
    hard_link("./b/first", "./a/file"),
    hard_link("./b/second", "./a/file"),
    hard_link("./c", "./a/file"),
]


def test_hard_links_within_what_is_chosen_stay_links() -> None:
    assert held(part(archive(*LINKED), "a/file", "c")) == {
        ".": None,
        "a": None,
        "a/file": b"data" * 1000,
        "c": "a/file",
    }


@pytest.mark.parametrize("size", [1, 700, 1 << 20])
def test_hard_links_out_of_what_is_chosen_bring_the_data_along_and_stay_one_file(size: int) -> None:
    passed = part(archive(*LINKED), "b", "c", size=size)
    assert held(passed) == {".": None, "b": None, "b/first": b"data" * 1000, "b/second": "b/first", "c": "b/first"}
    with tarfile.open(fileobj=io.BytesIO(passed)) as tar:
        first = tar.getmember("./b/first")
    assert (first.mode, first.pax_headers["SCHILY.xattr.user.note"]) == (0o640, "x")


def test_a_hard_link_to_a_symbolic_link_becomes_one(tmp_path: Path) -> None:
    data = archive(symlink("./s", "../x"), directory("./d"), hard_link("./d/l", "./s"))
    assert held(part(data, "d/l")) == {"d": None, "d/l": "../x"}


def test_sparse_files_keep_their_holes_under_their_own_and_another_name(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    (root / "z").mkdir(parents=True)
    with (root / "sparse").open("wb") as file:
        file.seek(10_000_000)
        file.write(b"end")
    (root / "z/link").hardlink_to(root / "sparse")
    made = subprocess.run(
        ["tar", "-c", "--format=posix", "--sparse", "--sort=name", f"-C{root}", "."], capture_output=True, check=True
    ).stdout
    for path in ("sparse", "z/link"):
        target = tmp_path / path.replace("/", "-")
        target.mkdir()
        subprocess.run(["tar", "-x", f"-C{target}"], input=part(made, path), check=True)
        status = (target / path).stat()
        assert (status.st_size, status.st_blocks < 100) == (10_000_003, True)
        assert (target / path).read_bytes().endswith(b"end")


@pytest.mark.fault("A02")
def test_a_hard_link_to_a_hard_link_and_an_old_sparse_member_are_refused() -> None:
    chain = archive(member("./f"), hard_link("./g", "./f"), directory("./d"), hard_link("./d/l", "./g"))
    with pytest.raises(UnsafeArchive, match="old form"):
        part(chain, "d/l")
    with pytest.raises(UnsafeArchive, match="old form"):
        part(header(b"old", b"S", magic=b"ustar  \0") + END, "old")


# -- names that are not there


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("etc/app.cnf", "'etc/app.conf', 'etc/app.conf.old'"),
        ("etc/APP.CONF", "'etc/app.conf'"),
        ("app.conf", "'etc/app.conf'"),
        ("srv/etc/app.conf", "'etc/app.conf'"),
        ("link/app.conf", "'link' is a symbolic link"),
        ("nothing/like/it", ""),
    ],
)
def test_what_a_person_may_have_meant_is_said(path: str, said: str) -> None:
    found = why_missing(io.BytesIO(TREE), place_of(path))
    assert said in found if said else not found


# -- any tree, any choice


names = st.sampled_from(["a", "b", "-x", "c d", "*", "é"])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


@given(st.lists(st.tuples(paths, st.binary(max_size=1500)), max_size=12), st.lists(paths, min_size=1), st.data())
def test_a_part_holds_what_a_reader_of_the_whole_would_choose(
    wanted: list[tuple[str, bytes]], chosen: list[str], data: st.DataObject
) -> None:
    files: dict[str, bytes] = {}
    for path, content in wanted:
        clash = any(path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/") for other in files)
        if not clash:
            files[path] = content
    above = {path[:at] for path in files for at, letter in enumerate(path) if letter == "/"}
    members = [directory(f"./{path}") for path in sorted(above)]
    members += [member(f"./{path}", data=content) for path, content in files.items()]
    selection = Selection(map(place_of, chosen))
    whole = archive(*members)
    passed = fed(selection, whole, data.draw(st.integers(1, 5000)))
    judged(passed + END)
    found = held(passed + END)
    assert {path: content for path, content in found.items() if content is not None} == {
        path: content for path, content in files.items() if any(f"{path}/".startswith(f"{one}/") for one in chosen)
    }
    there = {*files, *above}
    assert selection.missing == sorted(path.encode() for path in {*chosen} - there)


def test_what_is_cut_is_noticed_by_the_judge_of_the_part() -> None:
    with pytest.raises(Corrupt):
        judged(fed(Selection([b"etc"]), TREE[:5000], 512) + END)
