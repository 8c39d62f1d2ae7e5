"""``backups prune``, ``pin``, ``unpin`` and ``confirm``, as a person types them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blocks import LocalDestination
from blocks.signing_key import keyring
from tests.cli.conftest import Command
from tests.flows.committed import commit

NIGHTLY = ("--cron", "30 2 * * *", "--timezone", "Europe/Paris")


@pytest.fixture
def ids(command: Command, tmp_path: Path) -> Iterator[list[str]]:
    """A saved app with two destinations, and four backups at each of them, oldest first."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("content")
    for name in ("pr-disk", "pr-other"):
        command("destination", "add", "local", name, tmp_path / name)
    command("app", "add", "pr-shop", "--source", tmp_path / "data", "--to", "pr-disk", "--to", "pr-other")
    made = []
    for days in (4, 3, 2, 1):
        at = datetime.now(UTC) - timedelta(days=days)
        for name in ("pr-disk", "pr-other"):
            content = {"pr-shop-data": b"content of 20 bytes!"}
            made.append(commit(LocalDestination(root=tmp_path / name), "pr-shop", keyring().signer, content, at).id)
    yield made[::2]
    for one in command("schedule", "list", "--json").json:
        command("schedule", "remove", one["name"])
    command("app", "remove", "pr-shop")
    command("source", "remove", "pr-shop-data")
    for name in ("pr-disk", "pr-other"):
        command("destination", "remove", name)


def listed(command: Command, destination: str) -> list[str]:
    rows = command("list", "pr-shop", "--from", destination, "--json").json
    return [row["id"] for row in rows]


def test_prune_says_what_would_go_and_why_and_then_has_it_go(command: Command, ids: list[str]) -> None:
    keep = ("--keep-last", "3", "--keep-at", "pr-other:last=1,min=2", "--type", "files")
    shown = command("prune", "pr-shop", *keep, "--dry-run")
    here = [" ".join(line.split()) for line in shown.out.splitlines() if line.startswith("pr-disk")]
    assert here[0] == f"pr-disk {ids[3]} 20 B stays floor 1 of 1, last 1 of 3", "the newest first"
    assert here[3] == f"pr-disk {ids[0]} 20 B would go no rule keeps it, newer backups replace it"
    assert "pr-disk: 1 of 4 backups of type files would go" in shown.err
    assert "pr-other: 2 of 4 backups" in shown.err
    assert len(listed(command, "pr-disk")) == len(listed(command, "pr-other")) == 4

    done = command("prune", "pr-shop", *keep, "--json").json
    places = {place["destination"]: place for place in done["places"]}
    assert places["pr-disk"]["deleted"] == ids[:1]
    assert len(places["pr-other"]["deleted"]) == 2
    assert listed(command, "pr-disk") == ids[1:]


@pytest.mark.law(4)
def test_what_any_schedule_keeps_stays_and_it_is_named(command: Command, ids: list[str]) -> None:
    assert "are to stay" in command("prune", "pr-shop", code=2).err
    one = ("schedule", "add", "pr-shop", *NIGHTLY, "--keep-last", "2", "--keep-at", "pr-other:last=3")
    command(*one, "--name", "pr-one")
    shown = command("schedule", "show", "pr-one", "--json").json
    assert shown["keep_at"] == {"pr-other": {"keep_last": 3, "timezone": "Europe/Paris"}}
    command("schedule", "update", "pr-one", "--cron", "30 3 * * *")
    done = command("prune", "pr-shop", "--json").json
    assert {place["destination"]: len(place["deleted"]) for place in done["places"]} == {"pr-disk": 2, "pr-other": 1}
    command("schedule", "add", "pr-shop", *NIGHTLY, "--keep-last", "1", "--to", "pr-disk", "--name", "pr-two")
    shown = command("prune", "pr-shop", "--keep-last", "1").out.splitlines()
    here = [" ".join(line.split()[4:]) for line in shown if line.startswith("pr-disk")]
    assert here[1] == "stays last 2 of 2 (schedule pr-one)"
    assert listed(command, "pr-disk") == ids[2:], "and what is asked for besides takes nothing from it"
    assert "the app has no schedule pr-three" in command("prune", "pr-shop", "--instead-of", "pr-three", code=2).err
    command("prune", "pr-shop", "--keep-last", "1", "--instead-of", "pr-one")
    assert listed(command, "pr-disk") == ids[3:]


def test_more_than_ten_at_once_are_refused_until_they_are_allowed(command: Command, ids: list[str]) -> None:
    refused = command("prune", "pr-shop", "--keep-last", "1", "--max-deletes", "2", code=1)
    assert "pr-disk (files): the policy would delete 3 backups at once, more than 2" in refused.err
    assert "backups prune pr-shop --max-deletes 3" in refused.err
    shown = command("prune", "pr-shop", "--keep-last", "1", "--max-deletes", "2", "--dry-run")
    assert shown.out.count("would go") == 6
    assert "pr-disk: without --dry-run this is refused: the policy would delete 3 backups at once" in shown.err
    assert "If that is right: backups prune pr-shop --max-deletes 3" in shown.err
    assert listed(command, "pr-disk") == ids


def test_a_pinned_backup_is_shown_as_such_and_stays_wherever_it_is_pinned(command: Command, ids: list[str]) -> None:
    said = command("pin", ids[0][:20], "--at", "pr-disk").err
    assert said.strip() == f"Pinned {ids[0]} of pr-shop at pr-disk."
    assert [row["pinned"] for row in command("list", "pr-shop", "--from", "pr-disk", "--json").json] == [
        *(True, False, False, False)
    ]
    assert "verified (server-digest), pinned" in command("list", "pr-shop", "--from", "pr-disk").out
    command("prune", "pr-shop", "--keep-last", "1")
    assert listed(command, "pr-disk") == [ids[0], ids[3]]
    command("unpin", ids[0], "--at", "pr-disk")
    command("prune", "pr-shop", "--keep-last", "1", "--to", "pr-disk")
    assert listed(command, "pr-disk") == ids[3:]


def test_a_backup_that_is_nowhere_can_be_neither_pinned_nor_confirmed(command: Command, ids: list[str]) -> None:
    nowhere = ("20200101T000000Z-files-aaaaaa", "--at", "pr-disk")
    for verb in ("pin", "unpin", "confirm"):
        assert "has no backup '20200101T" in command(verb, *nowhere, code=2).err
    assert f"Confirmed {ids[3]} of pr-shop at pr-disk." in command("confirm", ids[3], "--at", "pr-disk").err


@pytest.mark.fault("Z10")
@pytest.mark.parametrize("text", ["pr-other", "pr-other:", "pr-other:last", "pr-other:last=", "x y:last=1", ":last=1"])
def test_a_mistyped_rule_for_a_destination_is_refused(command: Command, text: str) -> None:
    assert "backups" in command("prune", "pr-shop", "--keep-at", text, code=2).err
