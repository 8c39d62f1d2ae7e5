"""A server over SSH as a place where tools run, and everything that may happen on the way."""

# ruff: noqa: PT012  # what a tool does on its way to its error is what is tested

from __future__ import annotations

import io
import os
import resource
import secrets
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path, PurePath
from unittest.mock import Mock

import paramiko
import pytest
from prefect.blocks.core import Block
from pydantic import SecretStr, ValidationError

from blocks.files import put
from blocks.servers import LocalServer
from blocks.ssh import links, travel
from blocks.ssh.keys import fingerprint
from blocks.ssh.links import links_to
from blocks.ssh.tool import WINDOW, RemoteTool
from blocks.ssh_server import SshServer
from cli.api import free_port
from tests.contract.source import CANARY, BlockSuite, wait_until_gone
from tests.peers.proxy import Proxy, proxy
from tests.peers.ssh_host import left_on, over, ssh_host
from tests.peers.sshd import SshServer as Sshd
from tests.peers.sshd import new_key
from vault.errors import (
    BackupError,
    ConfigError,
    HostKeyRejected,
    IncompleteDump,
    SourceError,
    SourceUnavailable,
    SpoolError,
    Transient,
)
from vault.process import Command, kill_all

FOREVER = "9123456"
"""For ``sleep``: found in a list of processes."""


