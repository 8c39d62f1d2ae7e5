"""The judge of tar streams: takes what GNU tar and tarfile make of honest trees, refuses whatever could do harm."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vault.archive import BLOCK, Judge, Limits, Verdict, judge
from vault.errors import Corrupt, IntegrityError, RestoreRefused, UnsafeArchive

Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **more: object) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for field, value in more.items():
        setattr(info, field, value)
    return info, data


def directory(name: str) -> Member:
    return member(name, tarfile.DIRTYPE, mode=0o755)


def symlink(name: str, target: str) -> Member:
    return member(name, tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> Member:
    return member(name, tarfile.LNKTYPE, linkname=target)


def archive(*members: Member, format: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of just these members, however hostile."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format, encoding="utf-8", errors="surrogateescape") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def judged(data: bytes, limits: Limits | None = None) -> Verdict:
    return judge(io.BytesIO(data), limits)


def judged_in_pieces(data: bytes, size: int, limits: Limits | None = None) -> Verdict:
    judge = Judge(limits)
    for position in range(0, len(data), size):
        judge.feed(data[position : position + size])
    return judge.finish()


def header(
    name: bytes, kind: bytes, size: int = 0, magic: bytes = b"ustar\x0000", **fields: tuple[int, bytes]
) -> bytes:
    """A header by hand, for what tarfile would not write."""
    block = bytearray(BLOCK)
    block[: len(name)] = name
    block[100:108] = block[108:116] = block[116:124] = b"0000644\0"
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[257 : 257 + len(magic)] = magic
    for offset, value in fields.values():
        block[offset : offset + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    return header(b"PaxHeaders/x", kind, len(records)) + padded(records)


def record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    length += len(str(length + len(str(length))))
    return b"%d %s=%s\n" % (length, key, value)


END = bytes(2 * BLOCK)
FILE = header(b"file", b"0")


# -- honest archives


def test_every_kind_of_member_is_counted() -> None:
    found = judged(
        archive(
            directory("."),
            directory("./dir"),
            member("./dir/file", data=b"x" * 1000),
            member("./dir/empty"),
            hard_link("./dir/same", "./dir/file"),
            symlink("./link", "dir/file"),
            member("./pipe", tarfile.FIFOTYPE),
        )
    )
    assert (found.members, found.files, found.directories) == (7, 2, 2)
    assert (found.symlinks, found.hard_links, found.fifos, found.bytes) == (1, 1, 1, 1000)


def test_an_archive_of_nothing_is_sound() -> None:
    assert judged(END).members == 0


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_understood_in_every_format(format: int) -> None:
    name = "/".join(["d" * 60] * 2) + "/" + "f" * 90
    assert judged(archive(member(name, data=b"x"), member("after"), format=format)).files == 2
    if format != tarfile.USTAR_FORMAT:
        deep = "/".join(["d" * 250] * 16)
        found = judged(archive(member(deep, data=b"x"), symlink("link", deep), member("after"), format=format))
        assert (found.files, found.symlinks) == (2, 1)


@pytest.mark.fault("N04", "N05", "N06")
@pytest.mark.parametrize(
    "name",
    [
        *("new\nline", "\x1b[31mred", "tab\there", "\u202ename", "é", "e\u0301", "-rf", " ", "...", "..x", ".hidden"),
        *("a:b", "CON", "con", "x.", "*", "C:\\x", "\udce9latin", "f" * 255),
    ],
)
def test_odd_names_are_content(name: str) -> None:
    assert judged(archive(directory("d"), member(f"d/{name}"))).files == 1


@pytest.mark.parametrize("target", ["/etc/passwd", "../../x", ".", "x\ny", "missing", "a" * 4000])
def test_a_symbolic_link_may_point_anywhere_while_nothing_passes_through_it(target: str) -> None:
    assert judged(archive(symlink("link", target), member("file"))).symlinks == 1


def test_a_hard_link_to_a_symbolic_link_is_one_more_name_for_it() -> None:
    assert judged(archive(symlink("link", "/etc"), hard_link("again", "link"))).hard_links == 1


def test_sparse_files_of_the_old_kind_are_passed_with_their_maps() -> None:
    last_map = bytearray(BLOCK)
    more_maps = bytes(504) + b"\1" + bytes(7)
    sparse = header(b"sparse", b"S", 1024, b"ustar  \0", extended=(482, b"\1"), real=(483, b"00000100000\0"))
    data = sparse + more_maps + bytes(last_map) + b"x" * 1024 + FILE + END
    assert judged(data).files == 2
    assert judged_in_pieces(data, 512).bytes == 1024


def test_sizes_beyond_octal_are_understood() -> None:
    base_256 = header(b"big", b"0", real=(124, b"\x80" + (700).to_bytes(11, "big")))
    assert judged(base_256 + bytes(1024) + FILE + END).bytes == 700
    decimal = pax(record(b"size", b"700")) + header(b"big", b"0", 9)
    assert judged(decimal + bytes(1024) + FILE + END).bytes == 700


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with everything that a file system of a test may hold."""
    root = tmp_path_factory.mktemp("tree")
    (root / "dir/deeper").mkdir(parents=True)
    (root / "dir/file").write_bytes(os.urandom(100_000))
    (root / "dir/deeper/empty").touch()
    os.link(root / "dir/file", root / "dir/same")
    (root / "link").symlink_to("/etc/passwd")
    os.link(root / "link", root / "link-again", follow_symlinks=False)
    (root / "up").symlink_to("../..")
    os.mkfifo(root / "fifo")
    (root / os.fsdecode(b"latin-\xe9")).write_text("x")
    (root / ("n" * 255)).write_text("long")
    (root / "new\nline").write_text("x")
    with (root / "sparse").open("wb") as file:
        for offset in range(0, 100 * 1_000_000, 1_000_000):
            file.seek(offset)
            file.write(b"x" * 5000)
    return root


