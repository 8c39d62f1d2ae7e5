"""`backups destination add google-drive`: a service account's key, or a person who agrees in a browser."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from prefect.blocks.core import Block

from blocks.destinations import GoogleDriveDestination
from cli import google_drive, google_oauth
from tests.contract.destination import KEY, get, put
from tests.contract.source import CANARY
from tests.destinations.test_google_drive import pauses, server
from tests.peers.drive import DriveServer
from vault.errors import AccessDenied, ConfigError

__all__ = ["pauses", "server"]  # fixtures

ME = "me@example.org"
NAME = "drive"


@pytest.fixture(autouse=True)
def _own_api(prefect_api: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command within this process, so that the tests' server can be taken for Google."""
    monkeypatch.setattr(google_drive, "prefect_api", nullcontext)
    yield
    if f"google-drive-destination/{NAME}" in saved():
        Block.delete(f"google-drive-destination/{NAME}")


def saved() -> list[str]:
    from blocks.loading import saved as references

    return references(["google-drive-destination"])


def loaded() -> GoogleDriveDestination:
    found = GoogleDriveDestination.load(NAME)
    assert isinstance(found, GoogleDriveDestination)
    return found


@pytest.fixture
def key_file(server: DriveServer, tmp_path: Path) -> Path:
    """That of a service account which is a Manager of the only Shared Drive."""
    service = server.drive.accounts.service_account("backups", CANARY)
    server.drive.shared_drive(**{service.email: "organizer"})
    path = tmp_path / "key.json"
    path.write_text(json.dumps(json.loads(service.key), indent=2))
    return path


@pytest.fixture
def client_file(server: DriveServer, tmp_path: Path) -> Path:
    client, secret = server.drive.accounts.client(CANARY)
    path = tmp_path / "client.json"
    path.write_text(json.dumps({"installed": {"client_id": client, "client_secret": secret}}))
    return path


def shared_drive(server: DriveServer) -> str:
    (drive,) = server.drive.managers
    return drive


@pytest.mark.law(10)
@pytest.mark.parametrize("source", ["file", "standard input"])
def test_a_service_account_is_tested_and_saved(
    server: DriveServer,
    key_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    source: str,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(key_file.read_text()))
    given = str(key_file) if source == "file" else "-"
    google_drive.add_google_drive(NAME, shared_drive=shared_drive(server), service_account=given)
    found = loaded()
    put(found, KEY, b"x")
    assert get(found, KEY) == b"x"
    said = "".join(capsys.readouterr())
    assert f"Saved destination {NAME}: Google Drive folder {found.folder_id}" in said
    assert CANARY not in said
    assert server.drive.count("chunk") == 2  # the probe, and the object


