"""Tools are run, judged, stopped and never left behind; real processes throughout."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.source import wait_until_gone
from vault import milestone, orphans
from vault.errors import IncompleteDump, SourceError, SourceUnavailable, Transient
from vault.orphans import MARK, children, is_alive, run_mark, sweep_orphans
from vault.process import PIPE_BYTES, Command, feed, run, session, stream, which


def bash(script: str, **how: object) -> Command:
    return Command(("bash", "-c", script), **how)  # type: ignore[arg-type]


def descriptors() -> set[tuple[str, str]]:
    """What is open, by number."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No child, no descriptor and no thread outlives a test; what an earlier one has left to end may end."""
    threads, processes, files = set(threading.enumerate()), set(children()), descriptors()
    yield
    assert set(threading.enumerate()) <= threads
    assert set(children()) <= processes
    assert descriptors() <= files


def test_a_short_tool_gives_its_output_and_its_warnings() -> None:
    done = run(bash("cat; echo careful >&2"), b"x" * 3_000_000)
    assert done.stdout == b"x" * 3_000_000
    assert done.warnings == ("careful",)


def test_a_tool_without_input_finds_it_empty() -> None:
    assert run(Command(("cat",))).stdout == b""


@pytest.mark.fault("S01")
def test_a_missing_tool_is_named_with_what_to_install() -> None:
    with pytest.raises(SourceError, match=r"nosuch-tool is not installed(.|\n)*apt-get install nosuch-tool"):
        run(Command(("nosuch-tool",)))
    with pytest.raises(SourceError, match="postgresql-client"):
        run(Command(("/nowhere/pg_dump",)))
    assert which("nosuch-tool") is None
    assert which("bash")


@pytest.mark.fault("S02", "S03", "S07")
def test_an_exit_code_is_an_error_whatever_was_written() -> None:
    with pytest.raises(SourceError, match="bash failed with exit code 3: went wrong") as caught:
        run(bash("head -c 10000000 /dev/zero; echo went wrong >&2; exit 3"))
    assert not isinstance(caught.value, Transient)
    with pytest.raises(SourceError, match="exit code 3"), stream(bash("echo output; exit 3")) as tool:
        assert tool.stdout.read() == b"output\n"


def test_exit_codes_can_be_allowed() -> None:
    with stream(bash("exit 1", ok=frozenset({0, 1}))) as tool:
        assert tool.stdout.read() == b""
    assert tool.exit_code == 1


def test_what_stderr_says_can_make_an_error_transient() -> None:
    with pytest.raises(SourceUnavailable):
        run(bash("echo connection refused >&2; exit 1", transient="refused|timeout"))


@pytest.mark.fault("S07", "S08")
def test_a_tool_that_was_killed_may_be_tried_again() -> None:
    with pytest.raises(SourceUnavailable, match="bash was killed by SIGKILL"):
        run(bash("echo output; kill -9 $$"))


@pytest.mark.fault("S09")
def test_a_silent_tool_is_stopped_with_all_it_started() -> None:
    started = []

    def listen() -> None:
        with stream(bash("sleep 1000 & echo $!; wait")) as tool:
            started.append(int(tool.stdout.readline()))
            tool.command = replace(tool.command, idle_timeout=0.3)
            tool.stdout.read()

    with pytest.raises(SourceUnavailable, match=r"showed no sign of life for 0\.3 seconds"):
        listen()
    wait_until_gone(*started)


@pytest.mark.fault("S09")
def test_a_tool_that_closes_its_output_and_stays_is_stopped() -> None:
    with (
        pytest.raises(SourceUnavailable, match="no sign of life"),
        stream(bash("exec >&-; exec sleep 1000", idle_timeout=0.3)) as tool,
    ):
        tool.stdout.read()


@pytest.mark.fault("S09")
def test_a_tool_that_does_not_read_is_stopped() -> None:
    with (
        pytest.raises(SourceUnavailable, match="no sign of life"),
        feed(bash("sleep 1000", idle_timeout=0.3)) as tool,
    ):
        tool.stdin.write(bytes(10_000_000))


def test_a_tool_that_waits_for_us_is_not_called_silent() -> None:
    with stream(bash("head -c 4000000 /dev/zero")) as tool:
        assert tool.stdout.read(1) == b"\0"
        tool.command = replace(tool.command, idle_timeout=0.2)
        run(Command(("sleep", "0.5")))  # longer than the timeout: it is we who hold the tool back
        assert len(tool.stdout.read(PIPE_BYTES)) == PIPE_BYTES  # more than was read ahead
        tool.command = replace(tool.command, idle_timeout=60)
        assert len(tool.stdout.read()) == 3_999_999 - PIPE_BYTES


@pytest.mark.fault("S10")
def test_a_flood_of_stderr_takes_no_memory() -> None:
    with stream(bash("head -c 1000000000 /dev/zero | tr '\\0' x >&2; echo; echo last >&2")) as tool:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert tool.stdout.read() == b"\n"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB
    assert sum(map(len, tool.warnings)) < 30_000


@pytest.mark.fault("M04", "N04")
def test_the_tail_of_stderr_is_short_printable_and_without_secrets() -> None:
    script = "for i in $(seq 100); do echo line $i; done >&2; printf 'key=s3cret \\033[31m\\r' >&2; exit 1"
    with pytest.raises(SourceError) as caught:
        run(bash(script, secrets=("s3cret",)))
    text = str(caught.value)
    assert "line 100" in text
    assert "line 70\n" not in text
    assert "s3cret" not in text
    assert "key=***" in text
    assert "\x1b" not in text


