"""A server of low priority: the tools that read there give way to what else wants the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.docker.container import Container
from blocks.host import Host
from blocks.servers import LocalServer
from blocks.sources import Directory
from tests.peers.docker import GNU, DockerEngine, docker, docker_engine
from tests.peers.priority import LOW, NORMAL, priority_of
from tests.peers.processes import descendants_of
from tests.peers.ssh_host import over, ssh_host
from tests.peers.sshd import SshServer as Sshd
from vault import command, process
from vault.errors import SourceError
from vault.process import Command

__all__ = ["docker", "docker_engine"]
TELLS = "echo $$; read -r line"


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with ssh_host() as server:
        yield server


def seen(place: Host) -> tuple[str, str]:
    """What the system says of a tool of *place* while it runs."""
    with place.session(Command(("sh", "-c", TELLS))) as tool:
        found = priority_of(int(tool.stdout.readline()))
        tool.stdin.write(b"\n")
    return found


def test_a_tool_of_this_machine_gives_way_where_its_server_is_of_low_priority() -> None:
    assert seen(LocalServer()) == NORMAL
    assert seen(LocalServer(priority="low")) == LOW
    assert seen(LocalServer(priority="low").hurried()) == NORMAL


def test_a_tool_over_ssh_gives_way_where_its_server_is_of_low_priority(sshd: Sshd) -> None:
    server = over(sshd)
    assert seen(server) == NORMAL
    server.priority = "low"
    assert seen(server) == LOW
    assert server.run(Command(("printf", "%s", "$low *"))).stdout == b"$low *"
    with pytest.raises(SourceError, match=r"nosuch is not installed on ssh://"):
        server.run(Command(("nosuch",)))
    assert seen(server.hurried()) == NORMAL


def test_a_tool_in_a_container_gives_way_where_its_server_is_of_low_priority(docker: DockerEngine) -> None:
    docker.start("place")  # its image has ionice, and no nice
    for server, low in ((LocalServer(), False), (LocalServer(priority="low"), True)):
        place = Container(server, "place")
        assert (place.run(Command(("ionice",))).stdout.decode().strip() == LOW[1]) is low
        assert place.run(Command(("cat",)), b"data").stdout == b"data"
    docker.start("other", image=GNU, command=("sleep", "1000"))  # and this one has nice alone
    for server, nice in ((LocalServer(), 0), (LocalServer(priority="low"), 10)):
        assert int(Container(server, "other").run(Command(("nice",))).stdout) == nice
    with pytest.raises(SourceError, match="nosuch is not installed in container place"):
        place.run(Command(("nosuch",)))


def name_of(pid: int) -> str:
    """What it runs; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_a_dump_gives_way_and_one_that_is_waited_for_does_not(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/big").write_bytes(bytes(8_000_000))
    for source, wanted in (
        (Directory(path=tmp_path / "data", server=LocalServer(priority="low")), LOW),
        (Directory(path=tmp_path / "data", server=LocalServer(priority="low")).hurried(), NORMAL),
    ):
        with source.dump() as dump:
            dump.stream.read(1)  # the pipe is full: tar waits for us
            tools = [pid for pid in descendants_of(os.getpid()) if name_of(pid) == "tar"]
            assert {priority_of(pid) for pid in tools} == {wanted}
            while dump.stream.read(1_000_000):
                pass


def test_a_way_that_does_not_work_on_this_machine_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOW", (("nosuch-nice",), ("false",), command.LOW[0]))
    process.lowered.cache_clear()
    try:
        assert seen(LocalServer(priority="low")) == (LOW[0], NORMAL[1])
    finally:
        process.lowered.cache_clear()


def test_a_server_that_was_saved_before_there_was_a_priority_is_one_of_normal_priority() -> None:
    document = LocalServer().model_dump()
    del document["priority"]
    assert LocalServer.model_validate(document).priority == "normal"
