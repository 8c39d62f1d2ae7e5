"""Parts put into a directory of any host, by a shell there: it needs POSIX sh, coreutils and a Linux kernel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import PurePath
from typing import Any

from blocks.held import apart
from blocks.sources.in_place import InPlace
from blocks.sources.in_place_local import LocalInPlace
from blocks.sources.tree import Tree
from blocks.sources.tree_local import LocalTree
from blocks.sources.tree_shell import ARGUMENTS, EXCHANGE, ShellTree
from vault.errors import ConfigError, RestoreRefused, SourceError, Transient, printable

# One enters a directory by its name, and then sees whether it is the one that was looked at: a link that has taken its
# place meanwhile is not followed. Where we are then, nothing can be exchanged under us.
_WALK = r"""
there() { [ -e "$1" ] || [ -L "$1" ]; }
says() { printf '%s %s %s' "$1" "$number" "$2"; }
walk() {  # PLACE: to the last directory on the way to it that is there; *rest* is what is left of the way
    cd -P -- "$root" && [ ! -L "$root" ] || exit
    rest=$1
    while :; do
        case $rest in */*) ;; *) return 0 ;; esac
        name=${rest%%/*}
        there "./$name" || return 0
        [ -d "./$name" ] && [ ! -L "./$name" ] && was=$(stat -c %d:%i -- "./$name") &&
            cd -P -- "./$name" 2>/dev/null && [ "$(stat -c %d:%i .)" = "$was" ] || return 1
        rest=${rest#*/}
    done
}
"""
# What is printed is the name of a method of InPlace, the number of a place, and more about it; or nothing.
_CHECK = (
    _WALK
    + r"""
root=$1 overwrite=$2 number=0
shift 2
for place do
    walk "$place" || { says unreachable "$name"; exit; }
    [ -w . ] && [ -x . ] || { says denied; exit; }
    case $rest in
        */*) ;;
        *) [ "$overwrite" = yes ] || ! there "./$rest" || { says exists; exit; } ;;
    esac
    number=$((number + 1))
done
"""
)
_PUT = (
    _WALK
    + EXCHANGE
    + r"""
root=$1 new=$2 overwrite=$3 number=0 moves=0
shift 3
device=$(stat -c %d -- "$new") || exit
# undo MOVE...: the first *moves* of these, the last one first
undo() {
    while [ "$moves" -gt 0 ]; do
        path=${1#?}
        walk "$path" && case $1 in
            x*) exchange "$new/$path" "./$rest" ;;
            *) mv -n -T -- "./$rest" "$new/$path" ;;
        esac
        moves=$((moves - 1))
        shift
    done
} >/dev/null 2>&1
for place do
    # It is not there any more where it came with a directory above it that was missing.
    if there "$new/$place"; then
        walk "$place" || { says unreachable "$name"; undo "$@"; exit; }
        first=${rest%%/*} path=${place%"$rest"}
        path=$path$first
        [ "$(stat -c %d .)" = "$device" ] || { says failed 'it is on another file system'; undo "$@"; exit; }
        if [ "$overwrite" = yes ] && there "./$first"; then
            exchange "$new/$path" "./$first" ||
                { says failed "mv --exchange, perl or python3 has to do it there, and none does"; undo "$@"; exit; }
            set -- "x$path" "$@"
        else
            said=$(mv -n -T -- "$new/$path" "./$first" 2>&1)
            if there "$new/$path"; then
                if there "./$first"; then says taken; else says failed "$said"; fi
                undo "$@"
                exit
            fi
            set -- "n$path" "$@"
        fi
        moves=$((moves + 1))
    fi
    number=$((number + 1))
done
number=0
sync -f -- "$root" || { says failed 'it cannot be written to disk'; undo "$@"; }
"""
)


class ShellInPlace(InPlace[PurePath]):
    """See ``InPlace``: a directory of any host. What is there is exchanged in one step, or not at all."""

    def staging(self) -> AbstractContextManager[PurePath]:
        """See ``InPlace.staging``."""
        return ShellTree(self.tree.host, self.tree.path / "part", self.tree.called).staging()

    def check(self, places: Sequence[bytes], overwrite: bool) -> None:
        """See ``InPlace.check``."""
        if sum(map(len, places)) > ARGUMENTS:
            raise ConfigError(f"{len(places)} paths are too many at once", "Take the directory above them.")
        self.tree.check_place()
        self._ask(_CHECK, places, str(self.tree.path), _yes(overwrite))

    def put(self, new: PurePath, places: Sequence[bytes], overwrite: bool) -> None:
        """See ``InPlace.put``."""
        self._ask(_PUT, places, str(self.tree.path), str(new), _yes(overwrite))

    def _ask(self, script: str, places: Sequence[bytes], *arguments: str) -> None:
        """Run *script* for *places*; raise what it says."""
        try:
            done = self.tree.host.run(apart(script, *arguments, *map(os.fsdecode, places)))
        except SourceError as error:
            if isinstance(error, Transient):
                raise
            raise self.tree.refusal(f"takes no part: {error.message}") from error
        if not done.stdout:
            return
        word, number, more = done.stdout.split(b" ", 2)
        raise self._refused(word.decode(), places[int(number)], more)

    def _refused(self, word: str, place: bytes, more: bytes) -> RestoreRefused:
        if word == "unreachable":
            return self.unreachable(place, more)
        if word == "failed":
            return self.failed(place, printable(os.fsdecode(more)))
        return {"denied": self.denied, "exists": self.exists, "taken": self.taken}[word](place)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def parts_of(tree: Tree[Any]) -> InPlace[Any]:
    """How parts are put into *tree*, which is in use."""
    return LocalInPlace(tree) if isinstance(tree, LocalTree) else ShellInPlace(tree)