SPARSE = ("--sparse", "--sparse-version=0.1", "--sparse-version=0.0", "--sparse-version=1.0")
MADE = [
    *((f"--format={name}", *sparse) for name in ("gnu", "oldgnu") for sparse in ((), SPARSE[:1])),
    *(("--format=posix", "--xattrs", *sparse) for sparse in ((), *((SPARSE[0], version) for version in SPARSE[1:]))),
    ("--format=ustar", "--exclude=n*", "--exclude=latin*"),
]


@pytest.mark.parametrize("options", MADE, ids=" ".join)
def test_what_gnu_tar_makes_is_sound_however_it_is_cut(tree: Path, options: tuple[str, ...]) -> None:
    command = ["tar", "--create", *options, "-C", str(tree), "."]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    whole = judged(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
    assert whole.members == len(names)
    assert whole.fifos == 1
    assert whole.symlinks + whole.hard_links == 4
    for size in (511, 512, 10_240, 65_537):
        assert judged_in_pieces(data, size) == whole


def test_files_that_are_one_hole_are_told_and_others_are_not(tmp_path: Path) -> None:
    for name, size, data in (("hole", 10**7, b""), ("some", 10**7, b"x"), ("empty", 0, b""), ("small", 0, b"x")):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
            file.write(data)
    hollow: list[bytes] = []
    judge = Judge(hollow=hollow.append)
    command = ["tar", "--create", "--format=posix", "--sparse", "-C", str(tmp_path), "."]
    judge.feed(subprocess.run(command, check=True, capture_output=True).stdout)
    assert judge.finish().files == 4
    assert hollow == [b"./hole"]


# -- what ends too early, or is no archive


@pytest.mark.law(6)
@pytest.mark.fault("S05", "C02")
def test_an_archive_that_is_cut_anywhere_is_truncated() -> None:
    data = archive(member("a" * 150, data=b"x" * 700), member("b", data=b"y"), format=tarfile.PAX_FORMAT)
    end = len(data.rstrip(b"\0")) // BLOCK * BLOCK + BLOCK
    for length in range(0, end + 2 * BLOCK, 64):
        with pytest.raises(Corrupt):
            judged(data[:length])
    assert judged(data[: end + 2 * BLOCK]).files == 2


@pytest.mark.fault("S04")
def test_no_bytes_are_no_archive() -> None:
    with pytest.raises(Corrupt, match="truncated"):
        judged(b"")


@pytest.mark.fault("C03", "C12")
@pytest.mark.parametrize("garbage", [b"x", FILE, b"\0" * 511 + b"x", b"\0" * 100])
def test_anything_but_whole_blocks_of_zeros_after_the_end_is_refused(garbage: bytes) -> None:
    with pytest.raises(Corrupt):
        judged(FILE + END + garbage)
    assert judged(FILE + END + bytes(40 * BLOCK)).files == 1


@pytest.mark.parametrize(
    "data",
    {
        "one zero block and more": FILE + bytes(BLOCK) + FILE + END,
        "a text": b"x" * 2048,
        "a broken checksum": FILE[:148] + b"000001\0 " + FILE[156:] + END,
        "a checksum that is no number": FILE[:148] + b"garbage " + FILE[156:] + END,
        "neither POSIX nor GNU": header(b"x", b"0", magic=b"") + END,
        "a size that is no number": header(b"x", b"0", size_=(124, b"0o000000012\0")) + END,
        "a size with an underscore": header(b"x", b"0", size_=(124, b"00000_00012\0")) + END,
        "no size": header(b"x", b"0", size_=(124, b" " * 12)) + END,
        "a negative size": header(b"x", b"0", size_=(124, b"\xff" * 12)) + END,
        "a size beyond 2^63": header(b"x", b"0", size_=(124, b"\x80" + b"\xff" * 11)) + END,
        "a pax size that is no number": pax(record(b"size", b"1_0")) + FILE + END,
        "a pax size that is negative": pax(record(b"size", b"-1")) + FILE + END,
        "a pax record without end": pax(b"12 path=abcde") + FILE + END,
        "a pax record of length 0": pax(b"0 path=x\n") + FILE + END,
        "a pax record that is too long": pax(b"99 path=x\n") + FILE + END,
        "a pax record without a value": pax(b"8 pathx\n") + FILE + END,
        "an extended header at the end": pax(record(b"path", b"x")) + END,
    }.items(),
    ids=lambda item: item[0],
)
def test_what_is_malformed_is_corrupt(data: tuple[str, bytes]) -> None:
    with pytest.raises(Corrupt):
        judged(data[1])


# -- what could do harm


def refused(data: bytes, match: str | None = None, limits: Limits | None = None) -> None:
    with pytest.raises(UnsafeArchive, match=match) as caught:
        judged(data, limits)
    assert isinstance(caught.value, RestoreRefused)
    assert str(caught.value).isprintable(), "a hostile name must not reach a terminal"
    for size in (512, 1000):
        with pytest.raises((UnsafeArchive, IntegrityError)):
            judged_in_pieces(data, size, limits)


@pytest.mark.law(8)
@pytest.mark.fault("A01", "N03")
@pytest.mark.parametrize(
    "name", ["../x", "/abs", "a/../../x", "a/..", "..", "./../x", "a//b", "//x", "a/./b", "/", "a/../a", "../\x1b[31m"]
)
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_name_that_leaves_the_directory_is_refused(name: str, format: int) -> None:
    refused(archive(member("fine", data=b"x"), member(name, data=b"x"), format=format))
    refused(archive(member("f"), hard_link("link", name), format=format))


@pytest.mark.fault("A01")
@pytest.mark.parametrize("key", [b"path", b"GNU.sparse.name"])
@pytest.mark.parametrize("name", [b"../x", b"/x", b"a\0b", b"a/../../x"])
def test_a_name_in_an_extended_header_counts_not_the_harmless_one_beside_it(key: bytes, name: bytes) -> None:
    refused(pax(record(key, name)) + FILE + END)


@pytest.mark.fault("A01")
def test_the_prefix_of_a_posix_header_is_part_of_the_name() -> None:
    refused(header(b"x", b"0", prefix=(345, b"../up")) + END)
    assert judged(header(b"x", b"0", magic=b"ustar  \0", other=(345, b"../up")) + END).files == 1


@pytest.mark.fault("A02")
@pytest.mark.parametrize(
    "members",
    {
        "through a symbolic link": [symlink("evil", "/victim"), member("evil/passwd")],
        "through one below a directory": [directory("d"), symlink("d/evil", "/victim"), member("d/evil/x/passwd")],
        "through a link to a link": [symlink("a", "."), symlink("b", "a/.."), member("b/x")],
        "over a symbolic link": [symlink("evil", "/victim/file"), member("evil", data=b"x")],
        "a directory over a link": [symlink("evil", "/victim"), directory("evil"), member("evil/x")],
        "a link over a directory": [directory("d"), member("d/x"), symlink("d", "/victim"), member("e")],
        "a link over an implied directory": [member("d/x"), symlink("d", "/victim")],
        "a link over a link": [symlink("a", "b"), symlink("a", "/victim")],
        "a hard link to outside": [hard_link("evil", "/victim/file")],
        "a hard link upwards": [hard_link("evil", "../victim")],
        "a hard link to nothing": [hard_link("evil", "missing")],
        "a hard link to a directory": [directory("d"), hard_link("evil", "d")],
        "a hard link through a symbolic link": [symlink("a", "/victim"), hard_link("evil", "a/file")],
        "through a hard link to a symbolic link": [symlink("a", "/victim"), hard_link("b", "a"), member("b/x")],
        "over a hard link to a symbolic link": [symlink("a", "/victim"), hard_link("b", "a"), member("b", data=b"x")],
        "through a file": [member("a"), member("a/b")],
        "the root as a link": [symlink(".", "/victim"), member("x")],
        "the root as a file": [member(".", data=b"x")],
        "the root with a slash as a link": [symlink("./", "/victim"), member("x")],
    }.items(),
    ids=lambda item: item[0],
)
def test_what_touches_a_link_is_refused(members: tuple[str, list[Member]]) -> None:
    for format in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        refused(archive(*members[1], format=format))


@pytest.mark.fault("A02")
def test_a_chain_of_links_longer_than_any_path_is_refused() -> None:
    """The shape of CVE-2025-4517: a path that a check cannot resolve any more, and so takes for harmless."""
    members, path, step = [], "", "d" * 247
    for letter in "abcdefghijklmnop":
        members += [directory(f"{path}{step}"), symlink(f"{path}{letter}", step)]
        path += f"{letter}/"
    members += [symlink(f"{path}{'l' * 254}", "../" * 16), symlink("escape", f"{path}{'l' * 254}/../victim")]
    members += [hard_link("flag", "escape"), member("flag", data=b"pwned")]
    refused(archive(*members), "pass through the link")


@pytest.mark.fault("A03")
@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_a_device_is_refused(kind: bytes) -> None:
    refused(archive(member("null", kind, devmajor=1, devminor=3)), "device")


@pytest.mark.fault("A03")
@pytest.mark.parametrize("kind", [b"D", b"M", b"N", b"V", b"A", b"\xff"])
def test_a_member_of_another_kind_is_refused(kind: bytes) -> None:
    refused(header(b"x", kind) + END, "unknown type")


@pytest.mark.fault("A03")
def test_a_fifo_and_odd_modes_and_owners_are_content() -> None:
    found = judged(
        archive(
            member("pipe", tarfile.FIFOTYPE),
            member("su", mode=0o4755),
            member("all", mode=0o777),
            member("who", uid=12345, gid=54321),
        )
    )
    assert (found.fifos, found.files) == (1, 3)


@pytest.mark.fault("A04")
@pytest.mark.parametrize(
    "members",
    [
        [member("a", data=b"1"), member("a", data=b"2")],
        [member("a"), member("./a")],
        [directory("d"), directory("d")],
        [directory("."), directory("./")],
        [member("a"), directory("a")],
        [directory("a"), member("a")],
        [member("a"), symlink("a", "/victim"), member("a", data=b"x")],
        [member("a"), hard_link("a", "a")],
        [member("a/b"), member("c"), member("a/b")],
    ],
    ids=lambda members: " ".join(info.name for info, _ in members),
)
def test_a_name_that_stands_there_twice_is_refused(members: list[Member]) -> None:
    refused(archive(*members))


@pytest.mark.fault("A05")
def test_limits_on_members_bytes_names_and_headers_are_kept() -> None:
    ten = archive(*(member(str(number), data=b"x" * 1000) for number in range(10)))
    assert judged(ten, Limits(members=10, bytes=len(ten))).files == 10
    refused(ten, "more than the 9 members", Limits(members=9))
    refused(ten, "longer than", Limits(bytes=len(ten) - 1))
    refused(archive(member("f" * 256)), "too long a name")
    refused(archive(member("/".join(["d" * 200] * 21))), "too long a name")
    refused(archive(symlink("a", "t" * 4096)), "no usable target")
    refused(header(b"x", b"x", 2**40) + END, "extended header of")
    refused(header(b"x", b"L", 2**40, b"ustar  \0") + END, "extended header of")


@pytest.mark.fault("A05")
def test_a_bomb_of_zeros_is_stopped_at_the_limit_and_not_at_its_end() -> None:
    class Endless(io.RawIOBase):
        def __init__(self) -> None:
            self.given = 0

        def read(self, size: int = -1) -> bytes:
            self.given += size
            return header(b"bomb", b"0", size_=(124, b"77777777777\0")) if self.given == size else bytes(size)

    stream = Endless()
    with pytest.raises(UnsafeArchive, match="longer than"):
        judge(stream, Limits(bytes=50_000_000))  # type: ignore[arg-type]
    assert stream.given < 60_000_000


@pytest.mark.fault("A05")
@pytest.mark.parametrize(
    "data",
    {
        "a link with data": header(b"x", b"2", 512, target=(157, b"t")) + bytes(512) + END,
        "a hard link with data": FILE + header(b"x", b"1", 512, target=(157, b"file")) + bytes(512) + END,
        "a directory with data": header(b"d/", b"5", 512) + bytes(512) + END,
        "a file named as a directory": header(b"d/", b"0") + END,
        "an old directory": header(b"d/", b"\0") + END,
        "two extended headers": pax(record(b"path", b"a")) + pax(record(b"path", b"../b")) + FILE + END,
        "two long names": (header(b"x", b"L", 2) + padded(b"a\0")) * 2 + FILE + END,
        "a long name and an extended header": header(b"x", b"L", 2)
        + padded(b"a\0")
        + pax(record(b"path", b"b"))
        + FILE,
        "an extended header and a long name": pax(record(b"path", b"b"))
        + header(b"x", b"L", 2)
        + padded(b"a\0")
        + FILE,
        "the same record twice": pax(record(b"path", b"a") + record(b"path", b"../b")) + FILE + END,
        "an empty path": pax(record(b"path", b"")) + FILE + END,
        "a name with a hidden end": header(b"x", b"L", 6) + padded(b"a\0../b") + FILE + END,
        "an unknown record": pax(record(b"GNU.dumpdir", b"Yx")) + FILE + END,
        "a global path": pax(record(b"path", b"../x"), b"g") + FILE + END,
        "a charset": pax(record(b"hdrcharset", b"UTF-16")) + FILE + END,
        "a POSIX header of a GNU kind": header(b"x", b"S") + END,
        "no name": header(b"", b"0") + END,
        "a link to nowhere": header(b"x", b"2") + END,
    }.items(),
    ids=lambda item: item[0],
)
def test_what_two_readers_could_understand_differently_is_refused(data: tuple[str, bytes]) -> None:
    refused(data[1])


def test_harmless_global_headers_and_attributes_are_taken() -> None:
    records = (
        record(b"SCHILY.xattr.user.x", b"a=\n\0b") + record(b"mtime", b"1.5") + record(b"SCHILY.acl.access", b"u::")
    )
    data = pax(record(b"comment", b"x"), b"g") + pax(records) + FILE + END
    assert (judged(data).files, judged(data).acls) == (1, 1)


# -- properties

part = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=30).filter(
    lambda text: text not in (".", "..") and len(text.encode()) < 200
)
path = st.lists(part, min_size=1, max_size=4).map("/".join)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    files=st.dictionaries(path, st.binary(max_size=2000), max_size=12),
    size=st.integers(1, 5000),
    format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_any_tree_of_files_is_sound_and_counted_however_it_is_cut(
    files: dict[str, bytes], size: int, format: int
) -> None:
    below = {name for name in files if any(other.startswith(f"{name}/") for other in files)}
    members = [member(name, data=data) for name, data in sorted(files.items()) if name not in below]
    data = archive(*members, format=format)
    found = judged(data)
    assert (found.files, found.bytes) == (len(members), sum(len(content) for _, content in members))
    assert judged_in_pieces(data, size) == found


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(position=st.integers(0), value=st.integers(1, 255))
def test_a_flipped_bit_never_ends_in_anything_but_a_verdict_or_a_refusal(position: int, value: int) -> None:
    data = bytearray(
        archive(directory("d"), member("d/" + "n" * 120, data=b"x" * 100), symlink("l", "t"), hard_link("h", "l"))
    )
    data[position % len(data)] ^= value
    try:
        judged(bytes(data))
    except (UnsafeArchive, Corrupt) as error:
        assert str(error).isprintable()  # noqa: PT017


