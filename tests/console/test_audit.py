"""The audit, the throttle and the replays: what the gate is made of."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from prefect.client.orchestration import get_client
from prefect.events.filters import EventFilter, EventNameFilter

from console import audit as audit_module
from console.audit import audit
from console.idempotency import KEPT, Answer, Replays, checked
from console.problems import Problem
from console.throttle import LONGEST, Throttle
from console.who import Who
from tests.peers.prefect_worker import until


def events(name: str) -> list[dict[str, object]]:
    """The payloads of the events of that name that Prefect has."""
    with get_client(sync_client=True) as client:
        found = client.read_events(EventFilter(event=EventNameFilter(name=[name])), limit=50).events
    return [dict(event.payload) for event in found]


def test_each_change_is_told_to_prefect_with_who_and_what_and_what_became_of_it(client: TestClient) -> None:
    body = {"name": "audited", "scope": "read", "days": 1}
    secret = client.post("/api/tokens", json=body).json()["token"]
    assert client.delete("/api/tokens/audited").status_code == 422
    assert client.delete("/api/tokens/audited?confirm=audited").status_code == 200
    who = {"who": "nobody (login is off)", "via": "nobody"}
    expected = [
        {**who, "action": "add-token", "object": "/api/tokens", "result": "succeeded"},
        {**who, "action": "revoke-token", "object": "audited", "result": "refused: 422"},
        {**who, "action": "revoke-token", "object": "audited", "result": "succeeded"},
    ]
    for one in expected:
        until(lambda one=one: one in events(f"backups.console.{one['action']}"))  # type: ignore[misc]
    assert secret not in str(events("backups.console.add-token"))


def test_an_audit_that_fails_breaks_nothing_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("no events today")

    monkeypatch.setattr(audit_module, "emit_event", broken)
    said = audit_module.begin()
    audit(Who("anna", "admin", "session"), "remove-backup", "shop\n/x" + "y" * 1000, "succeeded")
    assert said == ["remove-backup"]
    assert "no events today" in caplog.text
    assert "anna" in caplog.text
    assert "shop\n" not in caplog.records[0].getMessage()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_who_tries_again_and_again_waits_longer_and_longer_and_one_success_forgives_it() -> None:
    clock = Clock()
    throttle = Throttle(3, clock)
    assert [throttle.wait("ops") for _ in range(3)] == [0, 0, 0]
    waits = []
    for _ in range(14):
        waits.append(throttle.wait("ops"))
        clock.now += waits[-1]
        assert throttle.wait("ops") == 0
    assert waits[:4] == [2, 4, 8, 16]
    assert waits[-1] == LONGEST
    assert throttle.wait("other") == 0
    throttle.forgive("ops")
    assert throttle.wait("ops") == 0
    for number in range(20_000):
        throttle.wait(str(number))
    assert len(throttle._tries) == 10_000, "whatever names are tried, its memory is bounded"


def test_tries_at_the_same_time_are_all_counted() -> None:
    throttle, waits = Throttle(5, Clock()), []
    each = [threading.Thread(target=lambda: waits.append(throttle.wait("ops"))) for _ in range(20)]
    for thread in each:
        thread.start()
    for thread in each:
        thread.join()
    assert sum(wait == 0 for wait in waits) == 5


def refused(do: Callable[[], object]) -> int:
    with pytest.raises(Problem) as caught:
        do()
    return int(caught.value.status)


def test_an_answer_is_kept_for_a_day_and_in_bounded_memory() -> None:
    clock = Clock()
    replays, done = Replays(clock), Answer(202, (), b"{}")
    assert replays.begin(("a",), b"x") is None
    assert refused(lambda: replays.begin(("a",), b"x")) == 409
    assert refused(lambda: replays.begin(("a",), b"y")) == 422
    replays.end(("a",), done)
    assert replays.begin(("a",), b"x") == done
    clock.now += KEPT + 1
    assert replays.begin(("a",), b"y") is None, "it was forgotten"
    replays.end(("a",), Answer(409, (), b""))
    assert replays.begin(("a",), b"z") is None, "what failed is not kept"
    replays.end(("a",), Answer(201, (), bytes(100_000)))
    assert replays.begin(("a",), b"x") is None, "nor what is large"
    for number in range(2000):
        replays.begin((str(number),), b"")
        replays.end((str(number),), done)
    assert len(replays._entries) == 1000
    assert refused(lambda: replays.begin(("a",), b"x")) == 409, "what goes on is not forgotten"
    for key in ("", "x" * 201, "é", "a\nb"):
        assert refused(lambda key=key: checked(key)) == 422  # type: ignore[misc]
