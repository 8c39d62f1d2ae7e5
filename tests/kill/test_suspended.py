"""A machine is suspended in the middle of an upload, and goes on when the destination has given it up (X06)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from blocks.destinations.places import finished_name
from tests.peers.command import TIMEOUT, Machine
from tests.peers.prefect_server import prefect_server
from tests.peers.processes import descendants_of
from tests.peers.proxy import Proxy, proxy
from tests.peers.s3 import KEY_ID, SECRET, S3Server, running_rclone
from tests.peers.sshd import SshServer, running_sshd
from tests.reduced import reduced
from vault.workspace import leftovers

SIZE, MIDDLE = 30_000_000, 14_000_000
SPOOLS = {"all of it": "200000000", "a part of it": "24000000"}
"""What the spool of a run holds of the dump, and its limit in bytes: what the destination lost is there, or is not."""


@dataclass(frozen=True)
class Far:
    """A destination behind a line: what it holds of uploads that are not finished, and how it gives those up."""

    line: Proxy
    options: tuple[str, ...]
    unfinished: Callable[[], int]
    lose: Callable[[], None]


@contextmanager
def sftp(place: Path, name: str) -> Iterator[Far]:
    with running_sshd() as server, proxy(server.port) as line:
        (place / "key").write_text(server.key())
        (place / "key").chmod(0o600)
        options = ("--host", "127.0.0.1", "--port", str(line.port), "--user", server.user, "--key", str(place / "key"))
        known = ("--host-key", server.host_key, "--root", f"{server.seen}/backups")

        def lose() -> None:
            server.kill_sessions()
            for path in _files(server, name):
                path.unlink()

        yield Far(line, ("sftp", name, *options, *known), lambda: len(_files(server, name)), lose)


def _files(server: SshServer, app: str) -> list[Path]:
    return [path for path in (server.served / "backups" / app).glob("*") if finished_name(path.name)]


@contextmanager
def s3(place: Path, name: str) -> Iterator[Far]:
    with running_rclone() as server, proxy(int(server.endpoint.rpartition(":")[2])) as line:
        bucket = server.new_bucket()
        (place / "secret").write_text(SECRET)
        where = ("--bucket", bucket, "--endpoint", f"http://127.0.0.1:{line.port}", "--key-id", KEY_ID)

        def lose() -> None:
            for upload in _uploads(server, bucket):
                server.client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])

        options = ("b2", name, *where, "--secret-file", str(place / "secret"))
        yield Far(line, options, lambda: len(_uploads(server, bucket)), lose)


def _uploads(server: S3Server, bucket: str) -> list[dict[str, Any]]:
    if not server.uploads(bucket):
        return []
    found: list[dict[str, Any]] = server.client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    return found


@pytest.fixture(scope="module")
def api_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@contextmanager
def suspended(machine: Machine, app: str, line: Proxy) -> Iterator[None]:
    """A backup that is stopped, with all that it has started, while its upload is under way; it goes on at the end,
    and succeeds."""
    before = line.up
    line.wire.drip_up = MIDDLE
    run = machine.start("run", app)
    deadline = time.monotonic() + TIMEOUT
    while line.up < before + MIDDLE:
        assert run.poll() is None, (machine.home / "output").read_text()[-3000:]
        assert time.monotonic() < deadline
    stopped = [run.pid, *descendants_of(run.pid)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    os.waitpid(run.pid, os.WUNTRACED)
    try:
        yield
        line.wire.drip_up = None
        for pid in reversed(stopped):
            os.kill(pid, signal.SIGCONT)
        assert run.wait(timeout=TIMEOUT) == 0, (machine.home / "output").read_text()[-3000:]
    finally:
        run.kill()
        run.wait()


@pytest.mark.law(1, 2, 7)
@pytest.mark.fault("X06")
@pytest.mark.parametrize("spool", reduced(SPOOLS, "a part of it"))
@pytest.mark.parametrize("lost", reduced(["connection", "connection and upload"], "connection and upload"))
@pytest.mark.parametrize("kind", [sftp, s3])
def test_a_backup_that_was_suspended_while_it_was_sent_is_whole_whatever_the_destination_has_kept_of_it(
    api_url: str, tmp_path: Path, kind: Callable[[Path, str], Any], lost: str, spool: str
) -> None:
    """No clock is moved: what hours do to an upload is done by hand, and at once, while the run stands still.

    So this shows what becomes of connections and of what the destination held, and not of what counts time: Prefect's
    heartbeats and leases, or a token that ends.
    """
    name = f"asleep-{uuid4().hex[:8]}"
    (tmp_path / "home").mkdir()
    (tmp_path / "data").mkdir()
    content = os.urandom(SIZE)
    (tmp_path / "data/content").write_bytes(content)
    machine = Machine(tmp_path / "home", api_url, {"BACKUPS_SPOOL_LIMIT": SPOOLS[spool]})
    with kind(tmp_path, name) as far:
        machine.run("destination", "add", *far.options)
        machine.run("app", "add", name, "--source", f"{name}-files={tmp_path / 'data'}", "--to", name)
        with suspended(machine, name, far.line):
            assert far.unfinished() == 1
            if lost != "connection":
                far.lose()
            far.line.cut()
        assert far.unfinished() == 0
        (row,) = machine.json("list", name, "--from", name)
        assert row["status"] == "success"
        machine.run("restore", name, row["id"], "--from", name, "--to", str(tmp_path / "restored"))
        assert (tmp_path / "restored/content").read_bytes() == content
    assert leftovers(machine.work) == []