kinds: st.SearchStrategy[Callable[[str, str], Member]] = st.sampled_from(
    [lambda name, _: member(name, data=b"pwned"), lambda name, _: directory(name), symlink, hard_link]
)
names = st.sampled_from(
    ["a", "b", "a/b", "b/a", "a/b/c", "..", "../victim", "./a", "victim", "a/../victim", "a/victim"]
)
targets = st.sampled_from(["a", "b", ".", "..", "../victim", "/victim", "a/b", "a/..", "victim"])


@pytest.mark.law(8)
@pytest.mark.fault("A01", "A02", "A04")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=150)
@given(chosen=st.lists(st.tuples(kinds, names, targets), min_size=1, max_size=6))
def test_what_the_judge_takes_tar_extracts_without_touching_anything_else(
    chosen: list[tuple[Callable[[str, str], Member], str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("jail")
    (root / "victim").write_text("precious")
    (root / "target").mkdir()
    data = archive(*(make(name, target.replace("/victim", f"{root}/victim")) for make, name, target in chosen))
    try:
        judged(data)
    except UnsafeArchive:
        return
    subprocess.run(["tar", "-xf", "-", "-C", str(root / "target")], input=data, capture_output=True, check=False)
    assert (root / "victim").read_text() == "precious"
    assert (root / "victim").lstat().st_nlink == 1
    assert sorted(os.listdir(root)) == ["target", "victim"]