class TestBlock(BlockSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return SshServer


@pytest.fixture
def line(host: Sshd) -> Iterator[Proxy]:
    """A line to the server that can be cut."""
    with proxy(host.port) as made:
        yield made


@pytest.fixture
def far(host: Sshd, line: Proxy) -> SshServer:
    """The same server through that line."""
    return over(host, port=line.port)


def until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until *holds* does, with a bound."""
    tick = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if holds():
            return
        tick.wait(0.02)
    assert holds()


def running(word: str) -> list[int]:
    """The processes with *word* as an argument."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if word.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def gone(word: str) -> None:
    """Wait until no process has *word* as an argument."""
    until(lambda: not running(word))


# -- what every host promises


@pytest.mark.parametrize("here", [True, False], ids=["local", "ssh"])
def test_every_host_runs_tools_alike(here: bool, server: SshServer, tmp_path: Path) -> None:
    host = LocalServer() if here else server
    done = host.run(Command(("sh", "-c", 'printf %s "$1"; echo note >&2', "sh", "a 'b' $c\n")))
    assert (done.stdout, done.warnings) == (b"a 'b' $c\n", ("note",))
    assert host.run(Command(("wc", "-c")), b"x" * 3_000_000).stdout.strip() == b"3000000"
    assert host.run(Command(("cat",))).stdout == b""
    assert host.run(Command(("cat",)), b"x" * 3_000_000).stdout == b"x" * 3_000_000  # more than the way holds
    assert (
        host.run(Command(("sh", "-c", "cat /etc/passwd")), b"x" * 3_000_000).stdout == Path("/etc/passwd").read_bytes()
    )
    assert host.run(Command(("pwd",), cwd=str(tmp_path))).stdout.strip() == os.fsencode(tmp_path)
    assert host.run(Command(("sh", "-c", "exit 7"), ok=frozenset({7}))).stdout == b""
    with host.session(Command(("cat",))) as tool:
        for word in (b"one\n", b"two\n"):
            tool.stdin.write(word)
            assert tool.stdout.readline() == word
    with host.feed(Command(("sh", "-c", 'cat >"$1"; echo said >&2', "sh", str(tmp_path / "fed")))) as tool:
        tool.stdin.write(b"x" * 5_000_000)
    assert (tmp_path / "fed").stat().st_size == 5_000_000
    assert (tool.warnings, tool.exit_code) == (["said"], 0)
    with host.stream(Command(("head", "-c", "20000000", "/dev/zero"))) as tool:
        assert len(tool.stdout.read()) == 20_000_000


@pytest.mark.parametrize("here", [True, False], ids=["local", "ssh"])
def test_every_host_finds_tools_and_files_alike(here: bool, server: SshServer, tmp_path: Path) -> None:
    host = LocalServer() if here else server
    for name in ("b c", "a*", "d\ne"):
        (tmp_path / name).touch()
    assert host.which("tar") is not None
    assert host.which("/bin/sh") == "/bin/sh"
    assert [host.which(name) for name in ("nosuch-tool", str(tmp_path / "b c"), "-rf")] == [None] * 3
    assert host.glob(f"{tmp_path}/*") == sorted(map(str, tmp_path.iterdir()))
    assert host.glob(f"{tmp_path}/x*") == []


@pytest.mark.parametrize("here", [True, False], ids=["local", "ssh"])
def test_private_things_are_private_and_gone_at_exit(here: bool, server: SshServer) -> None:
    host = LocalServer() if here else server
    with host.secret_file(CANARY) as secret, host.private_directory() as directory:
        assert Path(secret).read_text() == CANARY
        assert stat.S_IMODE(Path(secret).stat().st_mode) == 0o600
        for place in (Path(secret).parent, Path(directory)):
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
        (Path(directory) / "inner").mkdir(mode=0o500)
    assert not Path(secret).parent.exists()
    assert not Path(directory).exists()


@pytest.mark.fault("S01", "S02", "S03", "S08")
@pytest.mark.parametrize("here", [True, False], ids=["local", "ssh"])
def test_every_host_judges_tools_alike(here: bool, server: SshServer) -> None:
    host = LocalServer() if here else server
    with pytest.raises(SourceError, match=r"nosuch-tool is not installed[^\n]*\n.*apt-get install"):
        host.run(Command(("nosuch-tool",)))
    with pytest.raises(SourceError, match="exit code 3: bad \\*\\*\\*") as caught:
        host.run(Command(("sh", "-c", f"echo bad {CANARY} >&2; exit 3"), secrets=(CANARY,)))
    assert not isinstance(caught.value, Transient)
    with pytest.raises(SourceUnavailable, match="exit code 3"):
        host.run(Command(("sh", "-c", "echo refused >&2; exit 3"), transient="refused"))
    with pytest.raises(SourceUnavailable, match="SIGKILL"):
        host.run(Command(("sh", "-c", "kill -9 $$")))
    with pytest.raises(IncompleteDump), host.stream(Command(("echo", "more"))) as tool:
        tool.stdout.read(1)
    with (
        pytest.raises(SourceError, match=r"exit code 4: why|stopped reading"),
        host.feed(Command(("sh", "-c", "echo why >&2; exit 4"))) as tool,
    ):
        for _ in range(100):
            tool.stdin.write(b"x" * 1_000_000)


# -- the end of a tool


@pytest.mark.fault("S09")
def test_a_tool_that_is_silent_is_stopped_with_all_that_it_started(server: SshServer) -> None:
    command = Command(("sh", "-c", f"sleep {FOREVER}1 & sleep {FOREVER}1; :"), idle_timeout=0.5)
    with pytest.raises(SourceUnavailable, match="no sign of life"):
        server.run(command)
    gone(f"{FOREVER}1")


@pytest.mark.fault("K02")
def test_leaving_with_an_error_kills_the_tool(server: SshServer) -> None:
    with pytest.raises(ZeroDivisionError), server.stream(Command(("sh", "-c", f"echo; sleep {FOREVER}2; :"))) as tool:
        assert tool.stdout.readline()
        until(lambda: running(f"{FOREVER}2"))
        raise ZeroDivisionError
    gone(f"{FOREVER}2")


def test_a_run_that_is_told_to_end_kills_tools_on_servers_too(server: SshServer) -> None:
    with pytest.raises(SourceUnavailable), server.stream(Command(("sh", "-c", f"echo; sleep {FOREVER}3; :"))) as tool:
        assert tool.stdout.readline()
        kill_all()
        assert tool.stdout.read() == b""
    gone(f"{FOREVER}3")


@pytest.mark.fault("T01", "S12")
def test_a_line_that_is_cut_in_the_middle_of_a_dump_is_transient_and_ends_the_tool(far: SshServer, line: Proxy) -> None:
    with (
        pytest.raises(SourceUnavailable),
        far.stream(Command(("sh", "-c", f"cat /dev/zero & sleep {FOREVER}4; :"))) as tool,
    ):
        assert tool.stdout.read(5_000_000)
        line.cut()
        while tool.stdout.read(1_000_000):
            pass
    gone(f"{FOREVER}4")


@pytest.mark.law(2)
def test_what_waits_behind_a_gap_is_never_read_on(far: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """paramiko drops what it has taken when the line fails right as it tells the other side so."""
    with (
        pytest.raises(SourceUnavailable, match="lost while sh ran"),
        far.stream(Command(("sh", "-c", "cat /dev/zero"))) as tool,
    ):
        assert tool.stdout.read(5_000_000)
        with monkeypatch.context() as patched:
            patched.setattr(paramiko.Transport, "_send_user_message", Mock(side_effect=EOFError))
            while tool.stdout.read(WINDOW):
                pass


@pytest.mark.law(2)
def test_a_tool_never_takes_a_line_that_is_cut_for_the_end_of_its_input(
    far: SshServer, line: Proxy, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    with (
        pytest.raises(SourceUnavailable),
        far.feed(Command(("sh", "-c", f"cat >/dev/null; : >{done}", FOREVER))) as tool,
    ):
        tool.stdin.write(b"x" * 3_000_000)
        line.cut()
        for _ in range(100):
            tool.stdin.write(b"x" * 1_000_000)
    gone(FOREVER)
    assert not done.exists()


def test_what_is_private_goes_when_the_line_is_cut(far: SshServer, line: Proxy, host: Sshd) -> None:
    with pytest.raises(SourceError), far.private_directory() as directory:
        Path(directory, "secret").write_text(CANARY)
        assert len(left_on(host)) == 1
        line.cut()
        far.run(Command(("true",)))  # by a new connection
        raise SourceError("the run goes on without it")
    until(lambda: not left_on(host))


WORKER = """
import sys, os
from pydantic import SecretStr
from blocks.ssh_server import SshServer
from vault.process import Command
port, user, host_key, key, word = sys.argv[1:]
server = SshServer(host="127.0.0.1", port=int(port), user=user, host_key=host_key,
    private_key=SecretStr(open(key).read()), compress_at="worker")
with server.secret_file("canary-3f9a2c"), server.stream(Command(("sh", "-c", f"echo; sleep {word}; :"))) as tool:
    tool.stdout.readline()
    print("begun", flush=True)
    tool.stdout.read()
"""


@pytest.mark.fault("K02", "K13")
def test_a_worker_that_is_killed_takes_its_tools_and_secrets_on_the_server_with_it(host: Sshd, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(host.key())
    argv = [sys.executable, "-c", WORKER, str(host.port), host.user, host.host_key, str(key), f"{FOREVER}5"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"begun\n"
        assert left_on(host)
        until(lambda: running(f"{FOREVER}5"))
        worker.kill()
    gone(f"{FOREVER}5")
    until(lambda: not left_on(host))


def test_what_a_shell_that_was_killed_has_left_is_swept_by_the_next(server: SshServer, host: Sshd) -> None:
    with pytest.raises(SourceError), server.private_directory() as directory:
        owner = int((Path(directory).parent / "owner").read_text().split()[0])
        os.kill(owner, signal.SIGKILL)
        wait_until_gone(owner)
        raise SourceError("out")
    assert len(left_on(host)) == 1
    with server.private_directory() as directory:
        assert [path.name for path in left_on(host)] == [Path(directory).parent.name]
        with server.private_directory():  # one that lives is none of its business
            assert len(left_on(host)) == 2


# -- what comes, and how much of it waits


def test_a_reader_that_is_slow_holds_the_tool_up_and_memory_stays_the_same(server: SshServer) -> None:
    with pytest.raises(ZeroDivisionError), server.stream(Command(("cat", "/dev/zero"))) as tool:
        assert isinstance(tool, RemoteTool)
        tool.stdout.read(1)
        buffer = tool._channel.in_buffer
        until(lambda: len(buffer) > WINDOW * 0.8)
        assert len(buffer) <= WINDOW
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(300):
            tool.stdout.read(1_000_000)
        assert len(buffer) <= WINDOW
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000
        raise ZeroDivisionError


@pytest.mark.fault("S10")
def test_a_flood_of_stderr_neither_blocks_nor_fills_memory(server: SshServer) -> None:
    flood = "yes error | head -c 50000000 >&2; echo done"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = server.run(Command(("sh", "-c", flood)))
    assert done.stdout == b"done\n"
    assert set(done.warnings) <= {"error", "error"[: len(done.warnings[-1])]}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000


@pytest.mark.parametrize("compress_at", ["worker", "source"])
def test_what_start_up_files_print_is_no_part_of_a_dump(host: Sshd, compress_at: str) -> None:
    server = over(host, compress_at=compress_at)
    (host.served / ".bashrc").write_text("echo welcome; echo trouble >&2; printf 'no end'\n")
    try:
        with server.stream(Command(("sh", "-c", "echo rows; echo note >&2"))) as tool:
            assert tool.stdout.read() == b"rows\n"
        assert tool.warnings == ["note"]
    finally:
        (host.served / ".bashrc").unlink()


@pytest.mark.fault("S07", "S08")
@pytest.mark.parametrize("victim", ["zstd", "cat"])
def test_with_compression_on_the_way_either_side_that_is_killed_fails_the_dump(host: Sshd, victim: str) -> None:
    server = over(host, compress_at="source")
    word = f"/dev/urandom-{secrets.token_hex(8)}"
    os.symlink("/dev/urandom", word)
    try:
        with pytest.raises(SourceUnavailable, match="SIGKILL"), server.stream(Command(("cat", word))) as tool:
            tool.stdout.read(1_000_000)
            (tool_id,) = [pid for pid in running(word) if Path(f"/proc/{pid}/exe").resolve().name == "cat"]
            group = os.getpgid(tool_id)
            others = [pid for pid in running("-c") if os.getpgid(pid) == group]
            (zstd,) = [pid for pid in others if Path(f"/proc/{pid}/exe").resolve().name == "zstd"]
            os.kill(zstd if victim == "zstd" else tool_id, signal.SIGKILL)
            while tool.stdout.read(1_000_000):
                pass
    finally:
        Path(word).unlink()


def test_auto_compresses_only_on_a_line_that_is_slower_than_the_compressor(
    host: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, wanted in ((0.0, None), (1e12, "zstd")):
        monkeypatch.setitem(travel.PAYS_BELOW, "zstd", limit)
        server = over(host, compress_at="auto")
        assert travel.choose("auto", server, links_to(server.login)) == wanted
        with server.stream(Command(("head", "-c", "30000000", "/dev/zero"))) as tool:
            assert len(tool.stdout.read()) == 30_000_000
    monkeypatch.setattr(travel, "speed", lambda _: pytest.fail("measured twice"))
    assert travel.choose("auto", server, links_to(server.login)) == "zstd"


# -- connections


def test_all_steps_share_one_connection_and_the_ninth_session_takes_a_second(
    host: Sshd, line: Proxy, far: SshServer
) -> None:
    for _ in range(5):
        far.model_copy().run(Command(("true",)))
    assert line.connections == 1
    with ExitStack() as stack:
        tools = [stack.enter_context(far.session(Command(("cat",)))) for _ in range(links.SESSIONS + 2)]
        assert line.connections == 2
        for number, tool in enumerate(tools):
            tool.stdin.write(b"%d\n" % number)
            assert tool.stdout.readline() == b"%d\n" % number


def test_a_server_that_takes_few_sessions_gets_more_connections() -> None:
    with ssh_host("MaxSessions 2") as server, proxy(server.port) as line, ExitStack() as stack:
        far = over(server, port=line.port)
        tools = [stack.enter_context(far.session(Command(("cat",)))) for _ in range(5)]
        assert line.connections == 3
        for tool in tools:
            tool.stdin.write(b"x\n")
            assert tool.stdout.readline() == b"x\n"


def test_a_connection_is_closed_when_nobody_has_used_it_for_a_while(
    host: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "UNUSED", 0.05)
    with proxy(host.port) as line:
        server = over(host, port=line.port)
        until(lambda: not links_to(server.login)._open)
        server.run(Command(("true",)))
        assert line.connections == 2


def test_a_while_begins_anew_with_each_use(host: Sshd) -> None:
    before = set(threading.enumerate())
    with proxy(host.port) as line:
        server = over(host, port=line.port)
        for _ in range(5):
            server.run(Command(("true",)))
        (link,) = links_to(server.login)._open
        until(
            lambda: (
                {one for one in threading.enumerate() if isinstance(one, threading.Timer)} - before == {link.closing}
            )
        )
        assert link.closing is not None
        link.closing.cancel()
        late = threading.Timer(0, links_to(server.login)._close_unused, (link,))  # one from an earlier use
        late.start()
        late.join()
        assert link.alive


def test_a_connection_that_has_died_unused_is_replaced(far: SshServer, line: Proxy) -> None:
    line.cut()
    until(lambda: not any(link.alive for link in links_to(far.login)._open))
    far.run(Command(("true",)))


@pytest.mark.fault("T01")
def test_a_server_that_is_away_is_tried_again(host: Sshd) -> None:
    with pytest.raises(SourceUnavailable, match="refused"):
        over(host, port=free_port())
    with pytest.raises(SourceUnavailable, match="resolved"):
        over(host, host="nosuch.invalid")


@pytest.mark.fault("T15")
def test_a_host_key_that_is_not_pinned_is_refused_with_its_fingerprint(host: Sshd) -> None:
    with pytest.raises(HostKeyRejected) as caught:
        over(host, host_key="")
    assert not isinstance(caught.value, Transient)
    assert isinstance(caught.value, SourceError)
    assert fingerprint(host.host_key) in caught.value.message
    assert f"backups server update NAME --host-key '{host.host_key}'" in caught.value.remedy


@pytest.mark.fault("T16")
def test_a_host_key_that_changed_is_refused_loudly() -> None:
    with ssh_host() as own:
        server = over(own)
        key = server.private_key
        own.kill_sessions()
        own.change_host_key()
        with pytest.raises(HostKeyRejected, match="SECURITY"):
            server.run(Command(("true",)))
        over(own, private_key=key)


@pytest.mark.fault("S12")
def test_a_login_that_is_refused_is_permanent_and_holds_no_secret(host: Sshd) -> None:
    text, _ = new_key()
    with pytest.raises(SourceError, match="Authentication failed") as caught:
        over(host, private_key=SecretStr(text), passphrase=SecretStr(CANARY))
    assert not isinstance(caught.value, Transient)
    assert CANARY not in str(caught.value)
    with pytest.raises(ConfigError, match="nothing is given"):
        over(host, private_key=SecretStr(""))


@pytest.mark.usefixtures("prefect_api")
def test_a_server_is_reached_through_another_one(host: Sshd) -> None:
    with ssh_host() as inner, proxy(inner.port) as line:
        over(host).save("gate")
        server = over(inner, port=line.port, jump="ssh-server/gate")
        assert server.run(Command(("echo", "through"))).stdout == b"through\n"
        with server.stream(Command(("head", "-c", "30000000", "/dev/zero"))) as tool:
            assert len(tool.stdout.read()) == 30_000_000
        gates = [link for link in links_to(server.login)._open if link.alive]
        assert len(gates) == 1
        gates[0].close()
        until(lambda: not gates[0].alive)
    with pytest.raises(ConfigError, match="ssh-server/nosuch"):
        over(host, jump="ssh-server/nosuch")


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "-oProxyCommand=x"},
        {"host": "a b"},
        {"user": "a\nb"},
        {"jump": "gate"},
        {"jump": "ssh-server/../x"},
        {"temp_directory": "relative"},
        {"temp_directory": "/a/../b"},
        {"max_runs": 0},
        {"compress_at": "sometimes"},
    ],
)
def test_fields_that_cannot_be_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SshServer.model_validate({"host": "h", "user": "u", **fields})


@pytest.mark.fault("F03")
def test_a_full_disk_over_there_is_told_as_that(server: SshServer, tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="no space"):
        put(server, io.BytesIO(b"x" * 100_000), PurePath("/dev/full"))
    with pytest.raises(BackupError):
        put(server, io.BytesIO(b"x"), PurePath(tmp_path / "nosuch" / "file"))
    (tmp_path / "taken").write_text("old")
    with pytest.raises(BackupError):
        put(server, io.BytesIO(b"x"), PurePath(tmp_path / "taken"))
    assert (tmp_path / "taken").read_text() == "old"
