"""An SFTP destination: the contract on four servers, and what only SSH and a far file system can do to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.blocks.core import Block
from pydantic import SecretStr

from blocks.destinations import sftp_messages as ask
from blocks.destinations.base import Destination
from blocks.destinations.places import MARKER
from blocks.destinations.sftp import SftpDestination
from blocks.destinations.sftp_files import create
from tests.contract.destination import DestinationContract
from tests.contract.source import CANARY, BlockSuite
from tests.destinations.faulty import FaultyDestination
from tests.peers.rclone_sftp import SftpOfRclone
from tests.peers.sshd import SshServer


def on(server: SshServer | SftpOfRclone, path: Path, **fields: object) -> SftpDestination:
    """A destination on *server*, in a directory that is named after *path*; with a key, or the password."""
    root = f"{server.seen}/{path.parent.name}-{path.name}"
    common = {"host": "127.0.0.1", "port": server.port, "user": server.user, "root": root, "host_key": server.host_key}
    if isinstance(server, SftpOfRclone):
        return SftpDestination(**{**common, "password": SecretStr(server.password), **fields})
    key = {"private_key": SecretStr(server.key(CANARY)), "passphrase": SecretStr(CANARY)}
    return SftpDestination(**{**common, **key, **fields})


def at(server: SshServer | SftpOfRclone, destination: Destination) -> Path:
    """Where the root of *destination* really is."""
    inner = destination.inner if isinstance(destination, FaultyDestination) else destination
    assert isinstance(inner, SftpDestination)
    return server.served / Path(inner.root).name


def lies_in(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()} - {MARKER}


def shown_in(destination: Destination) -> set[str]:
    """What the server itself shows: rclone writes to its disk later, and only when all have closed a file."""
    assert isinstance(destination, SftpDestination)
    with destination._connected() as connection:
        sftp, found, directories = connection.sftp, set(), [destination.root]
        while directories:
            directory = directories.pop()
            for name, attributes in sftp.scan(directory):
                path = f"{directory}/{name}"
                if attributes.is_file:
                    found.add(path.removeprefix(f"{destination.root}/"))
                elif name not in (".", ".."):
                    directories.append(path)
    return found - {MARKER}


class SftpContract(DestinationContract):
    @pytest.fixture
    def destination(self, server: SshServer | SftpOfRclone, tmp_path: Path) -> Destination:
        prepared = on(server, tmp_path)
        prepared.prepare()
        self.server = server
        return prepared

    def lies_there(self, destination: Destination) -> set[str]:
        return lies_in(at(self.server, destination))

    def put_small(self, destination: Destination, key: str) -> None:
        self.plant(destination, key)

    def plant(self, destination: Destination, name: str) -> None:
        path = at(self.server, destination) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"foreign")


class TestSftpWithAShell(SftpContract):
    @pytest.fixture
    def server(self, sshd: SshServer) -> SshServer:
        return sshd


class TestSftpInAChroot(SftpContract):
    @pytest.fixture
    def server(self, sshd_chroot: SshServer) -> SshServer:
        return sshd_chroot


@pytest.mark.fault("T18")
class TestSftpWithoutExtensions(SftpContract):
    @pytest.fixture
    def server(self, sshd_bare: SshServer) -> SshServer:
        return sshd_bare


@pytest.mark.fault("T18")
class TestSftpOfRclone(SftpContract):
    @pytest.fixture
    def server(self, rclone_sftp: SftpOfRclone) -> SftpOfRclone:
        return rclone_sftp

    def lies_there(self, destination: Destination) -> set[str]:
        return shown_in(destination)

    def plant(self, destination: Destination, name: str) -> None:
        assert isinstance(destination, SftpDestination)
        path = f"{destination.root}/{name}"
        with destination._connected() as connection:
            connection.sftp.all(ask.make_directory(path.rpartition("/")[0], 0o700))
            connection.sftp.do(ask.close(create(connection.sftp, path)))


@pytest.mark.slow  # the wrapper has the whole contract around a local one, in test_faulty.py
class TestFaultySftpDestination(SftpContract):
    @pytest.fixture
    def server(self, sshd: SshServer) -> SshServer:
        return sshd

    @pytest.fixture
    def destination(self, server: SshServer, tmp_path: Path) -> Destination:
        prepared = on(server, tmp_path)
        prepared.prepare()
        self.server = server
        return FaultyDestination.around(prepared)

    def again(self, destination: Destination) -> Destination:
        assert isinstance(destination, FaultyDestination)
        return FaultyDestination.around(super().again(destination.inner))


class TestSftpDestinationBlock(BlockSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return SftpDestination
