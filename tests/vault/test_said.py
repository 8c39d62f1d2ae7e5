"""What tools say is told line by line while they run; real tools throughout."""

from __future__ import annotations

import queue

import pytest

from vault.process import Command, run, session
from vault.said import BYTES, LINES, Told, hearing


def bash(script: str, **how: object) -> Command:
    return Command(("bash", "-c", script), **how)  # type: ignore[arg-type]


def test_a_line_is_told_while_the_tool_still_runs() -> None:
    said: queue.Queue[str] = queue.Queue()
    with hearing(said.put), session(bash("echo begun >&2; read -r line; echo $line >&2")) as tool:
        assert said.get(timeout=60) == "bash: begun"
        assert tool.exit_code is None
        tool.stdin.write(b"ended\n")
    assert said.get(timeout=60) == "bash: ended"
    run(bash("echo nobody listens >&2"))
    assert said.empty()


@pytest.mark.law(10)
@pytest.mark.fault("O12", "N04")
def test_what_is_told_holds_no_secret_and_nothing_that_moves_a_terminal() -> None:
    said: list[str] = []
    secrets = ("pass word", "-----BEGIN KEY-----\nMHcCAQEEIIrYSSN\n-----END KEY-----\n")
    script = r"""printf 'is pass' >&2; sleep 0.05; printf ' word\n' >&2; printf 'MHcCAQEEIIrYSSN\n' >&2
        printf 'a\033[2Jb\rc\n\n  \n' >&2; head -c 100000 /dev/zero | tr '\0' x >&2; echo >&2; printf 'bash: end' >&2"""
    with hearing(said.append):
        run(bash(script, secrets=secrets))
    assert said == ["bash: is ***", "bash: ***", r"bash: a\x1b[2Jb\rc", f"bash: {'x' * 400}", "bash: end"]


@pytest.mark.fault("S10")
def test_of_a_tool_that_says_a_lot_it_is_told_how_much_was_left_out() -> None:
    said: list[str] = []
    with hearing(said.append):
        run(bash("for n in {1..5000}; do echo line $n; done >&2"))
    assert said[:2] == ["bash: line 1", "bash: line 2"]
    assert len(said) == LINES + 1
    left = sum(len(f"line {n}\n") for n in range(LINES + 1, 5001))
    assert said[-1] == f"bash: {5000 - LINES} more lines ({left:,} bytes) were left out"
    said.clear()
    with hearing(said.append):
        run(bash("head -c 10000000 /dev/zero | tr '\\0' x >&2; for n in {1..40}; do echo; printf %05000d $n; done >&2"))
    assert sum(map(len, said)) < 2 * BYTES
    assert "left out" in said[-1]


@pytest.mark.fault("O10")
def test_a_listener_that_fails_stops_no_tool() -> None:
    def broken(line: str) -> None:
        said.append(line)
        raise ValueError("the log is down")

    said: list[str] = []
    with hearing(broken):
        done = run(bash("for n in {1..50000}; do echo line $n >&2; done; echo whole"))
    assert done.stdout == b"whole\n"
    assert done.warnings[-1] == "line 50000"
    assert said == ["bash: line 1"]


def test_lines_are_the_same_however_they_are_cut() -> None:
    data = "".join(f"line {n} é\n" for n in range(50)).encode() + b"rest"
    expected: list[str] | None = None
    for size in (1, 2, 7, 1000):
        said: list[str] = []
        told = Told(said.append, "tool", ())
        for begin in range(0, len(data), size):
            told.take(data[begin : begin + size])
        told.end()
        expected = expected or said
        assert said == expected
        assert len(said) == 51
