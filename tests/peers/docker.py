"""A real Docker Engine of the tests' own: private state, a private socket, no network; images made of this machine."""

from __future__ import annotations

import io
import json
import os
import re
import select
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.peers.postgres import MissingPeer, find_binaries
from vault.process import tied_to_us

INSTALL = "apt-get install -y docker.io busybox-static"
PLAIN = "backups-test-plain:1"
"""Busybox and nothing else: what runs in the containers of the app."""
GNU = "backups-test-gnu:1"
"""A shell, GNU tar, coreutils, perl and setsid, as Debian has them: a helper image."""
DATABASE = "backups-test-database:1"
"""An empty system for a database whose ``/usr`` is that of this machine: see ``DockerEngine.postgres``, ``mariadb``."""
MARIADB_SOCKET = "/run/mysqld.sock"

_MERGED = ("bin", "lib", "lib64", "sbin")
_USERS = "root:x:0:0:root:/root:/bin/sh\npostgres:x:999:999::/tmp:/bin/sh\n"


@dataclass(frozen=True)
class DockerEngine:
    """A running daemon. ``host`` is its socket, as ``DOCKER_HOST`` has it."""

    place: Path
    host: str
    process: subprocess.Popen[bytes] = field(repr=False)

    def __call__(self, *arguments: str, input: bytes = b"", ok: bool = True) -> str:
        """``docker`` with *arguments*; what it printed. With *ok* it has to succeed."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.place), "DOCKER_HOST": self.host}
        done = subprocess.run(["docker", *arguments], env=environment, input=input, capture_output=True)
        assert not ok or done.returncode == 0, f"docker {arguments}: {done.stderr.decode(errors='replace')}"
        return done.stdout.decode(errors="replace").strip()

    def start(self, name: str, *options: str, image: str = PLAIN, command: Sequence[str] = ()) -> str:
        """Start a container that runs until it is told to stop, which it does at once; its id."""
        wait = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 60 & wait $!; done")
        return self("run", "-d", "--name", name, "--network=none", *options, image, *(command or wait))

    def postgres(self, name: str, volume: str, *options: str) -> str:
        """Start a PostgreSQL whose data lies in *volume*, which is made where it is new; wait until it answers."""
        bin_dir = find_binaries()
        line = (
            "set -e; cd /tmp; mkdir -p /run/postgresql; chown postgres /data /run/postgresql; "
            f"as='setpriv --reuid=999 --regid=999 --clear-groups {bin_dir}'; "
            "[ -e /data/PG_VERSION ] || $as/initdb -D /data -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync; "
            "exec $as/postgres -D /data -c listen_addresses=127.0.0.1 -c fsync=off "
            "-c unix_socket_directories=/run/postgresql"
        )
        mounts = ("-v", "/usr:/usr:ro", "-v", f"{volume}:/data", "--stop-signal=SIGINT")
        self("run", "-d", "--name", name, "--network=none", *mounts, *options, DATABASE, "sh", "-c", line)
        self.await_postgres(name)
        return name

    def await_postgres(self, name: str) -> None:
        """Until the PostgreSQL of container *name* answers."""
        while self.sql(name, "SELECT 1", ok=False) != "1":
            assert self.state(name)["Running"], self.log(name)

    def sql(self, name: str, text: str, database: str = "postgres", ok: bool = True) -> str:
        """What *text* selects in the PostgreSQL of container *name*, unaligned."""
        argv = [str(find_binaries() / "psql"), "-XqAtw", "-v", "ON_ERROR_STOP=1", "-U", "postgres"]
        where = ["-h", "/run/postgresql", "-d", database, "-f", "-"]
        return self("exec", "-i", name, *argv, *where, input=text.encode(), ok=ok)

    def mariadb(self, name: str, volume: str) -> str:
        """Start a MariaDB whose data lies in *volume*, without a password for root; wait until it answers."""
        line = (
            "set -e; cd /tmp; chown postgres /data /run; as='setpriv --reuid=999 --regid=999 --clear-groups'; "
            "$as mariadb-install-db --no-defaults --datadir=/data --skip-test-db --skip-name-resolve "
            "--auth-root-authentication-method=normal; exec $as mariadbd --no-defaults --datadir=/data "
            f"--socket={MARIADB_SOCKET} --bind-address=127.0.0.1 --innodb-flush-log-at-trx-commit=0"
        )
        mounts = ("-v", "/usr:/usr:ro", "-v", f"{volume}:/data")
        self("run", "-d", "--name", name, "--network=none", *mounts, DATABASE, "sh", "-c", line)
        while self.mysql(name, "SELECT 1", ok=False) != "1":
            assert self.state(name)["Running"], self.log(name)
        return name

    def mysql(self, name: str, text: str, database: str = "", ok: bool = True) -> str:
        """What *text* selects in the MariaDB of container *name*, a row a line, columns by tabs."""
        argv = ["mariadb", "--no-defaults", f"--socket={MARIADB_SOCKET}", "--user=root", "--batch", "-N"]
        where = ["--default-character-set=utf8mb4", f"--database={database}"]
        return self("exec", "-i", name, *argv, *where, input=text.encode(), ok=ok)

    def redis(self, name: str, volume: str, config: str = "") -> Path:
        """Start a Redis whose data and socket lie in *volume*; where that is on this machine."""
        place = self.volume(volume)
        (place / "redis.conf").write_text(config)
        server = "redis-server /data/redis.conf --dir /data --unixsocket /data/socket --bind 127.0.0.1 --save ''"
        line = f"exec {server} --appendonly no --repl-diskless-sync-delay 0"
        mounts = ("-v", "/usr:/usr:ro", "-v", f"{volume}:/data")
        self("run", "-d", "--name", name, "--network=none", *mounts, DATABASE, "sh", "-c", line)
        return place

    def log(self, name: str) -> str:
        """What container *name* wrote."""
        return Path(self("inspect", "--format={{.LogPath}}", name)).read_text()

    def state(self, name: str) -> dict[str, Any]:
        """The state of container *name*: ``Running``, ``Paused``, ``StartedAt`` …"""
        found: dict[str, Any] = json.loads(self("inspect", "--type=container", "--format={{json .State}}", name))
        return found

    def volume(self, name: str) -> Path:
        """A new volume; where its content lies on this machine."""
        self("volume", "create", name)
        return self.content_of(name)

    def content_of(self, volume: str) -> Path:
        """Where the content of *volume* lies on this machine."""
        return Path(self("volume", "inspect", "--format={{.Mountpoint}}", volume))

    def volumes(self) -> set[str]:
        """The names of all volumes."""
        return set(self("volume", "ls", "--quiet").split())

    def running(self) -> set[str]:
        """The names of all containers that run and are not paused."""
        return set(self("ps", "--filter=status=running", "--format={{.Names}}").split())

    def import_image(self, name: str, members: Iterable[tuple[str, Path | str | bytes | None]]) -> None:
        """An image of *members*: a name, and a file to copy, a link's target, content, or None: a directory."""
        archive, added = io.BytesIO(), {"."}
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for member, source in members:
                for above in reversed(Path(member).parents):  # what is not named is made for root alone
                    if str(above) not in added:
                        _add(tar, str(above), None)
                        added.add(str(above))
                _add(tar, member, source)
                added.add(member)
        self("import", "-", name, input=archive.getvalue())

    def clear(self) -> None:
        """Remove all containers and volumes."""
        while containers := self("ps", "--all", "--quiet").split():
            self("rm", "--force", "--volumes", *containers, ok=False)  # one that removes itself cannot be removed
        while volumes := self.volumes():
            self("volume", "rm", *volumes, ok=False)  # one of a container that has just gone may still be in use


