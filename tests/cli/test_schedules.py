"""``backups schedule``: an app is backed up by itself, and a person sees when."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.peers.watchdog import watchdog
from vault.errors import ConfigError

NIGHTLY = ("--cron", "30 2 * * *", "--timezone", "Europe/Paris")


@pytest.fixture
def shop(command: Command, tmp_path: Path) -> Iterator[str]:
    """A saved app, with a database it does not have."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("content")
    command("destination", "add", "local", "sch-disk", tmp_path / "disk")
    command("destination", "add", "local", "sch-other", tmp_path / "other")
    command("app", "add", "sch-shop", "--source", tmp_path / "data", "--to", "sch-disk")
    yield "sch-shop"
    for one in command("schedule", "list", "--json").json:
        command("schedule", "remove", one["name"])
    command("app", "remove", "sch-shop")
    command("source", "remove", "sch-shop-data")
    command("destination", "remove", "sch-disk")
    command("destination", "remove", "sch-other")


def test_a_schedule_is_added_shown_changed_paused_and_removed(command: Command, shop: str) -> None:
    keep = ("--keep-last", "7", "--keep-within", "2w", "--keep-monthly", "6")
    added = command(
        "schedule", "add", shop, "--type", "files", "--to", "sch-disk", "--to", "sch-other", *NIGHTLY, *keep
    )
    assert f"Saved schedule {shop}-files: it runs next on" in added.err
    assert "backups up" in added.err, "nothing runs without a worker"
    shown = command("schedule", "show", f"{shop}-files", "--json").json
    assert (shown["app"], shown["type"], shown["active"]) == (shop, "files", True)
    assert shown["destinations"] == ["local-destination/sch-disk", "local-destination/sch-other"]
    assert shown["keep"] == {"keep_last": 7, "keep_within": "P14D", "keep_monthly": 6, "timezone": "Europe/Paris"}
    assert shown["when"] == ["30 2 * * * Europe/Paris"]
    first = datetime.fromisoformat(shown["next_run_at"])
    assert (datetime.fromisoformat(shown["next_run_at_local"]), first > datetime.now(UTC)) == (first, True)
    assert len(shown["next_runs"]) == 5
    assert "02:30 CE" in command("schedule", "list").out

    command("schedule", "update", f"{shop}-files", "--cron", "0 4 * * 0", "--keep-last", "3")
    shown = command("schedule", "show", f"{shop}-files", "--json").json
    assert (shown["when"], shown["type"]) == (["0 4 * * 0 Europe/Paris"], "files")
    assert shown["keep"] == {"keep_last": 3, "timezone": "Europe/Paris"}

    command("schedule", "pause", f"{shop}-files")
    paused = command("schedule", "list", "--json").json[0]
    assert (paused["active"], paused["next_run_at"]) == (False, None)
    assert "it runs next on" in command("schedule", "resume", f"{shop}-files").err
    assert command("schedule", "list", "--json").json[0]["active"] is True
    command("schedule", "remove", f"{shop}-files")
    assert command("schedule", "list", "--json").json == []


def test_what_a_schedule_uses_is_not_removed(command: Command, shop: str) -> None:
    command("schedule", "add", shop, "--to", "sch-other", *NIGHTLY, "--name", "sch-nightly")
    assert "used by schedule sch-nightly" in command("app", "remove", shop, code=2).err
    assert "used by schedule sch-nightly" in command("destination", "remove", "sch-other", code=2).err


REFUSED = [
    (("--cron", "at night"), "five fields"),
    (("--cron", "61 2 * * *"), "61 2"),
    (("--cron", "0 0 31 2 *"), "0 0 31 2"),
    (("--cron", "30 2 * * *", "--timezone", "Mars/Olympus"), "Mars/Olympus"),
    ((*NIGHTLY, "--type", "database"), "no database source"),
    ((*NIGHTLY, "--to", "sch-nowhere"), "sch-nowhere"),
    ((*NIGHTLY, "--keep-last", "-1"), "keep_last"),
    ((*NIGHTLY, "--min-keep", "3"), "keeps nothing"),
    ((*NIGHTLY, "--name", "A b"), "name"),
]


def test_what_could_not_run_is_refused_with_what_is_wrong(command: Command, shop: str) -> None:
    for arguments, said in REFUSED:
        assert said in command("schedule", "add", shop, *arguments, code=2).err
    assert command("schedule", "list", "--json").json == []


def test_an_app_or_a_schedule_that_is_not_there_is_named(command: Command, shop: str) -> None:
    assert "sch-none" in command("schedule", "add", "sch-none", *NIGHTLY, code=2).err
    command("schedule", "add", shop, *NIGHTLY, "--name", "sch-nightly")
    assert "exists already" in command("schedule", "add", shop, *NIGHTLY, "--name", "sch-nightly", code=2).err
    for verb in ("show", "pause", "resume", "remove"):
        assert "There are: sch-nightly" in command("schedule", verb, "sch-other", code=2).err
    assert "nothing is to be changed" in command("schedule", "update", "sch-nightly", code=2).err


def test_what_list_prints_is_a_file_that_brings_all_schedules_to_another_server(
    command: Command, shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("schedule", "add", shop, "--type", "files", *NIGHTLY, "--keep-last", "7", "--grace-hours", "5")
    command("schedule", "add", shop, "--cron", "0 4 * * 0", "--name", "sch-paused", "--keep-at", "sch-disk:last=3")
    command("schedule", "pause", "sch-paused")
    before = command("schedule", "list", "--json").json
    file = tmp_path / "schedules.json"
    file.write_text(json.dumps(before))
    assert "sch-paused exists already, and" not in (refused := command("schedule", "import", file, code=2).err)
    assert "schedule sch-paused, sch-shop-files exists already" in refused
    command("schedule", "update", "sch-paused", "--cron", "0 5 * * *")
    command("schedule", "remove", f"{shop}-files")
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(before)))
    assert "Saved 2 schedules" in command("schedule", "import", "-", "--overwrite").err
    assert command("schedule", "list", "--json").json == before


