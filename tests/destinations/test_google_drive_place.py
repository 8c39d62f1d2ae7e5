"""Google Drive: whose account and which folder, names that are not unique, several writers, and what is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from blocks.destinations.google_drive import GoogleDriveDestination
from blocks.destinations.google_drive_tree import Tree
from blocks.destinations.google_drive_upload import QUANTUM
from tests.contract.destination import KEY, OTHER, get, keys, put
from tests.contract.source import CANARY
from tests.destinations.test_google_drive import destination, lies_in, pauses, plant_in, server
from tests.destinations.test_google_drive_failing import fresh, object_at
from tests.peers.drive import DriveServer
from tests.peers.drive_state import FOLDER, Node
from vault.errors import AccessDenied, AlreadyExists, ConfigError, DestinationError, NotFound
from vault.spool import Segment

__all__ = ["destination", "pauses", "server"]  # fixtures

ME = "me@example.org"


def as_me(server: DriveServer, **fields: Any) -> GoogleDriveDestination:
    """With an OAuth client that I authorised."""
    client, secret = server.drive.accounts.client(CANARY)
    scope = fields.get("scope", "drive.file")
    token = server.drive.accounts.authorise(client, ME, scope, CANARY)
    return GoogleDriveDestination(
        client_id=client, client_secret=SecretStr(secret), refresh_token=SecretStr(token), **fields
    )


def as_service(server: DriveServer, *delegates: str, **fields: Any) -> GoogleDriveDestination:
    """With a service account."""
    service = server.drive.accounts.service_account("backups", CANARY)
    service.delegates.update(delegates)
    return GoogleDriveDestination(service_account_key=SecretStr(service.key), **fields)


def folders(server: DriveServer, name: str) -> list[Node]:
    return [node for node in server.drive.nodes.values() if node.kind == FOLDER and node.name == name]


# -- whose account, and which folder


def test_oauth_makes_a_folder_of_its_own_in_my_drive_once(server: DriveServer) -> None:
    mine = as_me(server)
    mine.prepare()
    mine.check()
    put(mine, KEY, b"x")
    again = GoogleDriveDestination.model_validate({**mine.model_dump(), "folder_id": ""})
    again.prepare()
    assert again.folder_id == mine.folder_id
    assert keys(again) == {KEY}
    (root,) = folders(server, "prefect-backups")
    assert root.parents == [server.drive.home(ME)]
    assert (again.shared_drive, again.location) == ("", f"Google Drive folder {root.id}")


def test_two_who_prepare_at_once_agree_on_one_folder(server: DriveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    first = as_me(server)
    second = fresh(first)
    real = Tree.make_folder

    def meanwhile(tree: Tree, *args: Any) -> str:
        monkeypatch.setattr(Tree, "make_folder", real)
        second.prepare()
        return tree.make_folder(*args)

    monkeypatch.setattr(Tree, "make_folder", meanwhile)
    first.prepare()
    assert first.folder_id == second.folder_id


def test_a_service_account_writes_into_a_folder_that_was_shared_with_it(server: DriveServer) -> None:
    """And finds out by itself that it is in a Shared Drive."""
    service = server.drive.accounts.service_account("backups", CANARY)
    drive = server.drive.shared_drive(**{service.email: "organizer"})
    folder = server.drive.add("Given", drive, shared_with={service.email})
    address = f"https://drive.google.com/drive/u/0/folders/{folder.id}?usp=sharing"
    given = as_service(server, folder_id=address)
    given.prepare()
    assert (given.folder_id, given.shared_drive) == (folder.id, drive)
    given.check()
    put(given, KEY, b"x")
    assert keys(given) == {KEY}
    assert given.free_space() is None


def test_a_service_account_writes_as_the_user_that_it_may_impersonate(server: DriveServer) -> None:
    given = as_service(server, ME, impersonate=ME)
    given.prepare()
    given.check()
    put(given, KEY, b"x")
    assert object_at(server).owner == ME


def test_a_user_that_it_may_not_impersonate_is_access_denied(server: DriveServer) -> None:
    with pytest.raises(AccessDenied, match="unauthorized_client") as caught:
        as_service(server, impersonate="chief@example.org").prepare()
    assert "domain-wide delegation" in caught.value.remedy


@pytest.mark.fault("T06")
def test_a_folder_that_a_person_made_is_seen_with_the_scope_drive_only(server: DriveServer) -> None:
    folder = server.drive.add("Backups", server.drive.home(ME), ME)
    with pytest.raises(DestinationError, match="not shared with us") as caught:
        as_me(server, folder_id=folder.id).prepare()
    assert 'try scope "drive"' in caught.value.remedy
    wide = as_me(server, folder_id=folder.id, scope="drive")
    wide.prepare()
    wide.check()


def test_a_new_account_finds_the_backups_of_one_that_was_lost(
    server: DriveServer, destination: GoogleDriveDestination
) -> None:
    """The destination is the truth: neither the lost account nor its OAuth client is needed to find them."""
    put(destination, KEY, b"x")
    server.drive.managers[destination.shared_drive][ME] = "organizer"
    new = as_me(server, folder_id=destination.folder_id, scope="drive")
    new.prepare()
    assert keys(new) == {KEY}
    assert get(new, KEY) == b"x"
    put(new, OTHER, b"y")
    new.remove(KEY)
    assert keys(new) == {OTHER}


@pytest.mark.fault("T14")
def test_a_root_that_is_not_listed_yet_is_known_by_its_id(server: DriveServer) -> None:
    mine = as_me(server)
    server.drive.fail("list", hide=True, times=100)
    mine.prepare()
    (root,) = folders(server, "prefect-backups")
    assert mine.folder_id == root.id


def test_a_file_is_no_folder(server: DriveServer) -> None:
    file = server.drive.add("notes", server.drive.home(ME), ME, b"x")
    with pytest.raises(DestinationError, match="no folder"):
        as_me(server, folder_id=file.id, scope="drive").prepare()


def test_what_was_not_prepared_says_how_to_prepare_it(server: DriveServer) -> None:
    with pytest.raises(ConfigError, match="was not prepared"):
        as_me(server).stat(KEY)
    assert server.drive.calls == []


KEY_FILE = SecretStr('{"type": "service_account", "client_email": "a@b", "private_key": "x", "private_key_id": "y"}')


@pytest.mark.fault("O07")
@pytest.mark.law(10)
@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "either the key"),
        ({"service_account_key": KEY_FILE, "refresh_token": SecretStr("x")}, "either the key"),
        ({"refresh_token": SecretStr("x")}, "needs the id and the secret"),
        ({"service_account_key": KEY_FILE}, "has no storage"),
        ({"service_account_key": SecretStr(f"{CANARY}{{")}, "no JSON key"),
        ({"service_account_key": SecretStr(f'{{"type": "authorized_user", "x": "{CANARY}"}}')}, "no JSON key"),
        ({"service_account_key": SecretStr('{"type": "service_account"}')}, "has no client_email, private_key"),
        ({"folder_id": "x' or '' in parents", "service_account_key": KEY_FILE}, "pattern"),
    ],
)
def test_fields_that_do_not_fit_are_refused_without_a_word_of_the_secrets(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem) as caught:
        GoogleDriveDestination(**fields)
    assert CANARY not in str(caught.value)


def test_a_key_that_cannot_be_read_is_told_without_a_word_of_it() -> None:
    broken = GoogleDriveDestination(folder_id="x", service_account_key=KEY_FILE)
    with pytest.raises(ConfigError, match="private key of a@b cannot be read") as caught:
        broken.stat(KEY)
    assert caught.value.__cause__ is None


# -- names are not unique


@pytest.mark.fault("D06", "D17")
def test_of_several_files_of_one_name_the_oldest_is_the_object_and_remove_takes_all(
    server: DriveServer, destination: GoogleDriveDestination
) -> None:
    put(destination, KEY, b"ours")
    plant_in(server, destination, KEY)
    for seen in (destination, fresh(destination)):
        assert get(seen, KEY) == b"ours"
        assert seen.stat(KEY).size == 4
        assert [(found.key, found.size) for found in seen.list("")] == [(KEY, 4)]
    destination.remove(KEY)
    assert lies_in(server) == set()


@pytest.mark.fault("D08")
@pytest.mark.parametrize("kind", ["document", "shortcut", "spreadsheet"])
def test_what_is_no_file_is_no_object(server: DriveServer, destination: GoogleDriveDestination, kind: str) -> None:
    plant_in(server, destination, KEY)
    object_at(server).kind = f"application/vnd.google-apps.{kind}"
    assert keys(destination) == set()
    with pytest.raises(NotFound):
        destination.stat(KEY)
    put(destination, KEY, b"x")
    assert get(destination, KEY) == b"x"
    destination.remove(KEY)
    assert lies_in(server) == {KEY}  # which is not ours


@pytest.mark.fault("T22")
def test_names_that_differ_in_case_only_are_two_objects(
    server: DriveServer, destination: GoogleDriveDestination
) -> None:
    put(destination, "shop/abc", b"small")
    put(destination, "shop/ABC", b"large")
    again = fresh(destination)
    assert (get(again, "shop/abc"), get(again, "shop/ABC")) == (b"small", b"large")
    again.remove("shop/abc")
    assert keys(destination) == {"shop/ABC"}


def in_the_gap(monkeypatch: pytest.MonkeyPatch, other: Any) -> None:
    """Let *other* happen once, between the look whether a name is free and the renaming."""
    real = Tree.rename

    def rename(tree: Tree, *args: Any) -> Any:
        monkeypatch.setattr(Tree, "rename", real)
        other()
        return tree.rename(*args)

    monkeypatch.setattr(Tree, "rename", rename)


@pytest.mark.law(11)
@pytest.mark.fault("D06", "X02")
@pytest.mark.parametrize("older", [0, 1])
@pytest.mark.parametrize("checksums", [True, False])
def test_two_who_commit_the_same_bytes_at_once_both_succeed_and_leave_one_file(
    server: DriveServer,
    destination: GoogleDriveDestination,
    monkeypatch: pytest.MonkeyPatch,
    older: int,
    checksums: bool,
) -> None:
    server.drive.checksums = checksums
    uploads = [destination.upload(KEY), fresh(destination).upload(KEY)]
    for upload in uploads:
        upload.append(Segment.of(b"same"))
    in_the_gap(monkeypatch, uploads[1].commit)
    sent = uploads[older]
    real = server.drive.new_node

    def aged(account: Any, body: Any, *more: Any) -> Node:
        node = real(account, body, *more)
        if node.id == sent._id:  # type: ignore[attr-defined]
            node.created -= timedelta(minutes=5)
        return node

    monkeypatch.setattr(server.drive, "new_node", aged)
    assert uploads[0].commit().size == uploads[1].commit().size == 4
    assert lies_in(server) == {KEY}
    assert object_at(server).id == sent._id  # type: ignore[attr-defined]
    assert get(destination, KEY) == b"same"


@pytest.mark.law(11)
@pytest.mark.fault("D06", "X02")
def test_who_finds_other_bytes_under_the_name_that_he_took_gives_way(
    server: DriveServer, destination: GoogleDriveDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, early = destination.upload(KEY), fresh(destination).upload(KEY)
    late.append(Segment.of(b"late"))
    early.append(Segment.of(b"soon"))
    in_the_gap(monkeypatch, early.commit)
    with pytest.raises(AlreadyExists):
        late.commit()
    late.abort()
    assert lies_in(server) == {KEY}
    assert get(destination, KEY) == b"soon"


@pytest.mark.fault("D06")
def test_files_without_googles_digests_are_compared_by_their_bytes(
    server: DriveServer, destination: GoogleDriveDestination
) -> None:
    server.drive.checksums = False
    put(destination, KEY, b"same")
    assert put(destination, KEY, b"same").size == 4
    with pytest.raises(AlreadyExists):
        put(destination, KEY, b"same"[::-1])
    assert lies_in(server) == {KEY}


@pytest.mark.law(11)
def test_two_who_make_an_apps_folder_at_once_agree_on_one_and_both_are_read(
    server: DriveServer, destination: GoogleDriveDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = fresh(destination)
    real = Tree.make_folder

    def meanwhile(tree: Tree, *args: Any) -> str:
        monkeypatch.setattr(Tree, "make_folder", real)
        put(other, OTHER, b"x")
        return tree.make_folder(*args)

    monkeypatch.setattr(Tree, "make_folder", meanwhile)
    put(destination, KEY, b"x")
    put(other, "shop/third", b"x")
    assert len(folders(server, "shop")) == 2
    assert {node.parents[0] for node in server.drive.nodes.values() if node.content is not None} == {
        min(folders(server, "shop"), key=lambda node: (node.created, node.id)).id
    }
    second = folders(server, "shop")[1]
    server.drive.add("stray", second.id, content=b"x", applications=second.applications)
    assert keys(fresh(destination), "shop/") == {KEY, OTHER, "shop/third", "shop/stray"}
    assert get(destination, "shop/stray") == b"x"


@pytest.mark.fault("T14")
def test_a_folder_that_is_not_listed_yet_is_not_made_twice(
    server: DriveServer, destination: GoogleDriveDestination
) -> None:
    server.drive.fail("list", hide=True, after=1, times=2)  # after it was found to be missing
    put(destination, KEY, b"x")
    put(destination, OTHER, b"x")
    assert len(folders(server, "shop")) == 1
    assert keys(destination) == {KEY, OTHER}


def test_a_folder_that_somebody_deleted_is_made_again(server: DriveServer, destination: GoogleDriveDestination) -> None:
    put(destination, KEY, b"x")
    for node in [*folders(server, "shop"), object_at(server)]:
        del server.drive.nodes[node.id]
    assert keys(destination, "shop/") == set()
    put(destination, KEY, b"y")
    assert get(destination, KEY) == b"y"


def test_threads_share_one_destination(server: DriveServer, destination: GoogleDriveDestination) -> None:
    contents = {f"shop/{number}": os.urandom(QUANTUM * 2 + number) for number in range(6)}
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda key: put(destination, key, contents[key], pieces=3), contents))
        found = dict(zip(contents, pool.map(lambda key: get(destination, key), contents), strict=True))
    assert found == contents
    assert keys(destination) == set(contents)
    assert len(folders(server, "shop")) == 1


# -- what is left behind


@pytest.mark.fault("D07", "X03", "K05")
def test_clean_deletes_hidden_files_that_were_left_for_a_day_and_nothing_else(
    server: DriveServer, destination: GoogleDriveDestination
) -> None:
    put(destination, KEY, b"x")
    left = []
    for hours in (25, 23):
        upload = destination.upload(OTHER)
        upload.append(Segment.of(b"y"))
        server.drive.fail("list", status=400)  # so the name is never given
        with pytest.raises(DestinationError):
            upload.commit()
        (hidden,) = [n for n in server.drive.nodes.values() if n.name.endswith(".partial") and n not in left]
        hidden.created = hidden.modified = datetime.now(UTC) - timedelta(hours=hours)
        left.append(hidden)
    object_at(server).created = object_at(server).modified = datetime.now(UTC) - timedelta(days=400)
    plant_in(server, destination, "shop/.foreign.partial")
    assert keys(destination) == {KEY}
    now = datetime.now(UTC)
    assert destination.clean(now) == (f"shop/{left[0].name}",)
    assert destination.clean(now) == ()
    assert lies_in(server) == {KEY, "shop/.foreign.partial", f"shop/{left[1].name}"}


# -- what it costs


def test_a_list_takes_a_call_a_page_and_none_an_object(
    server: DriveServer, destination: GoogleDriveDestination
) -> None:
    for number in range(2500):
        plant_in(server, destination, f"shop/{number:05}")
    put(destination, "other/x", b"x")
    before = len(server.drive.calls)
    assert len(keys(destination, "shop/")) == 2500
    assert [name for name, _ in server.drive.calls[before:]] == ["list"] * (1 + 3)
    before = len(server.drive.calls)
    get(destination, "shop/00007")
    assert [name for name, _ in server.drive.calls[before:]] == ["media"]


def test_an_upload_of_many_segments_takes_one_call_a_segment(
    server: DriveServer, destination: GoogleDriveDestination
) -> None:
    put(destination, OTHER, b"x")
    before = len(server.drive.calls)
    put(destination, KEY, os.urandom(8 * QUANTUM), pieces=4)
    calls = [name for name, _ in server.drive.calls[before:]]
    assert calls.count("chunk") == 4 + 1
    assert len(calls) <= 5 + 6


def test_googles_libraries_are_imported_only_where_they_are_needed() -> None:
    script = "import sys, blocks; print(*(name for name in sys.modules if name.startswith(('google.', 'googleapi'))))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
