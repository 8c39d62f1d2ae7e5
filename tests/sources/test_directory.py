"""A directory: the contract, what a file system can hold and do, and what a hostile archive may not."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from prefect.blocks.core import Block

from blocks.sources.base import Content, Dump, RestoreOptions
from blocks.sources.directory import Directory
from blocks.sources.tree_shell import ShellTree
from tests.contract.source import BlockSuite, SourceContract, content_of, drain, take
from tests.peers.child import as_nobody, in_child
from tests.vault.test_archive import Member, archive, directory, hard_link, member, symlink
from vault.errors import Corrupt, IncompleteDump, RestoreRefused, SourceError, SourceUnavailable, UnsafeArchive

KEEP = RestoreOptions()
OVERWRITE = RestoreOptions(overwrite=True)


@pytest.fixture(params=["python", "shell"], autouse=True)
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Everything holds for a tree that Python looks after, and for one that a shell does, as on another host."""
    if request.param == "shell":
        monkeypatch.setattr("blocks.sources.directory.tree_at", ShellTree)
    return str(request.param)


class TestDirectoryBlock(BlockSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return Directory


class TestDirectory(SourceContract):
    @pytest.fixture
    def source(self, tree: Path) -> Directory:
        return Directory(path=tree)

    @pytest.fixture
    def empty(self, tmp_path: Path) -> Directory:
        return Directory(path=tmp_path / "restored")

    @pytest.fixture
    def missing(self, tmp_path: Path) -> tuple[Directory, str]:
        return Directory(path=tmp_path / "no-such-directory"), "no-such-directory"

    def data(self, source: Directory) -> object:
        return seen(source.path)

    def change(self, source: Directory) -> None:
        (source.path / "later").write_text("later")
        (source.path / "file").write_text("changed")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with everything that one may hold, and some 3 MB of data."""
    root = tmp_path / "uploads"
    (root / "dir/deeper").mkdir(parents=True)
    (root / "file").write_bytes(os.urandom(3_000_000))
    (root / "dir/empty").touch()
    (root / "dir/deeper/private").write_text("x")
    (root / "dir/deeper/private").chmod(0o4711)
    os.link(root / "dir/empty", root / "dir/same")
    (root / "absolute").symlink_to("/etc/passwd")
    (root / "upwards").symlink_to("../../x")
    os.link(root / "upwards", root / "upwards-again", follow_symlinks=False)
    (root / "cycle").symlink_to(".")
    os.mkfifo(root / "fifo")
    for name in ("new\nline", "\x1b[31mred", "-rf", "a b", "*", "é", "e\u0301", os.fsdecode(b"latin-\xe9"), "n" * 255):
        (root / name).write_text(name.encode("utf-8", "surrogateescape").hex())
    os.setxattr(root / "file", "user.note", b"a=b\n\0c")
    os.setxattr(root, "user.root", b"top")
    subprocess.run(["setfacl", "--modify", "user:1:r", root / "dir/empty"], check=True)
    subprocess.run(["setfacl", "--modify", "default:user:1:rx", root / "dir"], check=True)
    with (root / "sparse").open("wb") as sparse:
        sparse.truncate(10**12)
        sparse.seek(10**11)
        sparse.write(b"in the middle")
    if os.geteuid() == 0:
        os.chown(root / "dir/deeper", 12345, 54321)
    os.utime(root / "dir/empty", ns=(1, 1_234_567_890_123_456_789))
    os.utime(root / "upwards", ns=(1, 987_654_321_000_000_001), follow_symlinks=False)
    os.chmod(root, 0o1750)  # noqa: S103
    os.utime(root, ns=(1, 1_111_111_111_111_111_111))
    return root


def seen(root: Path) -> dict[str, object]:
    """All that matters of a tree: names, kinds, content, modes, owners, times, attributes, links, holes."""
    found: dict[str, object] = {}
    inodes: dict[int, str] = {}
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        name = str(path.relative_to(root))
        kept = {key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)}
        found[name] = (
            (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, kept),
            content_at(path, status),
            inodes.setdefault(status.st_ino, name),
        )
    return found


def content_at(path: Path, status: os.stat_result) -> object:
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)
    if not stat.S_ISREG(status.st_mode):
        return None
    if status.st_size < 10**9:
        return path.read_bytes()
    with path.open("rb") as file:
        begin = os.lseek(file.fileno(), 0, os.SEEK_DATA)
        file.seek(10**11)
        return status.st_size, begin // 10**9, file.read(20), status.st_blocks < 1000


# -- backup


def test_the_same_tree_gives_the_same_stream(tree: Path) -> None:
    (tree / "sparse").unlink()  # tar puts its process id into the names of these
    streams = set()
    for _ in range(2):
        with Directory(path=tree).dump() as dump:
            streams.add(drain(dump.stream))
        (tree / "file").read_bytes()  # its access time is nobody's business
        (tree / "file").chmod(stat.S_IMODE((tree / "file").stat().st_mode))  # nor its change time
    assert len(streams) == 1


def test_facts_say_how_much_is_in_it(tree: Path) -> None:
    with Directory(path=tree).dump() as dump:
        drain(dump.stream)
    kinds = [path.lstat().st_mode for path in tree.rglob("*")]
    assert dump.facts["members"] == len(kinds) + 1
    assert dump.facts["directories"] == sum(map(stat.S_ISDIR, kinds)) + 1
    assert (dump.facts["symlinks"], dump.facts["hard_links"], dump.facts["fifos"], dump.facts["acls"]) == (3, 2, 1, 2)
    assert dump.facts["files"] == sum(map(stat.S_ISREG, kinds)) - 1
    assert dump.warnings == []


def test_the_line_in_the_record_restores_it_without_us(tree: Path, tmp_path: Path) -> None:
    with Directory(path=tree).dump() as dump:
        data = drain(dump.stream)
    target = tmp_path / "by hand"
    target.mkdir()
    command = dump.restore_with.replace("TARGET", '"$1"')
    subprocess.run(["sh", "-c", command, "sh", target], input=data, check=True)
    assert seen(target) == seen(tree)


def names_in(source: Directory) -> set[str]:
    with source.dump() as dump:
        data = drain(dump.stream)
    listed = subprocess.run(["tar", "-t", "--quoting-style=literal"], input=data, capture_output=True, check=True)
    return {line.removeprefix("./").rstrip("/") for line in listed.stdout.decode().splitlines()} - {""}


TREE = ("a.tmp", "b", "cache", "cache/x", "d", "d/a.tmp", "d/cache", "d/cache/y", "d/e", "d/e/cache", "[x]")


@pytest.mark.fault("N11")
@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ([], {*TREE}),
        (["*.tmp"], {"b", "cache", "cache/x", "d", "d/cache", "d/cache/y", "d/e", "d/e/cache", "[x]"}),
        (["cache/"], {"a.tmp", "b", "d", "d/a.tmp", "d/e", "[x]"}),
        (["/cache"], {"a.tmp", "b", "d", "d/a.tmp", "d/cache", "d/cache/y", "d/e", "d/e/cache", "[x]"}),
        (["/*.tmp", "d/cache"], {"b", "cache", "cache/x", "d", "d/a.tmp", "d/e", "d/e/cache", "[x]"}),
        (["/d*e"], {*TREE}),
        (["/*", "--help"], set()),
        (["\\[x]", "/d", "/cache"], {"a.tmp", "b"}),
    ],
    ids=lambda names: " ".join(sorted(names)) or "none",
)
def test_excludes_are_patterns_at_any_depth_or_with_a_slash_at_the_top(
    tmp_path: Path, exclude: list[str], left: set[str]
) -> None:
    for name in ("a.tmp", "b", "cache/x", "d/a.tmp", "d/cache/y", "d/e/cache", "[x]"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names_in(Directory(path=tmp_path, exclude=exclude)) == left


@pytest.mark.parametrize(
    "fields",
    [
        *({"path": "relative"}, {"path": "/a/../b"}, {"path": "/\0"}, {"path": "/a", "exclude": [""]}),
        *({"path": "/a", "exclude": ["/"]}, {"path": "/a", "sentinel": "../x"}, {"path": "/a", "min_entries": -1}),
    ],
)
def test_fields_that_cannot_be_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must|greater than"):
        Directory.model_validate(fields)


@pytest.mark.fault("N02", "N11")
def test_odd_names_of_the_directory_itself_are_taken_literally(tmp_path: Path) -> None:
    for name in ("-rf", "--help", "*", "a b", "$(touch x)", "new\nline", "%d"):
        odd = tmp_path / name
        odd.mkdir()
        (odd / "file").write_text(name)
        target = Directory(path=tmp_path / f"{name} restored")
        target.restore(take(Directory(path=odd), tmp_path), KEEP)
        assert (target.path / "file").read_text() == name


# -- what happens to a tree while it is read


@pytest.fixture
def busy(tmp_path: Path) -> Path:
    """A directory of which tar has begun to send the first file, and not yet looked at the others."""
    root = tmp_path / "busy"
    root.mkdir()
    (root / "a").write_bytes(os.urandom(20_000_000))
    for name in ("b", "c", "d"):
        (root / name).write_bytes(b"x" * 10_000)
    return root


def begun(dump: Dump) -> bytes:
    """The first bytes: then tar is within the first file, and waits for us, for it fits in no pipe."""
    return dump.stream.read(10_240)


@pytest.mark.law(6)
@pytest.mark.fault("S16", "S06")
def test_what_vanishes_changes_or_shrinks_meanwhile_is_a_warning_and_the_archive_is_whole(
    busy: Path, tmp_path: Path
) -> None:
    source = Directory(path=busy)
    with source.dump() as dump:
        data = begun(dump)
        os.truncate(busy / "a", 10_000_000)
        (busy / "b").unlink()
        (busy / "c").unlink()
        (busy / "c").mkdir()
        with (busy / "d").open("ab") as file:
            file.write(b"more")
        data += drain(dump.stream)
    warnings = "\n".join(dump.warnings)
    assert "./a: File shrank by 10000000 bytes" in warnings
    assert "./b: File removed before we read it" in warnings
    target = Directory(path=tmp_path / "restored")
    target.restore(content_of(source, dump, data, tmp_path), KEEP)
    assert (target.path / "d").read_bytes() == b"x" * 10_000 + b"more"
    assert (target.path / "c").is_dir()
    assert dump.facts["files"] == 2


@pytest.mark.fault("S16")
def test_a_file_that_grows_while_it_is_read_is_a_warning(busy: Path) -> None:
    with Directory(path=busy).dump() as dump:
        begun(dump)
        with (busy / "a").open("ab") as file:
            file.write(b"more")
        drain(dump.stream)
    assert dump.warnings == ["./a: file changed as we read it"]


@pytest.mark.fault("S20")
def test_a_directory_that_goes_away_meanwhile_fails_the_dump(busy: Path) -> None:
    (busy / "sentinel").touch()
    with pytest.raises(SourceError, match="sentinel"), Directory(path=busy, sentinel="sentinel").dump() as dump:
        read_while(dump, (busy / "sentinel").unlink)


def read_while(dump: Dump, disturb: Callable[[], object]) -> None:
    begun(dump)
    disturb()
    drain(dump.stream)


@pytest.mark.fault("S08")
def test_a_tar_that_is_killed_is_transient(busy: Path) -> None:
    def kill() -> None:
        for child in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # others on this machine come and go
                if f"--directory={busy}".encode() in (child / "cmdline").read_bytes():
                    os.kill(int(child.name), signal.SIGKILL)

    with pytest.raises(SourceUnavailable, match="SIGKILL"), Directory(path=busy).dump() as dump:
        read_while(dump, kill)


# -- what cannot be read


@pytest.fixture
def unreadable() -> Iterator[Path]:
    """A directory that everybody may come to, with a file and a directory that nobody may read."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "fine").write_text("x")
        (root / "secret").touch(0o000)
        (root / "closed").mkdir(0o000)
        yield root


@pytest.mark.fault("S17")
def test_what_may_not_be_read_fails_the_dump_and_is_named(unreadable: Path) -> None:
    said = as_nobody(lambda: names_in(Directory(path=unreadable)))
    assert said.startswith("SourceError: tar could not read all")
    assert "./secret: Cannot open: Permission denied" in said
    assert "./closed: Cannot open: Permission denied" in said
    assert "allow_unreadable" in said


@pytest.mark.fault("S17")
def test_what_may_not_be_read_is_a_warning_where_that_is_allowed(unreadable: Path) -> None:
    def work() -> tuple[list[str], object]:
        with Directory(path=unreadable, allow_unreadable=True).dump() as dump:
            drain(dump.stream)
        return dump.warnings, dump.facts["files"]

    said = as_nobody(work)
    assert "./secret: Warning: Cannot open: Permission denied" in said
    assert said.endswith(", 1)")


@pytest.mark.fault("S17")
def test_an_error_while_reading_fails_the_dump() -> None:
    """sysfs gives real read errors: the speed of the loopback device cannot be read."""
    device = Path("/sys/class/net/lo")
    with pytest.raises(SourceError, match=r"\./speed: Read error"):
        names_in(Directory(path=device, sparse=False, exclude=["/[!s]*", "/statistics"]))


@pytest.mark.law(6)
@pytest.mark.fault("S05")
def test_a_file_system_that_does_not_tell_holes_from_data_fails_the_dump() -> None:
    """sysfs allots no blocks: tar would take each of its files for a hole, and end well."""
    with pytest.raises(IncompleteDump, match="does not tell holes from data") as caught:
        names_in(Directory(path=Path("/sys/class/net/lo")))
    assert "sparse" in caught.value.remedy


# -- special files


@pytest.mark.fault("S18")
def test_fifos_sockets_and_endless_links_neither_hang_nor_stop_it(tmp_path: Path) -> None:
    root = tmp_path / "special"
    root.mkdir()
    os.mkfifo(root / "fifo")
    (root / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket"))
        source = Directory(path=root)
        with source.dump() as dump:
            data = drain(dump.stream)
    assert dump.warnings == ["./socket: socket ignored"]
    target = Directory(path=tmp_path / "restored")
    target.restore(content_of(source, dump, data, tmp_path), KEEP)
    assert stat.S_ISFIFO((target.path / "fifo").stat().st_mode)
    assert os.readlink(target.path / "loop") == "loop"
    assert not (target.path / "socket").exists()


@pytest.mark.law(1)
@pytest.mark.fault("S18", "A03")
def test_a_device_fails_the_backup_for_no_restore_would_take_it() -> None:
    source = Directory(path=Path("/dev"), exclude=["/[!n]*", "/n[!u]*"])
    with pytest.raises(SourceError, match=r"'\./null' is a device") as caught:
        names_in(source)
    assert "Exclude" in caught.value.remedy


@pytest.mark.fault("S18")
@pytest.mark.parametrize("one_file_system", [True, False])
def test_file_systems_mounted_below_are_read_unless_one_is_enough(one_file_system: bool) -> None:
    """``/dev/shm`` is a file system of its own on every Linux."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="~") as mounted:
        name = Path(mounted).name
        Path(mounted, "file").touch()
        exclude = ["/[!s]*", "/s[!h]*", f"/shm/[!{name[0]}]*"]
        found = names_in(Directory(path=Path("/dev"), exclude=exclude, one_file_system=one_file_system))
    assert (f"shm/{name}/file" in found) is not one_file_system


# -- what is not there


@pytest.mark.fault("S20")
def test_an_empty_directory_is_refused_unless_it_may_be_empty(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="0 entries"):
        Directory(path=tmp_path).check()
    with pytest.raises(SourceError, match="0 entries"), Directory(path=tmp_path).dump():
        pass
    assert names_in(Directory(path=tmp_path, min_entries=0)) == set()


@pytest.mark.fault("S20")
def test_fewer_entries_than_there_must_be_are_refused(tree: Path) -> None:
    with pytest.raises(SourceError, match="fewer than the 100"):
        Directory(path=tree, min_entries=100).check()


@pytest.mark.fault("S20")
def test_a_missing_sentinel_is_refused(tree: Path) -> None:
    Directory(path=tree, sentinel="dir/deeper").check()
    with pytest.raises(SourceError, match="sentinel"):
        Directory(path=tree, sentinel="dir/mounted").check()


@pytest.mark.fault("S20")
def test_a_file_is_no_directory(tree: Path) -> None:
    with pytest.raises(SourceError, match="Not a directory"):
        Directory(path=tree / "file").check()


@pytest.mark.fault("S19")
def test_its_path_is_told_so_that_no_destination_lies_in_it(tree: Path) -> None:
    assert Directory(path=tree).paths == (tree,)


@pytest.mark.fault("S01")
def test_a_tar_of_another_make_is_refused(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bin/tar"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'bsdtar 3.6.2'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    with pytest.raises(SourceError, match="not GNU tar"):
        Directory(path=tree).check()


@pytest.mark.law(6)
@pytest.mark.fault("S04", "S05")
@pytest.mark.parametrize("kept", [0, 512, 10_240])
def test_a_tar_that_ends_well_and_too_early_is_no_dump(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    real = shutil.which("tar")
    fake = tmp_path / "bin/tar"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec {real} "$@"\n{real} "$@" | head -c {kept}\nexit 0\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    with pytest.raises(IncompleteDump, match="truncated"), Directory(path=tree).dump() as dump:
        drain(dump.stream)


# -- restore: the target


def stored(data: bytes, tmp_path: Path, **facts: int) -> Content:
    """An archive as the content of a record that we signed."""
    dump = Dump(stream=None, extension="tar", tool="tar", restore_with="", facts=dict(facts))  # type: ignore[arg-type]
    return content_of(Directory(path=tmp_path), dump, data, tmp_path)


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return stored(archive(directory("."), member("./new", data=b"new")), tmp_path)


@pytest.mark.law(8)
@pytest.mark.fault("A10")
@pytest.mark.parametrize("options", [KEEP, OVERWRITE], ids=["keep", "overwrite"])
def test_root_and_home_and_what_holds_home_are_never_a_target(
    content: Content, options: RestoreOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "homes/me"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    (tmp_path / "link").symlink_to(tmp_path / "homes")
    for path in (Path("/"), home, home.parent, Path("~").expanduser(), tmp_path / "link/me"):
        with pytest.raises(RestoreRefused, match="home directory"):
            Directory(path=path).check_target(options)
        with pytest.raises(RestoreRefused, match="home directory"):
            Directory(path=path).restore(content, options)
    assert list(home.iterdir()) == []


@pytest.mark.law(8)
@pytest.mark.fault("A10")
@pytest.mark.parametrize("options", [KEEP, OVERWRITE], ids=["keep", "overwrite"])
def test_links_files_mount_points_and_missing_parents_are_no_target(
    content: Content, options: RestoreOptions, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("missing")
    (tmp_path / "file").write_text("x")
    refusals = {
        tmp_path / "link": "symbolic link",
        tmp_path / "dangling": "symbolic link",
        tmp_path / "file": "is a file",
        tmp_path / "no/parent": "parent directory is missing",
        tmp_path / "file/x": "parent directory is missing",
        Path("/dev/shm"): "mount point",
    }
    for path, why in refusals.items():
        with pytest.raises(RestoreRefused, match=why):
            Directory(path=path).check_target(options)
        with pytest.raises(RestoreRefused, match=why):
            Directory(path=path).restore(content, options)
    assert list((tmp_path / "real").iterdir()) == []


@pytest.mark.fault("A10")
def test_a_place_where_we_may_not_write_is_refused_before_anything_is_fetched(unreadable: Path) -> None:
    unreadable.chmod(0o555)
    said = as_nobody(lambda: Directory(path=unreadable / "new").check_target(KEEP))
    unreadable.chmod(0o755)
    assert said.startswith("RestoreRefused: ")


def test_an_empty_directory_is_a_target_and_becomes_what_was_dumped(tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "restored"
    target.mkdir(0o700)
    Directory(path=target).restore(take(Directory(path=tree), tmp_path), KEEP)
    assert seen(target) == seen(tree)


def test_no_access_list_is_inherited_from_where_it_is_restored(tmp_path: Path) -> None:
    source = Directory(path=tmp_path / "plain")
    (source.path / "d").mkdir(parents=True)
    (source.path / "d/file").touch()
    subprocess.run(["setfacl", "--modify", "default:user:1:rwx", tmp_path], check=True)
    target = Directory(path=tmp_path / "restored")
    target.restore(take(source, tmp_path), KEEP)
    assert seen(target.path) == seen(source.path)


@pytest.mark.law(8)
def test_overwriting_replaces_and_does_not_mix(content: Content, tree: Path) -> None:
    Directory(path=tree).restore(content, OVERWRITE)
    assert [path.name for path in tree.iterdir()] == ["new"]
    assert left_beside(tree) == []


def left_beside(target: Path) -> list[str]:
    return [path.name for path in target.parent.iterdir() if ".restore-" in path.name]


@pytest.mark.law(8)
@pytest.mark.fault("X06")
def test_a_target_that_fills_up_meanwhile_is_not_replaced(
    content: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"

    def somebody_writes(name: str) -> None:
        if name == "restore:before-swap":
            target.mkdir()
            (target / "theirs").write_text("x")

    monkeypatch.setattr("blocks.sources.tar.milestone", somebody_writes)
    with pytest.raises(RestoreRefused, match="not empty any more"):
        Directory(path=target).restore(content, KEEP)
    assert (target / "theirs").read_text() == "x"
    assert left_beside(target) == []


@pytest.mark.law(8)
@pytest.mark.fault("K12", "A14", "K15")
@pytest.mark.parametrize("point", ["restore:before-swap", "restore:after-swap"])
@pytest.mark.parametrize("full", [True, False], ids=["over a full target", "into a new one"])
def test_a_restore_that_is_killed_leaves_the_target_whole_and_the_next_one_cleans_up(
    content: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, full: bool
) -> None:
    target = Directory(path=tmp_path / "target")
    if full:
        target.path.mkdir()
        (target.path / "old").write_text("old")

    def die(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr("blocks.sources.tar.milestone", die)
        for _ in range(2):
            assert in_child(lambda: target.restore(content, OVERWRITE))[1] == -signal.SIGKILL
            found = {path.name for path in target.path.iterdir()} if target.path.exists() else set()
            assert found == ({"new"} if point == "restore:after-swap" else {"old"} if full else set())
    target.restore(content, OVERWRITE)
    assert [path.name for path in target.path.iterdir()] == ["new"]
    assert left_beside(target.path) == []


@pytest.fixture
def no_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host where no tool can exchange two names at once."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in ("perl", "python3"):
        (place / name).write_text("#!/bin/sh\nexit 1\n")
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")


@pytest.mark.fault("K12")
@pytest.mark.usefixtures("no_exchange")
@pytest.mark.parametrize("by", ["shell"], indirect=True)
def test_where_two_names_cannot_be_exchanged_it_takes_two_steps(content: Content, tmp_path: Path) -> None:
    target = Directory(path=tmp_path / "target")
    target.path.mkdir()
    (target.path / "old").write_text("old")
    target.restore(content, OVERWRITE)
    assert [path.name for path in target.path.iterdir()] == ["new"]
    assert left_beside(target.path) == []


@pytest.mark.fault("K12")
@pytest.mark.usefixtures("no_exchange")
@pytest.mark.parametrize("by", ["shell"], indirect=True)
def test_what_was_put_aside_by_one_that_died_between_two_steps_is_put_back(content: Content, tmp_path: Path) -> None:
    target = Directory(path=tmp_path / "target")
    for name in ("target", "target-2"):  # the other one is not its business
        held = tmp_path / f".target.restore-{name[-1] * 10}"
        (held / "tree.spare").mkdir(parents=True)
        (held / "tree.spare" / name).touch()
        (held / "owner").write_text("1 1 another-boot space 0\n")
        (held / "target").write_text(f"{tmp_path / name}\n")
    with pytest.raises(RestoreRefused, match="not empty any more"):
        target.restore(content, KEEP)
    assert [path.name for path in target.path.iterdir()] == ["target"]
    assert not (tmp_path / "target-2").exists()


@pytest.mark.fault("X02")
def test_the_next_restore_does_not_clean_up_after_one_that_runs(
    content: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Directory(path=tmp_path / "target")
    inner: list[str] = []

    def restore_again(name: str) -> None:
        if name == "restore:before-swap" and not inner:
            inner.append(name)
            target.restore(content, OVERWRITE)

    monkeypatch.setattr("blocks.sources.tar.milestone", restore_again)
    target.restore(content, OVERWRITE)
    assert [path.name for path in target.path.iterdir()] == ["new"]
    assert left_beside(target.path) == []


@pytest.mark.fault("F03", "A14")
def test_a_disk_that_is_full_leaves_the_target_untouched(tree: Path, tmp_path: Path) -> None:
    content = take(Directory(path=tree), tmp_path)
    target = Directory(path=tmp_path / "target")

    def restore_with_little_room() -> object:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        return target.restore(content, KEEP)

    said, _ = in_child(restore_with_little_room)
    assert said.startswith(("SourceError: tar", "SourceUnavailable: tar")), said
    assert not target.path.exists()
    assert left_beside(target.path) == []


def test_a_directory_that_its_owner_may_not_write_to_can_be_restored_and_replaced_without_root() -> None:
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        work.chmod(0o777)
        data = archive(directory("."), member("./d", b"5", mode=0o555), member("./d/x", data=b"x", mode=0o444))
        shut = stored(data, work)

        def restore_twice() -> str:
            target = Directory(path=work / "target")
            target.restore(shut, KEEP)
            assert stat.S_IMODE((target.path / "d").stat().st_mode) == 0o555
            target.restore(shut, OVERWRITE)
            assert left_beside(target.path) == []
            os.chmod(target.path / "d", 0o755)  # noqa: S103  (for whoever cleans up)
            return "done"

        assert as_nobody(restore_twice) == "done"


def test_what_cannot_be_restored_of_a_member_is_told(tmp_path: Path) -> None:
    data = archive(member("x", pax_headers={"SCHILY.xattr.nonsense.key": "value"}))
    facts = Directory(path=tmp_path / "target").restore(stored(data, tmp_path), KEEP)
    assert "nonsense.key" in str(facts["warnings"])


# -- restore: hostile archives


@pytest.mark.law(8)
@pytest.mark.fault("A01", "A02", "A03", "A04", "N03")
@pytest.mark.parametrize(
    "members",
    [
        [member("fine", data=b"x" * 2_000_000), member("../victim", data=b"pwned")],
        [member("fine", data=b"x" * 2_000_000), member("VICTIM", data=b"pwned")],
        [symlink("evil", "VICTIM"), member("evil", data=b"pwned")],
        [symlink("evil", ".."), member("filler", data=b"x" * 2_000_000), member("evil/victim", data=b"pwned")],
        [hard_link("evil", "VICTIM"), member("evil", data=b"pwned")],
        [member("fine"), member("null", b"3", devmajor=1, devminor=3)],
        [member("twice"), member("filler", data=b"x" * 2_000_000), member("twice", data=b"pwned")],
    ],
    ids=["upwards", "absolute", "over a link", "through a link", "hard link", "device", "twice"],
)
@pytest.mark.parametrize("full", [True, False], ids=["over a full target", "into a new one"])
def test_a_hostile_archive_is_refused_whole_and_nothing_is_changed(
    tmp_path: Path, members: list[Member], full: bool
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for info, _ in members:
        info.name, info.linkname = (text.replace("VICTIM", str(victim)) for text in (info.name, info.linkname))
    target = Directory(path=tmp_path / "target")
    if full:
        target.path.mkdir()
        (target.path / "old").write_text("old")
    with pytest.raises(UnsafeArchive):
        target.restore(stored(archive(*members), tmp_path), OVERWRITE)
    assert victim.read_text() == "precious"
    assert victim.stat().st_nlink == 1
    assert (target.path / "old").exists() if full else not target.path.exists()
    assert left_beside(target.path) == []


@pytest.mark.fault("A05", "A06", "C02", "C03")
@pytest.mark.parametrize(
    ("facts", "error"),
    [({"members": 2}, Corrupt), ({"members": 4}, Corrupt), ({"files": 1}, Corrupt), ({"bytes": 7}, Corrupt)],
)
def test_an_archive_that_is_not_what_its_record_says_is_refused(
    tmp_path: Path, facts: dict[str, int], error: type[Exception]
) -> None:
    data = archive(directory("."), member("./a", data=b"a"), member("./b", data=b"b"))
    target = Directory(path=tmp_path / "target")
    with pytest.raises((error, UnsafeArchive)):
        target.restore(stored(data, tmp_path, **facts), KEEP)
    assert not target.path.exists()
    target.restore(stored(data, tmp_path, members=3, files=2, bytes=2), KEEP)
    assert (target.path / "b").read_bytes() == b"b"


@pytest.mark.fault("C02", "C03", "A05")
@pytest.mark.parametrize("change", [lambda data: data[:-9000], lambda data: data + b"x", lambda data: data[:1024]])
def test_an_archive_that_is_cut_or_goes_on_is_refused(tmp_path: Path, change: object) -> None:
    data = archive(directory("."), member("./a", data=b"a" * 3000))
    target = Directory(path=tmp_path / "target")
    assert callable(change)
    with pytest.raises(Corrupt):
        target.restore(stored(change(data), tmp_path), KEEP)
    assert not target.path.exists()
    assert left_beside(target.path) == []