@pytest.mark.fault("T06", "O07")
def test_what_fails_the_test_is_not_saved_unless_it_is_told_not_to_test(server: DriveServer, key_file: Path) -> None:
    server.drive.managers[shared_drive(server)] = dict.fromkeys(server.drive.accounts.services, "fileOrganizer")
    with pytest.raises(AccessDenied, match="insufficientFilePermissions"):
        google_drive.add_google_drive(NAME, shared_drive=shared_drive(server), service_account=str(key_file))
    assert saved() == []
    google_drive.add_google_drive(NAME, shared_drive=shared_drive(server), service_account=str(key_file), no_test=True)
    assert loaded().shared_drive == shared_drive(server)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"oauth": True},
        {"client_secrets": "x"},
        {"service_account": "x", "oauth": True, "client_secrets": "x"},
        {"service_account": "x", "client_secrets": "x"},
        {"service_account": "/nowhere/key.json"},
        {"oauth": True, "client_secrets": "/nowhere/client.json"},
        {"oauth": True, "client_secrets": "/etc/hostname"},
    ],
)
def test_options_that_do_not_fit_are_refused(server: DriveServer, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        google_drive.add_google_drive(NAME, **options)
    assert saved() == []


# -- the browser


def browser(monkeypatch: pytest.MonkeyPatch, visit: Callable[[dict[str, str]], None]) -> list[str]:
    """Whoever opens the address that is printed: *visit* gets what the address asks for. Returns what was said."""
    said: list[str] = []

    def note(text: str) -> None:
        said.append(text)
        if found := re.search(r"https://accounts\.google\.com/\S+", text):
            visit(dict(parse_qsl(urlsplit(found[0]).query)))

    monkeypatch.setattr(google_oauth, "note", note)
    return said


def background(address: str) -> Future[int]:
    """Open *address* as a browser does, without waiting here for what comes back: the status."""
    pool = ThreadPoolExecutor(1)
    answered = pool.submit(lambda: requests.get(address, timeout=30).status_code)
    pool.shutdown(wait=False)
    return answered


@pytest.mark.law(10)
def test_a_person_who_agrees_in_a_browser_gives_access_to_what_this_app_makes(
    server: DriveServer, client_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits: list[Future[int]] = []

    def visit(query: dict[str, str]) -> None:
        code = server.drive.accounts.consent(query, ME)
        visits.append(background(f"{query['redirect_uri']}/favicon.ico"))
        visits.append(background(f"{query['redirect_uri']}/?state=guessed&code=evil"))
        visits.append(background(f"{query['redirect_uri']}/?state={query['state']}&code={code}"))

    said = browser(monkeypatch, visit)
    google_drive.add_google_drive(NAME, oauth=True, client_secrets=str(client_file))
    assert visits[-1].result() == 200
    found = loaded()
    assert found.refresh_token.get_secret_value() in server.drive.accounts.granted
    put(found, KEY, b"x")
    owners = {node.owner for node in server.drive.nodes.values()}
    assert owners == {ME}
    assert not [text for text in said if CANARY in text]


def test_an_address_that_is_pasted_is_as_good_as_a_browser_that_reaches_us(
    server: DriveServer, client_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, terminal = pty.openpty()

    def visit(query: dict[str, str]) -> None:
        code = server.drive.accounts.consent(query, ME)
        for line in ("what?", "http://[broken", f"http://127.0.0.1:1/?state={query['state']}&code={code}"):
            os.write(ours, f"{line}\n".encode())

    browser(monkeypatch, visit)
    with open(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        token = google_oauth.authorise(google_oauth.Client.read(str(client_file)), "drive.file")
    os.close(ours)
    assert token in server.drive.accounts.granted


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("error=access_denied", "access_denied"),
        ("code=guessed", "invalid_grant"),
        ("", "no code came"),
    ],
)
def test_who_does_not_agree_gives_no_access(
    server: DriveServer, client_file: Path, monkeypatch: pytest.MonkeyPatch, answer: str, problem: str
) -> None:
    browser(monkeypatch, lambda query: background(f"{query['redirect_uri']}/?state={query['state']}&{answer}"))
    with pytest.raises(AccessDenied, match=problem):
        google_drive.add_google_drive(NAME, oauth=True, client_secrets=str(client_file))
    assert saved() == []


def test_who_agrees_to_something_else_gives_no_access(
    server: DriveServer, client_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def visit(query: dict[str, str]) -> None:
        code = server.drive.accounts.consent({**query, "scope": "openid"}, ME)
        background(f"{query['redirect_uri']}/?state={query['state']}&code={code}")

    browser(monkeypatch, visit)
    with pytest.raises(AccessDenied, match="was not granted"):
        google_drive.add_google_drive(NAME, oauth=True, client_secrets=str(client_file))


def test_nobody_is_waited_for_without_end(client_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser(monkeypatch, lambda query: None)
    monkeypatch.setattr(google_oauth, "PATIENCE", 0.0)
    with pytest.raises(AccessDenied, match="nobody agreed"):
        google_oauth.authorise(google_oauth.Client.read(str(client_file)), "drive.file")


# -- a new key, or another consent


@pytest.mark.fault("T05")
def test_an_authorisation_that_ended_is_given_anew_without_the_clients_file(
    server: DriveServer, client_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def visit(query: dict[str, str]) -> None:
        code = server.drive.accounts.consent(query, ME)
        background(f"{query['redirect_uri']}/?state={query['state']}&code={code}")

    browser(monkeypatch, visit)
    google_drive.add_google_drive(NAME, oauth=True, client_secrets=str(client_file))
    before = loaded()
    put(before, KEY, b"x")
    server.drive.accounts.granted.clear()
    with pytest.raises(AccessDenied, match="invalid_grant") as caught:
        loaded().stat(KEY)
    assert "backups destination update NAME --oauth" in caught.value.remedy
    google_drive.update_google_drive(NAME, oauth=True)
    assert loaded().folder_id == before.folder_id
    assert get(loaded(), KEY) == b"x"


def test_a_service_account_takes_the_place_of_a_person_and_gives_it_back(
    server: DriveServer, key_file: Path, client_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    google_drive.add_google_drive(NAME, shared_drive=shared_drive(server), service_account=str(key_file))
    with pytest.raises(ConfigError, match="no OAuth client is saved"):
        google_drive.update_google_drive(NAME, oauth=True)
    server.drive.managers[shared_drive(server)][ME] = "organizer"

    def visit(query: dict[str, str]) -> None:
        code = server.drive.accounts.consent(query, ME)
        background(f"{query['redirect_uri']}/?state={query['state']}&code={code}")

    browser(monkeypatch, visit)
    google_drive.update_google_drive(NAME, oauth=True, client_secrets=str(client_file), scope="drive")
    assert (loaded().service_account_key.get_secret_value(), loaded().scope) == ("", "drive")
    google_drive.update_google_drive(NAME, service_account=str(key_file), scope="drive.file")
    assert (loaded().refresh_token.get_secret_value(), loaded().client_id) == ("", "")
    assert CANARY in loaded().service_account_key.get_secret_value()


@pytest.mark.parametrize(
    "options", [{}, {"client_secrets": "x"}, {"oauth": True, "service_account": "x"}, {"service_account": "/nowhere"}]
)
def test_changes_that_do_not_fit_are_refused(server: DriveServer, key_file: Path, options: dict[str, Any]) -> None:
    google_drive.add_google_drive(NAME, shared_drive=shared_drive(server), service_account=str(key_file))
    before = loaded().model_dump()
    with pytest.raises(ConfigError):
        google_drive.update_google_drive(NAME, **options)
    assert loaded().model_dump() == before