def _add(tar: tarfile.TarFile, member: str, source: Path | str | bytes | None) -> None:
    info = tarfile.TarInfo(member)
    info.mode = 0o1777 if member.endswith("tmp") else 0o755
    if isinstance(source, str):
        info.type, info.linkname = tarfile.SYMTYPE, source
    elif source is None:
        info.type = tarfile.DIRTYPE
    content = source.read_bytes() if isinstance(source, Path) else source if isinstance(source, bytes) else b""
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    """One daemon for all tests of a session."""
    with running_engine() as engine:
        yield engine


@pytest.fixture
def docker(docker_engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerEngine]:
    """The daemon that ``docker`` means in this test, with nothing in it but images."""
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    yield docker_engine
    docker_engine.clear()


@contextmanager
def running_engine(first_user: int | None = None) -> Iterator[DockerEngine]:
    """Start a daemon; at the end it and all that it has started is ended, by process id.

    With *first_user*, that user of this machine is root in its containers, and the next ones are the others there.
    """
    if os.getuid() != 0:
        raise MissingPeer("only root can start a Docker Engine: run the tests as root")
    daemon = shutil.which("dockerd") or shutil.which("dockerd", path="/usr/sbin:/sbin")
    if daemon is None or not all(map(shutil.which, ("docker", "busybox"))):
        raise MissingPeer(f"the tests need a Docker Engine: {INSTALL}")
    place = Path(tempfile.mkdtemp(prefix="backups-test-docker-", dir="/tmp"))
    try:
        engine = _start(_mapping(place, first_user), daemon, place)
        try:
            _make_images(engine)
            yield engine
            engine.clear()
        finally:
            _end(engine)
    finally:
        shutil.rmtree(place)


