"""A container as a place where tools run: what a host promises, and what Docker itself does wrong."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from blocks.docker.container import Container
from blocks.host import RunningTool
from blocks.servers import LocalServer
from tests.contract.source import children
from tests.peers.docker import GNU, DockerEngine
from vault.errors import ConfigError, IncompleteDump, SourceError, SourceUnavailable
from vault.process import Command

HERE = LocalServer()
MANY = bytes(range(256)) * 20_000


@pytest.fixture(params=["busybox", "gnu"])
def place(docker: DockerEngine, request: pytest.FixtureRequest) -> Container:
    """A container, of busybox alone or of GNU's tools."""
    if request.param == "busybox":
        docker.start("place")
    else:
        docker.start("place", image=GNU, command=("sleep", "1000"))
    return Container(HERE, "place")


def sh(script: str, *arguments: str, **fields: object) -> Command:
    return Command(("sh", "-c", script, "sh", *arguments), **fields)  # type: ignore[arg-type]


def processes(docker: DockerEngine, name: str = "place") -> list[str]:
    """The command lines of all that runs in the container, but for its first process and its children."""
    said = docker("top", name, "-eo", "pid,args").splitlines()[1:]
    return [line.split(None, 1)[1] for line in said if "sleep 60" not in line and "trap 'exit" not in line]


def test_a_tool_gets_its_arguments_as_they_are_and_little_else(place: Container) -> None:
    odd = ("a b", "$(touch x)", "'\"", "new\nline", "*", "--", "é", "")
    done = place.run(sh('for one do printf "%s|" "$one"; done; printf %s "$MINE"', *odd, env={"MINE": "a=b '"}))
    assert done.stdout.decode() == "".join(f"{one}|" for one in odd) + "a=b '"
    names = {line.partition("=")[0] for line in place.run(Command(("env",))).stdout.decode().splitlines()}
    assert names <= {"PATH", "HOME", "LANG", "LC_ALL", "PWD", "SHLVL", "_", "OLDPWD"}


def test_input_and_output_pass_unchanged(place: Container) -> None:
    assert place.run(Command(("cat",)), MANY).stdout == MANY
    with place.stream(sh("cat; head -c 5120000 /dev/zero")) as tool:
        assert tool.stdout.read() == bytes(5_120_000)
    with place.feed(sh("cat >/tmp/file")) as tool:
        for begin in range(0, len(MANY), 1_000_000):
            tool.stdin.write(MANY[begin : begin + 1_000_000])
    assert place.run(sh("cat /tmp/file")).stdout == MANY
    with place.session(Command(("cat",))) as tool:
        for word in (b"one\n", b"two\n"):
            tool.stdin.write(word)
            assert tool.stdout.readline() == word


@pytest.mark.fault("S02", "S03", "S06")
def test_its_exit_status_is_that_of_the_tool_and_its_stderr_is_kept(place: Container) -> None:
    assert place.run(sh("echo careful >&2")).warnings == ("careful",)
    with pytest.raises(SourceError, match=r"sh failed with exit code 3: no luck$"):
        place.run(sh("echo no luck >&2; exit 3"))
    with pytest.raises(SourceError, match="exit code 4"), place.stream(sh("echo some; exit 4")) as tool:
        assert tool.stdout.read() == b"some\n"
    with place.stream(sh("exit 1", ok=frozenset({0, 1}))) as tool:
        tool.stdout.read()
    assert tool.exit_code == 1
    with pytest.raises(SourceError, match="exit code 5"), place.feed(sh("exit 5")) as tool:
        tool.stdin.write(MANY)


@pytest.mark.fault("S08")
def test_a_tool_that_is_killed_may_be_tried_again(place: Container) -> None:
    with pytest.raises(SourceUnavailable, match="SIGKILL"):
        place.run(sh("kill -9 $$"))


@pytest.mark.fault("S01")
def test_a_tool_that_is_not_there_is_named_with_its_place(place: Container) -> None:
    with pytest.raises(SourceError, match="pg_dump is not installed in container place"):
        place.run(Command(("pg_dump", "--version")))
    assert place.which("pg_dump") is None
    assert place.which("cat") == "/bin/cat"
    assert place.glob("/etc/pass*") == ["/etc/passwd"]
    assert place.glob("/no/such/*") == []


@pytest.mark.fault("S09")
def test_a_tool_that_is_silent_is_stopped_and_is_gone(place: Container, docker: DockerEngine) -> None:
    with (
        pytest.raises(SourceUnavailable, match="no sign of life"),
        place.stream(Command(("sleep", "987"), idle_timeout=1)) as t,
    ):
        t.stdout.read()
    wait_for(lambda: not [line for line in processes(docker) if "987" in line])


def wait_for(condition: object) -> None:
    """Until it holds; the test's own limit of time is that of the whole session."""
    assert callable(condition)
    while not condition():
        pass


def test_what_is_not_read_to_its_end_is_not_whole_and_leaves_nothing(place: Container, docker: DockerEngine) -> None:
    before = children()
    with pytest.raises(IncompleteDump), place.stream(sh("cat /dev/zero")) as tool:
        tool.stdout.read(10)
    wait_for(lambda: not [line for line in processes(docker) if "/dev/zero" in line])
    assert children() == before


