"""A container of our own that sees what lies in a volume, for as long as we look."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from blocks.docker.container import Container
from blocks.docker.engine import ABSENT, ask, docker
from blocks.host import Host
from vault.errors import BackupError, SourceError, printable

PLACE = "/volume"
"""Where the mount is in the helper."""

# Until nobody holds its standard input any more; and then until whoever has something to remove in here has done so.
# Who shares our mounts is in here, also where all processes of the server are seen.
_WAIT = """
case $(tar --version) in *'GNU tar'*) ;; *) echo 'the tar of this image is not GNU tar' >&2; exit 1 ;; esac
echo ready
cat >/dev/null
tries=0
while [ "$tries" -lt 6000 ]; do
    others=
    for one in /proc/[0-9]*; do
        [ "$one" = "/proc/$$" ] || [ ! "$one/ns/mnt" -ef "/proc/$$/ns/mnt" ] || others=yes
    done
    [ -n "$others" ] || exit 0
    tries=$((tries + 1))
    sleep 0.1
done
"""
# Users are those of the server: where the daemon maps those of containers, none of ours would be who owns a volume.
_ALONE = (
    *("--interactive", "--rm", "--pull=never", "--network=none", "--read-only", "--user=0:0", "--userns=host"),
    *("--cap-drop=ALL", "--security-opt=no-new-privileges", "--security-opt=label=disable"),
    *("--label=prefect-backups.helper", "--no-healthcheck", "--workdir=/", "--entrypoint=sh"),
)
_READS = ("--cap-add=DAC_READ_SEARCH",)
_WRITES = ("--pid=host", *(f"--cap-add={one}" for one in ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETFCAP")))


@contextmanager
def helper(server: Host, image: str, mount: Sequence[str], *, writes: bool = False) -> Iterator[Container]:
    """A container from *image* with *mount* (options of ``--mount``) at ``PLACE``; it ends and is removed with us.

    The image has to be there already: nothing is pulled. Of root's rights it has that to read everything, or where it
    *writes* those to give files to anybody. Such a one sees the processes of the server: so it can tell whether what
    another one has left there is still somebody's.
    """
    _refuse_absent(server, image)
    name = f"prefect-backups-{secrets.token_hex(6)}"
    where = f"--mount={','.join([*mount, f'destination={PLACE}'])}"
    command = docker(
        "run", *_ALONE, *(_WRITES if writes else _READS), f"--name={name}", where, image, "-c", _WAIT, idle_timeout=None
    )
    try:
        with server.session(command) as running:
            if running.stdout.readline().strip() != b"ready":
                running.stdin.close()
                running.finish()
                raise SourceError(f"a helper container from {printable(image)} ended at once", _NEEDS)
            yield Container(server, name)
    except BaseException:
        if not writes:  # that one has to remove what it wrote, and ends by itself then
            with suppress(BackupError):
                ask(server, "rm", "--force", "--", name)
        raise


_NEEDS = "The image has to have sh, coreutils and GNU tar, as debian:stable-slim has."


def _refuse_absent(server: Host, image: str) -> None:
    try:
        ask(server, "image", "inspect", "--format={{.Id}}", "--", image)
    except SourceError as error:
        if not ABSENT.search(error.message):
            raise
        raise SourceError(
            f"the helper image {printable(image)} is not on {server.location}",
            f"Fetch it there: docker pull {printable(image)}. Or choose another one that has GNU tar.",
        ) from error