IMPOSSIBLE = [
    ("{}", "no list of schedules"),
    ("[", "no JSON"),
    ('[{"app": "sch-shop"}]', "entry 1 has no name"),
    ('[{"name": "A b"}]', "name"),
    ('[{"name": "a", "app": "sch-shop"}]', '"when" has to be'),
    ('[{"name": "a", "when": ["30 2 * * * Mars/Olympus"]}]', "schedule a: "),
    ('[{"name": "a", "when": ["30 2 * * * UTC"], "keep_lst": 3}]', "nothing that is called 'keep_lst'"),
    ('[{"name": "a", "when": ["30 2 * * * UTC"], "active": "no"}]', "true or false"),
    ('[{"name": "a", "when": ["30 2 * * * UTC"], "grace_hours": -1}]', "grace"),
    ('[{"name": "a", "app": "sch-none", "when": ["30 2 * * * UTC"]}]', "schedule a: there is no app sch-none"),
    ('[{"name": "a", "app": "sch-shop", "when": ["30 2 * * * UTC"], "type": "database"}]', "no database source"),
    ('[{"name": "a", "app": "sch-shop", "when": ["30 2 * * * UTC"], "keep": {"keep_last": 0}}]', "keep_last"),
    ('[{"name": "a", "app": "sch-shop", "when": ["30 2 * * * UTC"], "destinations": ["x/y"]}]', "x/y is not saved"),
    ('[{"name": "a", "app": "sch-shop", "when": ["30 2 * * * UTC"], "ping": "none"}]', "ping/none is not saved"),
    (
        '[{"name": "a", "app": "sch-shop", "when": ["30 2 * * * UTC"], "keep_at": {"sch-other": {"keep_last": 2}}}]',
        "keep_at names sch-other",
    ),
    (
        '[{"name": "a", "app": "sch-shop", "when": ["30 2 * * * UTC"]}, {"name": "a", "when": ["1 2 * * * UTC"]}]',
        "2 times",
    ),
]


def test_a_file_with_one_schedule_that_could_not_run_is_refused_whole(
    command: Command, shop: str, tmp_path: Path
) -> None:
    good = {"name": "sch-good", "app": shop, "when": ["30 2 * * * UTC"]}
    file = tmp_path / "schedules.json"
    for text, said in IMPOSSIBLE:
        file.write_text(text.replace("[{", f"[{json.dumps(good)}, {{") if "name" in text else text)
        assert said in command("schedule", "import", file, code=2).err, text
    assert command("schedule", "list", "--json").json == []


@pytest.mark.parametrize(
    ("cron", "begin", "times"),
    [
        # 02:30 does not exist on 2026-03-29, and occurs twice on 2026-10-25.
        ("30 2 * * *", "2026-03-28T12:00+01:00", ["2026-03-29T00:30+00:00", "2026-03-30T00:30+00:00"]),
        ("30 2 * * *", "2026-10-24T12:00+02:00", ["2026-10-25T00:30+00:00", "2026-10-26T01:30+00:00"]),
        ("0 12 29 2 *", "2026-03-01T12:00+01:00", ["2028-02-29T11:00+00:00"]),
    ],
)
@pytest.mark.fault("Z03")
def test_each_day_has_one_run_also_when_clocks_change(cron: str, begin: str, times: list[str]) -> None:
    from tasks.schedules import When

    found = When(cron, "Europe/Berlin").next(len(times), datetime.fromisoformat(begin))
    assert [time.astimezone(UTC).isoformat(timespec="minutes") for time in found] == times


def test_a_time_that_never_comes_is_refused() -> None:
    from tasks.schedules import When

    with pytest.raises(ConfigError, match="0 0 30 2"):
        When("0 0 30 2 *")
    assert When("* * * * *").next(2, datetime(2026, 1, 1, tzinfo=UTC))[1] - datetime(
        2026, 1, 1, tzinfo=UTC
    ) == timedelta(minutes=2)


def test_a_schedule_names_a_ping_whose_address_nobody_sees(command: Command, shop: str, tmp_path: Path) -> None:
    with watchdog("canary-1f0a") as dog:
        (tmp_path / "address").write_text(f"{dog.url}\n")
        command("notify", "add", "ping", "sch-dog", "--url-file", tmp_path / "address")
    assert dog.paths == [""]
    assert "canary" not in command("notify", "show", "sch-dog").out
    assert "sch-none" in command("schedule", "add", shop, *NIGHTLY, "--ping", "sch-none", code=2).err
    command("schedule", "add", shop, *NIGHTLY, "--ping", "sch-dog", "--name", "sch-nightly")
    assert command("schedule", "show", "sch-nightly", "--json").json["ping"] == "sch-dog"
    assert "used by schedule sch-nightly" in command("notify", "remove", "sch-dog", code=2).err
    command("schedule", "update", "sch-nightly", "--cron", "0 4 * * *")
    assert command("schedule", "show", "sch-nightly", "--json").json["ping"] == "sch-dog"
    command("schedule", "update", "sch-nightly", "--no-ping")
    assert command("schedule", "show", "sch-nightly", "--json").json["ping"] is None
    command("notify", "remove", "sch-dog")
