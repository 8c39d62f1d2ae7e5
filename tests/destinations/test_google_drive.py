"""Google Drive: the contract against a strict server of Google's documented interface, and what only Drive can do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect.blocks.core import Block
from pydantic import SecretStr

from blocks.destinations import google_drive_api, google_drive_auth
from blocks.destinations.base import Destination
from blocks.destinations.google_drive import GoogleDriveDestination
from blocks.destinations.google_drive_upload import QUANTUM
from tests.contract.destination import DestinationContract
from tests.contract.source import CANARY, BlockSuite
from tests.destinations.faulty import FaultyDestination
from tests.peers.drive import DriveServer, running_drive
from tests.peers.drive_state import FOLDER


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited for, which nobody waits here."""
    waited: list[float] = []
    monkeypatch.setattr(google_drive_api, "_sleep", waited.append)
    return waited


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[DriveServer]:
    """What is taken for Google while the test lasts."""
    with running_drive() as running:
        taken_for_google(monkeypatch, running)
        yield running


def taken_for_google(monkeypatch: pytest.MonkeyPatch, server: DriveServer) -> None:
    monkeypatch.setattr(google_drive_api, "ENDPOINT", server.url)
    monkeypatch.setattr(google_drive_auth, "TOKEN_ENDPOINT", f"{server.url}/token")


@pytest.fixture
def destination(server: DriveServer) -> GoogleDriveDestination:
    """In a Shared Drive, with a service account."""
    service = server.drive.accounts.service_account("backups", CANARY)
    drive = server.drive.shared_drive(**{service.email: "organizer"})
    made = GoogleDriveDestination(shared_drive=drive, service_account_key=SecretStr(service.key))
    made.prepare()
    return made


class TestGoogleDrive(DestinationContract):
    holds_back = QUANTUM - 1

    @pytest.fixture
    def destination(self, destination: GoogleDriveDestination) -> Destination:  # the one above
        return destination

    @pytest.fixture(autouse=True)
    def _at(self, server: DriveServer) -> None:
        self.server = server

    def lies_there(self, destination: Destination) -> set[str]:
        return lies_in(self.server)

    def plant(self, destination: Destination, name: str) -> None:
        plant_in(self.server, destination, name)

    def put_small(self, destination: Destination, key: str) -> None:
        self.plant(destination, key)


@pytest.mark.slow  # the wrapper has the whole contract around a local one, in test_faulty.py
class TestGoogleDriveBehindFaulty(TestGoogleDrive):
    @pytest.fixture
    def destination(self, destination: GoogleDriveDestination) -> Destination:
        return FaultyDestination.around(destination)

    def again(self, destination: Destination) -> Destination:
        assert isinstance(destination, FaultyDestination)
        return FaultyDestination.around(super().again(destination.inner))

    def plant(self, destination: Destination, name: str) -> None:
        assert isinstance(destination, FaultyDestination)
        super().plant(destination.inner, name)


class TestGoogleDriveBlock(BlockSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return GoogleDriveDestination


def lies_in(server: DriveServer) -> set[str]:
    """Every file, by its folder's name and its own, and every unfinished upload."""
    nodes = list(server.drive.nodes.values())
    files = {f"{server.drive.nodes[n.parents[0]].name}/{n.name}" for n in nodes if n.kind != FOLDER}
    return files | {f"upload {s.id}" for s in server.drive.sessions.values() if s.node is None and not s.over}


def plant_in(server: DriveServer, destination: Destination, name: str) -> None:
    """A file that our account sees and did not make."""
    assert isinstance(destination, GoogleDriveDestination)
    folder, _, leaf = name.partition("/")
    root = server.drive.nodes[destination.folder_id]
    found = [n for n in server.drive.nodes.values() if n.parents == [root.id] and n.name == folder]
    parent = found[0] if found else server.drive.add(folder, root.id, root.owner, applications=root.applications)
    server.drive.add(leaf, parent.id, root.owner, b"foreign", applications=root.applications)
