"""A directory of any host, looked after by a shell there: it needs POSIX sh, coreutils and a Linux kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePath
from typing import Any

from blocks.held import apart, held_directory, spare_of
from blocks.host import Host
from blocks.servers import LocalServer
from blocks.sources.tree import REFUSALS, Tree
from blocks.sources.tree_local import LocalTree
from vault.errors import SourceError, Transient, printable
from vault.process import Command

ARGUMENTS = 32 * 1024
"""Bytes of names that fit into one command."""

_ENTRIES = r"""
if [ ! -e "$1" ] && [ ! -L "$1" ]; then echo 'No such file or directory'
elif [ ! -d "$1" ]; then echo 'Not a directory'
elif [ ! -r "$1" ] || [ ! -x "$1" ]; then echo 'Permission denied'
else ls -A -U -b -- "$1/" | head -n "$2" | wc -l
fi
"""
_HAS = '[ -e "$1" ] || [ -L "$1" ] && echo yes || echo no'
# A file that truly is one hole has nothing but zeros. Of very large ones the first GiB has to do.
_FALSE_HOLE = r"""
cd -- "$1" || exit; shift
for name do
    [ -f "$name" ] && [ ! -L "$name" ] && [ "$(stat -c %b -- "$name")" = 0 ] || continue
    [ "$(head -c 1073741824 -- "$name" | tr -d '\0' | head -c 1 | wc -c)" -eq 0 ] || { printf %s "$name"; exit; }
