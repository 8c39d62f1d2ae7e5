"""How an argv becomes a command of SSH: the one place where anything is quoted, and what guards the tool over there.

An SSH server hands a command to the account's login shell, which may be any: csh and fish read quotes otherwise than
sh. So all they see is letters: the script for sh is base64. It needs POSIX sh, coreutils and a Linux kernel.
"""

from __future__ import annotations

import base64
import os
import shlex
from typing import Literal

from vault.command import LOWERING
from vault.process import Command

Compressor = Literal["zstd", "gzip"]

_LOGIN_SHELL = 'exec sh -c \'eval "$(echo "$0" | base64 -d)"\' '
_LONGEST = 120_000  # of a command: the kernel takes 128 KiB for one argument

# The shell that runs this is the leader of a process group, in which the tool lives and dies. Its standard input is the
# line to us: frames of data for the tool, "end" when the tool's input is whole, and its own end when we are gone, or
# want an end: then the whole group is killed, and before the tool could take what it has for all there is, for until
# then the pipe to it stays open. fd 3: that line; 4: stderr. The shell's own sayings are dropped.
_GUARD = r"""
exec 3<&0 4>&2 </dev/null 2>/dev/null
read -r stat </proc/$$/stat; set -- ${stat##*) }
[ "$3" = $$ ] || [ -n "$BACKUPS_APART" ] || BACKUPS_APART=1 exec setsid sh -c 'eval "$(echo "$0" | base64 -d)"' "$0" \
    <&3 2>&4 3<&- 4>&-
printf '%s\n' @MARK@; printf '%s\n' @MARK@ >&4
gone() { while read -r frame; do :; done; kill -9 0; }
{
    sh -c 'echo "$PPID"'
    @INPUT@
    exec >/dev/null
    gone
} <&3 3<&- 4>&- | {
    exec 3<&-
    read -r guard
    @TOOL@
    kill -9 "$guard"
    exit "$status"
}
exit
"""
_FRAMES = """while read -r frame || kill -9 0; do
        [ "$frame" != end ] || break
        dd bs="$frame" count=1 iflag=fullblock || gone
    done"""
_PLAIN = """tool 2>&4 4>&- @REDIRECT@
    status=$?"""
_COMPRESSED = """exec 6>&1
    codes=$( {
        { tool 2>&4 4>&- 5>&- 6>&- @REDIRECT@; echo "t$?" >&5; } | { exec 5>&-; @COMPRESS@ 2>&4 4>&- 6>&-; }
        echo "c$?" >&5
    } 5>&1 >&6 )
    tool=${codes#*t}; tool=${tool%%[!0-9]*}; compressor=${codes#*c}; compressor=${compressor%%[!0-9]*}
    status=${tool:-125}
    if [ "$compressor" != 0 ] && { [ "$status" = 0 ] || [ "$status" = 141 ]; }; then
        echo "the compressor on the server ended with status ${compressor:-unknown}" >&4
        status=125
        [ "${compressor:-0}" -le 128 ] || status=$compressor
    fi"""
_COMPRESS: dict[Compressor, str] = {"zstd": "zstd -q -c -1", "gzip": "gzip -c -1"}


def command_line(command: Command, mark: str, *, fed: bool, read: bool, compressor: Compressor | None = None) -> str:
    """What the SSH server is to run for *command*: it prints *mark* to stdout and stderr before the tool begins.

    *fed*: its input comes in frames, else it is empty. *read*: its output is wanted, else it is dropped.
    """
    script = _GUARD.replace("@MARK@", mark).replace("@INPUT@", _FRAMES if fed else "")
    body = _PLAIN if compressor is None else _COMPRESSED.replace("@COMPRESS@", _COMPRESS[compressor])
    redirect = " ".join((*([] if fed else ["</dev/null"]), *([] if read else [">/dev/null"])))
    script = script.replace("@TOOL@", body.replace("@REDIRECT@", redirect))
    encoded = base64.b64encode(os.fsencode(_tool(command) + script)).decode()
    if len(encoded) > _LONGEST:
        raise ValueError(f"the command {command.name} is too long: {len(encoded)} bytes")
    return _LOGIN_SHELL + encoded


def _tool(command: Command) -> str:
    """A shell function that runs the tool with its own environment and nothing of the account's but the usual."""
    fixed = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **command.env}
    environment = [f"{name}={value}" for name, value in fixed.items()]
    there = ' PATH="${PATH:-/usr/bin:/bin}" HOME="$HOME" ${TMPDIR:+TMPDIR="$TMPDIR"} ${TZ:+TZ="$TZ"} '
    where = f"cd -- {shlex.quote(command.cwd)} || exit 126; " if command.cwd else ""
    low, way = (LOWERING, "$low ") if command.priority == "low" else ("", "")
    return f"tool() {{ {low}{where}{way}env -i{there}{shlex.join([*environment, *command.argv])}; }}\n"
