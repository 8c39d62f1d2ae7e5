"""A real OpenSSH server of the tests' own: one ``sshd -i`` for each connection, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.peers.postgres import MissingPeer
from vault.process import tied_to_us

Kind = Literal["shell", "chroot", "bare"]

INSTALL = "apt-get install -y openssh-server"
_SSHD = "/usr/sbin/sshd"
_EXTENSIONS = "posix-rename,statvfs,fstatvfs,hardlink,fsync,lsetstat,limits,expand-path,copy-data"
_BARE = f"internal-sftp -P {_EXTENSIONS}"
_CONFIG = """
HostKey {place}/host_{type}
AuthorizedKeysFile {place}/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
LogLevel DEBUG
Subsystem sftp {sftp}
"""
_CHROOT = """
ChrootDirectory {place}/chroot
ForceCommand internal-sftp
"""


@dataclass
class SshServer:
    """A running server. What lies in *served* is found at *seen* by who logs in."""

    place: Path
    port: int
    user: str
    served: Path
    seen: str
    host_key: str
    host: str = "127.0.0.1"
    within: Sequence[str] = ()
    """What stands before the command of each session, so that it runs somewhere else."""
    sessions: list[subprocess.Popen[bytes]] = field(default_factory=list, repr=False)

    def key(self, passphrase: str = "", kind: Sequence[str] = ("-t", "ed25519")) -> str:
        """A new private key that the server accepts."""
        text, public = new_key(passphrase, kind)
        with (self.place / "authorized_keys").open("a") as file:
            file.write(public + "\n")
        return text

    def add_host_key(self, kind: str) -> str:
        """One more, beside those it has."""
        line = _make_host_key(self.place, kind)
        config = self.place / "config"
        config.write_text(f"HostKey {self.place}/host_{kind}\n{config.read_text()}")
        return line

    def without_sftp(self) -> None:
        """It does not offer it any more."""
        config = self.place / "config"
        config.write_text("\n".join(line for line in config.read_text().splitlines() if "Subsystem" not in line) + "\n")

    def change_host_key(self, kind: str = "ed25519") -> None:
        """As if somebody set the server up anew."""
        self.host_key = _make_host_key(self.place, kind)
        config = (self.place / "config").read_text()
        first, _, rest = config.strip().partition("\n")
        (self.place / "config").write_text(f"{first.rpartition('_')[0]}_{kind}\n{rest}\n")

    def log(self) -> str:
        """What it said."""
        return (self.place / "log").read_text(errors="replace")

    def kill_sessions(self) -> None:
        """End every connection at once, by process id."""
        for session in self.sessions:
            session.kill()
            session.wait()
        self.sessions.clear()


def new_key(passphrase: str = "", kind: Sequence[str] = ("-t", "ed25519")) -> tuple[str, str]:
    """A private key, encrypted with one round only, and its public line."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "key"
        argv = ["ssh-keygen", "-q", "-a", "1", "-N", passphrase, "-C", "tests", "-f", str(path), *kind]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True)
        return path.read_text(), path.with_suffix(".pub").read_text().strip()


@contextmanager
def running_sshd(
    kind: Kind = "shell", *settings: str, sftp: str = "", address: str = "127.0.0.1"
) -> Iterator[SshServer]:
    """Serve until the end of the context, with further lines of ``sshd_config``, and *sftp* as the command for SFTP."""
    if not os.access(_SSHD, os.X_OK):
        raise MissingPeer(f"the tests need an OpenSSH server: {INSTALL}")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # its service makes it, and does not run
    elif kind == "chroot":
        raise MissingPeer("only root can serve SFTP in a chroot: run the tests as root")
    # A chroot has to lie below directories that nobody but root can write to.
    place = Path(tempfile.mkdtemp(prefix="backups-test-sshd-", dir="/run" if os.getuid() == 0 else None))
    try:
        place.chmod(0o755)
        server = _set_up(place, kind, settings, sftp or (_BARE if kind == "bare" else "internal-sftp"))
        server.host = address
        with _listening(server) as listener:
            server.port = listener.getsockname()[1]
            yield server
    finally:
        shutil.rmtree(place)


def _set_up(place: Path, kind: Kind, settings: Sequence[str], sftp: str) -> SshServer:
    account = pwd.getpwnam("nobody") if kind == "chroot" else pwd.getpwuid(os.getuid())
    served = place / ("chroot/data" if kind == "chroot" else "data")
    served.mkdir(parents=True)
    if kind == "chroot":
        os.chown(served, account.pw_uid, account.pw_gid)
    (place / "authorized_keys").touch()
    host_key = _make_host_key(place, "ed25519")
    config = _CONFIG.format(place=place, type="ed25519", sftp=sftp)
    config += "\n".join(settings) + (_CHROOT.format(place=place) if kind == "chroot" else "")
    (place / "config").write_text(config)
    seen = "/data" if kind == "chroot" else str(served)
    return SshServer(place, 0, account.pw_name, served, seen, host_key)


def _make_host_key(place: Path, kind: str) -> str:
    text, public = new_key(kind=("-t", kind))
    path = place / f"host_{kind}"
    path.write_text(text)
    path.chmod(0o600)
    return " ".join(public.split()[:2])


@contextmanager
def _listening(server: SshServer) -> Iterator[socket.socket]:
    listener = socket.create_server((server.host, 0))
    accepting = threading.Thread(target=_accept, args=(listener, server), daemon=True)
    accepting.start()
    try:
        yield listener
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        server.kill_sessions()


def _accept(listener: socket.socket, server: SshServer) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # closed: the end
            return
        with client, (server.place / "log").open("ab") as log:
            server.sessions = [session for session in server.sessions if session.poll() is None]
            argv = [*tied_to_us(), *server.within, _SSHD, "-i", "-e", "-f", str(server.place / "config")]
            server.sessions.append(subprocess.Popen(argv, stdin=client, stdout=client, stderr=log))