@pytest.mark.fault("K02")
@pytest.mark.parametrize("how", ["stream", "feed", "session"])
def test_a_worker_that_is_killed_takes_its_tool_with_it(place: Container, docker: DockerEngine, how: str) -> None:
    tool = Command(("sleep", "987") if how == "stream" else ("cat", "-", "/etc/passwd"))

    def there() -> list[str]:
        return [line for line in processes(docker) if " ".join(tool.argv) in line]

    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        start = {"stream": place.stream, "feed": place.feed, "session": place.session}[how]
        with start(tool) as running:
            if how != "stream":
                running.stdin.write(b"part of it")
            os.write(send, b"x")
            signal.pause()
    os.read(receive, 1)
    wait_for(there)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    wait_for(lambda: not there())
    wait_for(lambda: not [line for line in processes(docker) if "backups" in line])


def test_input_that_was_cut_is_never_taken_for_whole(place: Container, docker: DockerEngine) -> None:
    def cut() -> None:
        with place.feed(sh("cat >/tmp/part; touch /tmp/whole")) as tool:
            tool.stdin.write(MANY)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cut()
    wait_for(lambda: not [line for line in processes(docker) if "whole" in line])
    assert "whole" not in docker("exec", "place", "ls", "/tmp")


@pytest.mark.law(10)
def test_a_secret_lies_in_a_private_file_and_nowhere_else(place: Container, docker: DockerEngine) -> None:
    with place.secret_file("canary-3f9a2c") as path:
        assert place.run(Command(("cat", path))).stdout == b"canary-3f9a2c"
        assert place.run(sh('ls -l "$1" | cut -c 1-10', path)).stdout.strip() == b"-rw-------"
        assert not [line for line in processes(docker) if "canary" in line]
    assert "canary" not in docker("inspect", "place")
    wait_for(lambda: "prefect-backups" not in docker("exec", "place", "sh", "-c", "ls /tmp /var/tmp 2>&1; :"))


def test_a_container_that_is_missing_or_down_is_told_from_a_tool_that_failed(docker: DockerEngine) -> None:
    docker.start("place")
    with pytest.raises(SourceError, match="there is no container missing on this machine"):
        Container(HERE, "missing").run(sh(":"))
    docker("pause", "place")
    with pytest.raises(SourceUnavailable, match=r"container place on this machine does not run: .* paused"):
        Container(HERE, "place").run(sh(":"))
    docker("unpause", "place")
    docker("stop", "place")
    with pytest.raises(SourceUnavailable, match="container place on this machine does not run"):
        Container(HERE, "place").run(sh(":"))


def test_a_container_that_is_stopped_meanwhile_is_no_end_of_the_tool(docker: DockerEngine) -> None:
    docker.start("place")
    place = Container(HERE, "place")
    with pytest.raises(SourceUnavailable, match="was cut off"), place.stream(sh("echo x; sleep 987")) as tool:
        kill_while_it_runs(tool, docker)


def kill_while_it_runs(tool: RunningTool, docker: DockerEngine) -> None:
    assert tool.stdout.readline() == b"x\n"
    docker("kill", "place")
    tool.stdout.read()


@pytest.mark.parametrize("end", [b"", b"backups-", b"backups-0 0\n", b"b" * 60])
def test_output_that_resembles_the_mark_behind_it_passes_as_it_comes(place: Container, end: bytes) -> None:
    with place.session(Command(("cat",))) as tool:
        tool.stdin.write(b"a line\n")
        assert tool.stdout.readline() == b"a line\n"
        tool.stdin.write(end)
        tool.stdin.close()
        assert tool.stdout.read() == end
    assert place.run(Command(("cat",)), MANY + end).stdout == MANY + end


def test_all_that_a_tool_says_comes_though_it_did_not_read_its_input(place: Container) -> None:
    done = place.run(sh("head -c 5120000 /dev/zero; echo careful >&2"), MANY)
    assert done.stdout == bytes(5_120_000)
    assert done.warnings == ("careful",)


@pytest.mark.fault("S05")
@pytest.mark.parametrize("lost", [1, 20, 1000])
def test_output_whose_end_was_lost_is_never_taken_for_whole(
    docker: DockerEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lost: int
) -> None:
    docker.start("place")
    client = tmp_path / "docker"
    client.write_text(f'#!/bin/sh\n{shutil.which("docker")} "$@" | head -c -{lost}\n')
    client.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        with pytest.raises(SourceUnavailable, match="was cut off"):
            Container(HERE, "place").run(sh("head -c 2000 /dev/zero"))


@pytest.mark.fault("S12")
def test_a_daemon_that_does_not_answer_may_come_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    with pytest.raises(SourceUnavailable, match="Docker on this machine does not answer"):
        Container(HERE, "place").run(sh(":"))


def test_an_image_without_a_shell_is_told(docker: DockerEngine) -> None:
    busybox = Path(str(shutil.which("busybox")))
    docker.import_image("backups-test-bare:1", [("bin", None), ("bin/sleep", busybox)])
    docker.start("place", image="backups-test-bare:1", command=("/bin/sleep", "1000"))
    with pytest.raises(SourceError, match="has no sh"):
        Container(HERE, "place").run(sh(":"))


@pytest.mark.fault("N09", "N02")
@pytest.mark.parametrize("name", ["/etc", "a:/b", "-f", "--help", "$(touch x)", "", "a b", "a\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="not the name of a container"):
        Container(HERE, name)
