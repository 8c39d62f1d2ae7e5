"""Pages as they are before there is anything, and for who may only look."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from console import backups, status
from console.models.backups import BackupPage
from console.models.status import Status
from console.pages.charts import HEIGHT, charts
from tests.console.hostile import AT, backup

HTML = {"Accept": "text/html"}


def test_an_empty_console_says_what_to_do_first(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "status", lambda: Status(apps=[], workers_online=0, as_of=AT))
    page = client.get("/", headers=HTML).text
    for said in ("Nothing is backed up yet", "backups app add shop", "No worker is online", "backups worker"):
        assert said in page
    monkeypatch.setattr(backups, "list_backups", lambda _filters: BackupPage(items=[], total=0, as_of=AT))
    assert "There are no backups yet" in client.get("/backups", headers=HTML).text
    assert "No backup fits" in client.get("/backups?q=x", headers=HTML).text


def test_a_filter_that_cannot_be_meant_is_told_at_its_field(client: TestClient) -> None:
    answer = client.get("/backups?type=weekly&since=yesterday", headers=HTML)
    assert answer.status_code == 422
    assert 'href="#field-type"' in answer.text
    assert 'href="#field-since"' in answer.text


def test_a_chart_has_a_bar_for_each_backup_of_the_usual_type_and_its_figures_in_words() -> None:
    day = [f"2026-11-{number:02}T02:00:00Z" for number in range(1, 5)]
    made = [
        backup(id=f"b{number}", created_at=at, completed_at=f"{at[:14]}0{number}:00Z", size=1024 * (number + 1))
        for number, at in enumerate(day)
    ]
    sizes, durations = charts([*made, backup(type="database", size=10**9), backup(size=None)])
    assert [bar.id for bar in sizes.bars] == ["b0", "b1", "b2", "b3"]
    assert sizes.bars[-1].height == HEIGHT
    assert sizes.summary == "Size of full backups: the last 4, from 1.0 KiB to 4.0 KiB; the newest 4.0 KiB"
    assert durations.top == "3 min 0 s"
    assert charts(made[:1]) == []