@pytest.mark.fault("M04")
def test_a_secret_that_the_ring_cuts_in_two_is_not_shown() -> None:
    secret = "s3cret" * 10
    for shift in range(0, 60, 7):
        script = f"printf '{secret}%.0s' $(seq 3000) >&2; printf '%0{shift + 1}d' 0 >&2; exit 1"
        with pytest.raises(SourceError) as caught:
            run(bash(script, secrets=(secret,)))
        assert "s3cret" not in str(caught.value)


def test_leaving_early_ends_the_tool() -> None:
    def leave() -> None:
        with stream(bash("yes")) as tool:
            tool.stdout.read(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave()


@pytest.mark.law(6)
def test_output_that_was_not_read_to_its_end_proves_nothing() -> None:
    with pytest.raises(IncompleteDump), stream(bash("echo 1; echo 2")) as tool:
        tool.stdout.readline()


def test_a_tool_that_is_fed_gets_everything(tmp_path: Path) -> None:
    with feed(bash(f"cat > {tmp_path}/copy")) as tool:
        for _ in range(5):
            assert tool.stdin.write(b"abc" * 1_000_000) == 3_000_000
    assert (tmp_path / "copy").read_bytes() == b"abc" * 5_000_000


@pytest.mark.fault("S07")
def test_a_fed_tool_that_dies_gives_its_own_error() -> None:
    with pytest.raises(SourceError, match="exit code 4: cannot"), feed(bash("echo cannot >&2; exit 4")) as tool:
        tool.stdin.write(bytes(10_000_000))
    with pytest.raises(SourceError, match="stopped reading"), feed(bash("exit 0")) as tool:
        tool.stdin.write(bytes(10_000_000))
    with pytest.raises(SourceError, match="exit code 5"), feed(bash("cat >/dev/null; exit 5")) as tool:
        tool.stdin.write(b"all of it")


def test_a_conversation() -> None:
    with session(bash("while read -r line; do echo heard $line; done")) as tool:
        tool.stdin.write(b"one\n")
        assert tool.stdout.readline() == b"heard one\n"
        tool.stdin.write(b"two\n")
        assert tool.stdout.readline() == b"heard two\n"


@pytest.mark.law(10)
@pytest.mark.fault("O12")
def test_only_the_listed_environment_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("PGPASSWORD", "canary")
    seen = run(Command(("env",), env={"EXTRA": "1"})).stdout.decode()
    names = {line.partition("=")[0] for line in seen.splitlines()}
    assert names <= {"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "EXTRA", MARK, "_", "PWD", "SHLVL"}
    assert {"PATH", "EXTRA", MARK} <= names
    assert "canary" not in seen
    assert "canary" not in repr(Command(("env",), env={"A": "canary"}, secrets=("canary",)))


@pytest.mark.fault("N01", "N02", "N04")
@pytest.mark.parametrize("argument", ["; touch pwned", "$(touch pwned)", "`touch pwned`", "--help", "a\nb", "%s{x}*"])
def test_an_argument_is_only_an_argument(argument: str, tmp_path: Path) -> None:
    done = run(Command(("printf", "%s", argument), cwd=str(tmp_path)))
    assert done.stdout == argument.encode()
    assert os.listdir(tmp_path) == []


PARENT = """
import sys, os
from vault.process import Command, stream
with stream(Command(("bash", "-c", sys.argv[1]))) as tool:
    print(tool.stdout.readline().decode().strip(), flush=True)
    tool.stdout.read()
"""


def started_by_a_parent(script: str) -> tuple[subprocess.Popen[str], int]:
    """A process that runs a tool, and the process id that the tool tells."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.stdout.close()
    return parent, pid


@pytest.mark.fault("K02")
def test_a_tool_dies_with_the_process_that_started_it() -> None:
    parent, tool = started_by_a_parent("echo $$; exec sleep 1000")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until_gone(tool)


@pytest.mark.fault("K02", "K15")
def test_what_a_dead_run_left_is_swept_and_what_lives_is_not() -> None:
    dead, orphan = started_by_a_parent("sleep 1000 & echo $!; wait")
    alive, tool = started_by_a_parent("sleep 1000 & echo $!; wait")
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    with session(bash("sleep 1000 & echo $!; read; kill $!")) as own:
        own_child = int(own.stdout.readline())
        sweep_orphans()  # a run of another test may do it first: what counts is who lives
        wait_until_gone(orphan)
        sweep_orphans()
        assert orphans._started(tool) is not None
        assert orphans._started(own_child) is not None
        own.stdin.write(b"\n")
    alive.send_signal(signal.SIGINT)
    alive.wait(timeout=300)
    wait_until_gone(tool)


def test_a_mark_is_that_of_one_process_only() -> None:
    assert is_alive(run_mark())
    pid, started, namespace = run_mark().split("-")
    assert not is_alive(f"{pid}-{int(started) + 1}-{namespace}")
    assert is_alive(f"{pid}-{int(started) + 1}-1{namespace}")  # of another container: not ours to judge
    assert is_alive("nonsense")


def test_a_milestone_stops_only_the_process_that_was_told_to() -> None:
    milestone.milestone("here")
    code = "from vault.milestone import milestone; milestone('there'); milestone('here'); print('went on')"
    child = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "BACKUPS_STOP_AT": "here"}, stdout=subprocess.PIPE
    )
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    child.send_signal(signal.SIGCONT)
    assert child.communicate()[0] == b"went on\n"