def _mapping(place: Path, first_user: int | None) -> tuple[list[str], list[str]]:
    """What starts a daemon so that it maps users, with files of its own instead of this machine's; and its option."""
    if first_user is None:
        return [], []
    place.chmod(0o711)
    ids = place / "ids"
    ids.write_text(f"nobody:{first_user}:65536\nnogroup:{first_user}:65536\n")
    line = 'mount --bind "$0" /etc/subuid && mount --bind "$0" /etc/subgid && exec "$@"'
    return ["unshare", "--mount", "--propagation=private", "sh", "-c", line, str(ids)], [
        "--userns-remap=nobody:nogroup"
    ]


def _start(mapping: tuple[list[str], list[str]], daemon: str, place: Path) -> DockerEngine:
    host = f"unix://{place}/socket"
    state = [f"--data-root={place}/data", f"--exec-root={place}/exec", f"--pidfile={place}/pid", f"--host={host}"]
    alone = ["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"]
    (place / "config.json").write_text("{}")  # not the one of this machine
    before, mapped = mapping
    argv = [*tied_to_us("TERM"), *before, daemon, f"--config-file={place}/config.json", *state, *alone, *mapped]
    with open(place / "log", "wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    engine = DockerEngine(place, host, process)
    while not engine("version", "--format={{.Server.Version}}", ok=False):
        assert process.poll() is None, (place / "log").read_text()
    return engine


def _end(engine: DockerEngine) -> None:
    with suppress(AssertionError):  # what is left is killed below
        engine.clear()
    kept = _processes_of(engine.place)
    engine.process.send_signal(signal.SIGTERM)
    engine.process.wait(timeout=300)
    for handle, pid in kept:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        select.select([handle], [], [], 300)
        os.close(handle)
    for mount in re.findall(
        rf"^\S+ ({re.escape(str(engine.place))}\S*)", Path("/proc/mounts").read_text(), re.MULTILINE
    ):
        subprocess.run(["umount", "--lazy", mount], check=True)


def _processes_of(place: Path) -> list[tuple[int, int]]:
    """What the daemon has started: all whose command line names its private directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes()
            if f"{place}/exec".encode() in words and words.startswith((b"containerd", b"/usr/bin/containerd")):
                found.append((os.pidfd_open(int(entry.name)), int(entry.name)))
    return found


def _make_images(engine: DockerEngine) -> None:
    busybox = Path(str(shutil.which("busybox")))
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    common: list[tuple[str, Path | str | bytes | None]] = [
        *((name, None) for name in ("tmp", "var", "var/tmp", "etc")),
        ("etc/passwd", _USERS.encode()),
    ]
    links = [(f"bin/{name}", "busybox") for name in applets if name != "busybox"]
    engine.import_image(PLAIN, [*common, ("bin/busybox", busybox), *links])
    engine.import_image(GNU, [*common, *_with_libraries(_gnu_tools())])
    merged = [(name, f"usr/{name}") for name in _MERGED]
    engine.import_image(DATABASE, [*common, *merged, ("usr", None), ("data", None), ("run", None)])


def _gnu_tools() -> list[Path]:
    listed = subprocess.run(["dpkg", "-L", "coreutils"], capture_output=True, text=True, check=True).stdout.split()
    tools = [Path(name) for name in listed if Path(name).parent.name == "bin" and Path(name).is_file()]
    return [
        *tools,
        *(Path(str(shutil.which(name))) for name in ("sh", "tar", "flock", "perl", "setsid", "setfattr", "find")),
    ]


def _with_libraries(tools: list[Path]) -> list[tuple[str, Path | str | bytes | None]]:
    """Each of *tools* in ``bin``, and the libraries that they load where these lie."""
    said = subprocess.run(["ldd", *tools], capture_output=True, text=True).stdout
    libraries = sorted(set(re.findall(r"(/\S+\.so[.0-9]*) \(0x", said)))
    return [*((f"bin/{tool.name}", tool) for tool in tools), *((name[1:], Path(name)) for name in libraries)]