done
"""
# What is printed is a word of REFUSALS, or nothing. $3: yes, no, or place: only whether anything may be restored there.
_CHECK = r"""
target=$1; parent=$2; overwrite=$3
real=$(readlink -m -- "$target"); home=$(readlink -m -- "${HOME:-/}")
[ "$target" != / ] && [ "$real" != / ] || { echo home; exit; }
for one in "${HOME:-/}" "$home"; do
    for it in "$target" "$real"; do
        case $one/ in "$it"/*) echo home; exit ;; esac
    done
done
[ ! -L "$target" ] || { echo link; exit; }
[ -d "$parent" ] || { echo orphan; exit; }
[ "$overwrite" != place ] || exit 0
if [ -e "$target" ]; then
    [ -d "$target" ] || { echo file; exit; }
    [ "$(stat -c %d -- "$target")" = "$(stat -c %d -- "$parent")" ] || { echo mount; exit; }
    [ "$overwrite" = yes ] || [ -z "$(ls -A -U -- "$target/" | head -n 1)" ] || { echo full; exit; }
fi
[ -w "$parent" ] && [ -x "$parent" ] || echo denied
"""
EXCHANGE = r"""
renameat2() {  # the number of the system call
    case $(uname -m) in
        x86_64) echo 316 ;; aarch64 | riscv64 | loongarch64) echo 276 ;; i?86) echo 353 ;; arm*) echo 382 ;;
        ppc64*) echo 357 ;; s390x) echo 347 ;; *) return 1 ;;
    esac
}
by_perl='exit(syscall(0 + shift, -100, $ARGV[0], -100, $ARGV[1], 2) == 0 ? 0 : 1)'
by_python='import ctypes, os, sys
a, b = map(os.fsencode, sys.argv[2:])
sys.exit(ctypes.CDLL(None).syscall(int(sys.argv[1]), -100, a, -100, b, 2) != 0)'
exchange() {
    mv --exchange -T -- "$1" "$2" 2>/dev/null && return
    call=$(renameat2) || return
    perl -e "$by_perl" "$call" "$1" "$2" 2>/dev/null && return
    python3 -c "$by_python" "$call" "$1" "$2" 2>/dev/null
}
"""
"""A function of a shell: ``exchange A B`` in one step, or not at all."""

# $4: where to put the old one aside, if this system cannot exchange two names in one step.
_SWAP = (
    EXCHANGE
    + r"""
new=$1; target=$2; overwrite=$3; spare=$4
in_two_steps() {
    mv -T -- "$target" "$spare" || return
    mv -T -- "$new" "$target" || { mv -T -- "$spare" "$target"; return 1; }
    mv -T -- "$spare" "$new"
}
if ! said=$(mv -T -f -- "$new" "$target" 2>&1); then
    [ -d "$target" ] && [ ! -L "$target" ] && [ -n "$(ls -A -U -- "$target/" | head -n 1)" ] ||
        { printf '%s\n' "$said" >&2; exit 1; }
    [ "$overwrite" = yes ] || { echo filled; exit; }
    exchange "$new" "$target" || in_two_steps || exit
fi
sync -- "${target%/*}/" 2>/dev/null || sync
"""
)


class ShellTree(Tree[PurePath]):
    """A directory of any host. A shell there holds the staging directory, and removes it when we are gone."""

    @property
    def is_root(self) -> bool:
        """See ``Tree.is_root``."""
        return self._ask("id -u") == "0"

    def entries(self, most: int) -> int:
        """See ``Tree.entries``."""
        said = self._ask(_ENTRIES, str(self.path), str(most))
        if not said.isdecimal():
            raise SourceError(f"directory {self.name} cannot be read: {printable(said)}")
        return int(said)

    def has(self, name: str) -> bool:
        """See ``Tree.has``."""
        return self._ask(_HAS, str(self.path / name)) == "yes"

    def false_hole(self, names: Sequence[bytes]) -> bytes | None:
        """See ``Tree.false_hole``."""
        for some in _portions(names):
            found = self._ask(_FALSE_HOLE, str(self.path), *[os.fsdecode(b"./" + name) for name in some])
            if found:
                return os.fsencode(found)[2:]
        return None

    def in_use(self) -> bool:
        """See ``Tree.in_use``."""
        return self._ask(_ENTRIES, str(self.path), "1") == "1"

    def check_target(self, overwrite: bool) -> None:
        """See ``Tree.check_target``."""
        self._check("yes" if overwrite else "no")

    def check_place(self) -> None:
        """See ``Tree.check_place``."""
        self._check("place")

    def _check(self, how: str) -> None:
        word = self._ask(_CHECK, str(self.path), str(self.path.parent), how)
        if word in REFUSALS:
            raise self.refused(word)

    def staging(self) -> AbstractContextManager[PurePath]:
        """See ``Tree.staging``."""
        prefix = f".{self.path.name[:64]}.restore-"
        return held_directory(self.host, prefix, str(self.path.parent), str(self.path))

    def sync(self, new: PurePath) -> None:
        """See ``Tree.sync``."""
        try:
            self._ask('sync -f -- "$1"', str(new))
        except SourceError as error:
            if isinstance(error, Transient):
                raise
            raise self.refusal(f"cannot be written to disk: {error.message}") from error

    def swap(self, new: PurePath, overwrite: bool) -> None:
        """See ``Tree.swap``. Where neither coreutils, perl nor python can exchange two names, it takes two steps."""
        arguments = (str(new), str(self.path), "yes" if overwrite else "no", str(spare_of(new)))
        try:
            said = self.host.run(apart(_SWAP, *arguments)).stdout.decode().strip()
        except SourceError as error:
            if isinstance(error, Transient):
                raise
            raise self.refusal(f"cannot be replaced: {error.message}") from error
        if said:
            raise self.refused(said)

    def _ask(self, script: str, *arguments: str) -> str:
        """What a shell *script* prints."""
        done = self.host.run(Command(("sh", "-c", script, "sh", *arguments), idle_timeout=None))
        return os.fsdecode(done.stdout).removesuffix("\n")


def _portions(names: Sequence[bytes]) -> Iterator[list[bytes]]:
    """*names* in lists that fit into a command."""
    some: list[bytes] = []
    for name in names:
        if some and sum(map(len, some)) + len(name) > ARGUMENTS:
            yield some
            some = []
        some.append(name)
    if some:
        yield some


def tree_at(host: Host, path: PurePath, called: str = "") -> Tree[Any]:
    """The directory at *path* of *host*: looked after in Python here, and by a shell elsewhere."""
    if isinstance(host, LocalServer):
        return LocalTree(host, Path(path), called)
    return ShellTree(host, path, called)
