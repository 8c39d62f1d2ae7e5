"""A directory on a host that is gone when we are: a shell there holds it, and removes it when its input ends.

So it goes in time whatever happens to us or to the way there. Where that shell itself is killed, or the host falls,
it is removed by the next one of the same name that finds its owner dead. POSIX sh and coreutils are all it needs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath, PurePosixPath

from blocks.host import Host
from vault.errors import BackupError, SourceError, SourceUnavailable
from vault.process import Command

TREE, SPARE = "tree", "tree.spare"
"""What is inside: the directory that is given out; and what a swap in two steps has put aside."""

# $1: the parent directory; "" for that of temporary files. $2: what its name begins with. $3: the path, if any, whose
# content a swap in two steps may have left aside. It leaves the session of what started it, so that it outlives the
# kill of the rest and can clean up.
_HOLD = r"""
umask 077
here=${1:-${TMPDIR:-/var/tmp}}; prefix=$2; target=$3
started() {
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    stat=${stat##*) }
    set -- $stat
    case $1 in [ZX]) return 1 ;; esac
    printf '%s' "${20}"
}
alive() {  # the owner of a directory: its process, start, boot and pid namespace, and when it was made
    [ "$3" = "$boot" ] || return 1
    [ "$4" = "$space" ] || { [ "$((now - ${5:-0}))" -lt 86400 ]; return; }
    [ "$(started "$1")" = "$2" ]
}
clear() {
    # From now on nothing is moved out of it, or into it: whoever swaps at this moment has done so, or fails.
    dying=$(mktemp -u -- "$here/${prefix}XXXXXXXXXX") && mv -T -- "$1" "$dying" && set -- "$dying"
    if [ -d "$1/tree.spare" ] && [ "$(cat "$1/target")" = "$target" ] && [ ! -e "$target" ]; then
        mv -T -- "$1/tree.spare" "$target" || return
    fi
    [ "$(id -u)" = 0 ] || chmod -R -f u+rwX -- "$1" 2>/dev/null
    tries=0
    until rm -rf $one -- "$1" 2>/dev/null; do  # somebody may be dying while still writing to it
        tries=$((tries + 1))
        [ "$tries" -lt 20 ] || { rm -rf $one -- "$1"; return; }
        sleep 0.5
    done
}
one=--one-file-system
rm -f $one 2>/dev/null || one=  # not known to busybox
boot=$(cat /proc/sys/kernel/random/boot_id); space=$(readlink /proc/self/ns/pid); now=$(date +%s)
for old in "$here/$prefix"??????????; do
    [ -d "$old" ] && [ ! -L "$old" ] && [ -O "$old" ] && [ -f "$old/owner" ] || continue
    owner=$(cat "$old/owner") || continue
    # shellcheck disable=SC2086
    ! alive $owner || continue
    [ ! -d "$old/tree.spare" ] || [ "$(cat "$old/target")" = "$target" ] || continue
    clear "$old" || exit
done
held=$(mktemp -d -- "$here/${prefix}XXXXXXXXXX") || exit
trap '' HUP INT TERM PIPE
! command -v setfacl >/dev/null || setfacl -b -k -- "$held" 2>/dev/null  # what is made here inherits none
if printf '%s\n' "$$ $(started $$) $boot $space $now" >"$held/owner" &&
    printf '%s\n' "$target" >"$held/target" && mkdir -- "$held/tree"; then
    printf '%s\n' "${held#"$here/$prefix"}" "$here"
    cat >/dev/null
    clear "$held"
else
    clear "$held"
    exit 1
fi
"""
_APART = 'if command -v setsid >/dev/null; then exec setsid sh -c "$@"; else exec sh -c "$@"; fi'


@contextmanager
def held_directory(host: Host, prefix: str, parent: str = "", target: str = "") -> Iterator[PurePath]:
    """A new directory (0700) in *parent* on *host*, in one whose name begins with *prefix*; removed at exit.

    *parent* is that of temporary files where it is empty. See :func:`spare_of` for *target*.
    """
    with host.session(apart(_HOLD, parent, prefix, target)) as shell:
        suffix, here = (os.fsdecode(shell.stdout.readline()).removesuffix("\n") for _ in range(2))
        if not here:
            shell.finish()
            raise SourceError(f"no directory could be made on {host.location}")
        try:
            yield PurePosixPath(parent or here) / f"{prefix}{suffix}" / TREE
        except BaseException as error:
            try:
                shell.stdin.close()
                shell.finish()
            except SourceUnavailable as lost:  # and the directory with it, which is what a tool will have missed
                if any(type(one) is SourceError for one in (error, error.__cause__)):
                    raise lost from error
            except BackupError:
                pass  # the first error is the one to tell; the directory goes all the same
            raise


def spare_of(held: PurePath) -> PurePath:
    """Where to put aside what is at *target* for a moment, while it is replaced in two steps.

    When we die between the two, the next ``held_directory`` for that *target* puts it back.
    """
    return held.parent / SPARE


def apart(script: str, *arguments: str) -> Command:
    """The shell *script* in a session of its own, which no kill of its caller's reaches: it ends by itself."""
    return Command(("sh", "-c", _APART, "sh", script, "sh", *arguments), idle_timeout=None)
