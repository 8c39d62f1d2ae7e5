"""What is handed to the server's login shell: every shell makes the same of it, and the tool dies with the line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from blocks.framed import END, frame
from blocks.ssh.shell import Compressor, command_line
from vault.process import Command

LOGIN_SHELLS = ("bash", "dash", "zsh", "tcsh", "fish")
SHELLS = ("dash", "bash", "busybox")
ODD = ("a b", "it's", "$(touch pwned)", "`id`", "new\nline", "*", "\\", "!", "", "-rf", "é\u2028", '"', "~", ";|&<>")
DATA = os.urandom(300_000)


@pytest.fixture(params=SHELLS)
def sh(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """An environment in which ``sh`` is that shell."""
    found = subprocess.run(["which", request.param], capture_output=True, text=True, check=True).stdout.strip()
    place = tmp_path / "bin"
    place.mkdir()
    (place / "sh").symlink_to(found)
    return {"PATH": f"{place}:/usr/bin:/bin", "HOME": str(tmp_path)}


def run(
    command: Command,
    data: bytes | None = None,
    *,
    shell: str = "dash",
    env: dict[str, str] | None = None,
    end: bytes = END,
    compressor: Compressor | None = None,
) -> tuple[int, bytes, bytes]:
    """As an SSH server does: with nobody to say that the tool's input has ended but us."""
    line = command_line(command, "MARK", fed=data is not None, read=True, compressor=compressor)
    with subprocess.Popen(
        [shell, "-c", line],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={"PATH": "/usr/bin:/bin", "HOME": "/", **(env or {})},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        if data is not None:
            process.stdin.write(frame(data) + data + end)
        process.stdin.flush()
        if data is not None and not end:
            process.stdin.close()
        out, err = process.stdout.read(), process.stderr.read()
        assert process.wait(30) is not None
    assert out.startswith(b"MARK\n")
    assert err.startswith(b"MARK\n")
    return process.returncode, out[5:], err[5:]


@pytest.mark.fault("N01", "N02", "N04", "N11")
@pytest.mark.parametrize("shell", LOGIN_SHELLS)
def test_no_login_shell_changes_an_argument(shell: str, tmp_path: Path) -> None:
    command = Command(("printf", "%s\\0", *ODD), env={"GIVEN": "a 'b' $c"}, cwd=str(tmp_path))
    code, out, _ = run(command, shell=shell)
    assert (code, out) == (0, "".join(f"{one}\0" for one in ODD).encode())
    assert list(tmp_path.iterdir()) == []


def test_the_environment_is_the_one_that_is_given_and_the_usual(sh: dict[str, str]) -> None:
    code, out, _ = run(Command(("env",), env={"GIVEN": "a 'b' $c"}), env={**sh, "AWS_SECRET": "x", "LC_ALL": "C"})
    found = dict(line.partition("=")[::2] for line in out.decode().splitlines())
    assert code == 0
    assert {"PATH", "HOME", "LANG", "LC_ALL", "GIVEN"} == set(found) - {"PWD", "SHLVL", "_", "OLDPWD"}
    assert (found["GIVEN"], found["LC_ALL"], found["HOME"]) == ("a 'b' $c", "C.UTF-8", sh["HOME"])


def test_what_is_fed_arrives_byte_by_byte(sh: dict[str, str]) -> None:
    assert run(Command(("cat",)), DATA, env=sh) == (0, DATA, b"")


@pytest.mark.fault("S07")
def test_a_line_that_ends_before_the_input_kills_the_tool_before_it_takes_that_for_the_end(
    sh: dict[str, str], tmp_path: Path
) -> None:
    done = tmp_path / "done"
    code, _, _ = run(Command(("sh", "-c", f"cat >{tmp_path}/half; : >{done}")), DATA, env=sh, end=b"")
    assert code == -9
    assert (tmp_path / "half").stat().st_size <= len(DATA)
    assert not done.exists()


def test_a_frame_that_is_none_never_ends_the_input(sh: dict[str, str], tmp_path: Path) -> None:
    done = tmp_path / "done"
    command = Command(("timeout", "-s", "KILL", "1", "sh", "-c", f"cat >{tmp_path}/half; : >{done}"))
    code, _, _ = run(command, DATA, env=sh, end=b"garbage\n")
    assert code not in (0, None)
    assert not done.exists()


@pytest.mark.fault("S02", "S08", "S01")
def test_the_tools_own_status_comes_back(sh: dict[str, str]) -> None:
    assert run(Command(("sh", "-c", "echo bad >&2; exit 3")), env=sh) == (3, b"", b"bad\n")
    assert run(Command(("sh", "-c", "kill -9 $$")), env=sh)[0] == 128 + 9
    assert run(Command(("nosuch-tool",)), env=sh)[0] == 127


@pytest.mark.fault("S07")
@pytest.mark.parametrize("compressor", ["zstd", "gzip"])
def test_with_a_compressor_every_status_counts(sh: dict[str, str], compressor: Compressor, tmp_path: Path) -> None:
    code, out, err = run(Command(("sh", "-c", "echo hello; echo note >&2")), env=sh, compressor=compressor)
    assert (code, err) == (0, b"note\n")
    assert subprocess.run([compressor, "-d"], input=out, capture_output=True, check=True).stdout == b"hello\n"
    assert run(Command(("sh", "-c", "echo hello; exit 4")), env=sh, compressor=compressor)[0] == 4
    assert run(Command(("sh", "-c", "kill -9 $$")), env=sh, compressor=compressor)[0] == 128 + 9
    if compressor == "gzip" and "busybox" in os.readlink(tmp_path / "bin" / "sh"):
        return  # that shell takes its own, whatever is on PATH
    for how, status in (("exit 1", 125), ("kill -9 $$", 128 + 9)):
        bad = tmp_path / "bin" / compressor
        bad.write_text(f"#!/bin/sh\nhead -c 10 >/dev/null\n{how}\n")
        bad.chmod(0o755)
        code, _, err = run(Command(("head", "-c", "9000000", "/dev/zero")), env=sh, compressor=compressor)
        assert code == status
        assert b"compressor" in err


def test_a_command_that_no_kernel_would_take_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        command_line(Command(("echo", "x" * 200_000)), "MARK", fed=False, read=True)
