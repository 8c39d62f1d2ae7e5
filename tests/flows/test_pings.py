"""A schedule's ping: a real HTTP server hears how a run goes, and never stands in its way."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator

import pytest
from prefect.blocks.core import Block
from pydantic import SecretStr

from blocks import Ping
from blocks.ping import PingError, PingUnavailable
from flows import pings
from flows.backup import backup
from flows.report import BackupFailed
from tests.flows.conftest import Sample
from tests.peers.watchdog import Watchdog, watchdog
from vault.errors import BackupError, SourceError

SECRET = "canary-1f0a-4d2c"


@pytest.fixture
def dog(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watchdog]:
    monkeypatch.setattr(pings, "_PAUSE", 0.0)
    with watchdog(SECRET) as dog:
        yield dog


def saved(sample: Sample, url: str) -> str:
    name = f"{sample.name}-ping"
    Ping(url=SecretStr(url), timeout=5).save(name, overwrite=True)
    return name


def test_the_ping_hears_the_start_and_the_end_of_a_backup(sample: Sample, dog: Watchdog) -> None:
    result = backup(app=sample.name, ping=saved(sample, dog.url))
    assert dog.paths == ["/start", ""]
    assert result.id in dog.taken[1][1]
    assert result.warnings == ()


def test_the_ping_hears_what_failed(sample: Sample, dog: Watchdog) -> None:
    name = saved(sample, dog.url)
    gone = sample.add_destination("gone")
    shutil.rmtree(sample.root / "gone")
    with pytest.raises(BackupFailed):
        backup(app=sample.name, destinations=[f"local-destination/{sample.name}-backups", gone], ping=name)
    assert dog.paths == ["/start", "/fail"]
    assert f"failed at {sample.name}-gone" in dog.taken[1][1]
    shutil.rmtree(sample.files)
    with pytest.raises(BackupError, match="The last good backup"):
        backup(app=sample.name, ping=name)
    assert dog.paths[2:] == ["/start", "/fail"]
    assert str(sample.files) in dog.taken[3][1]


@pytest.mark.fault("M01", "M06")
@pytest.mark.law(10)
def test_a_ping_that_is_not_taken_is_a_warning_and_says_nothing_of_its_address(sample: Sample, dog: Watchdog) -> None:
    name = saved(sample, dog.url)
    dog.answers += [(503, ""), (200, "OK"), (404, f"no {SECRET}")]
    (said,) = backup(app=sample.name, ping=name).warnings
    assert dog.paths == ["/start", "/start", ""], "what may pass by itself is tried again"
    assert "success could not be told" in said
    assert "answers 404" in said
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        Ping(url=SecretStr(f"http://127.0.0.1:{deaf.getsockname()[1]}/{SECRET}"), timeout=0.05).save(
            name, overwrite=True
        )
        warnings = backup(app=sample.name, ping=name).warnings
    assert [said.partition(" ")[0] for said in warnings] == ["start", "success"]
    assert SECRET not in repr(warnings)
    Block.delete(f"backup-ping/{name}")
    assert "nothing is saved as" in backup(app=sample.name, ping=name).warnings[0]
    shutil.rmtree(sample.files)
    with pytest.raises(SourceError, match=r"fail could not be told to the ping .*: nothing is saved as"):
        backup(app=sample.name, ping=name)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((429, ""), PingUnavailable),
        ((500, ""), PingUnavailable),
        ((410, ""), PingError),
        ((200, "OK (not found)"), PingError),
    ],
)
def test_a_watchdog_that_does_not_take_it_is_no_success(
    dog: Watchdog, answer: tuple[int, str], kind: type[PingError]
) -> None:
    dog.answers.append(answer)
    with pytest.raises(PingError) as told:
        Ping(url=SecretStr(dog.url)).check()
    assert type(told.value) is kind
    assert SECRET not in str(told.value)
    assert dog.taken == [("", "This is a test: a backup schedule is being set up.")]


@pytest.mark.parametrize("bad", ["", "hc-ping.com/x", "file:///etc/passwd", "https://", "https://x/a b"])
def test_what_is_no_address_is_refused_without_being_quoted(bad: str) -> None:
    with pytest.raises(ValueError, match="this is no address") as told:
        Ping(url=SecretStr(bad))
    assert "passwd" not in str(told.value)
