"""Containers that are stopped for a while come back, whatever dies meanwhile: a real Docker Engine and real kills."""

from __future__ import annotations

import os
import select
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from blocks.docker.guard import Guard, How, repair, stopped
from blocks.servers import LocalServer
from tests.peers.docker import DockerEngine
from vault.errors import ConfigError, SourceError, SourceUnavailable
from vault.orphans import children

HERE = LocalServer()
NAMES = ("shop-db", "shop-web")


@pytest.fixture
def app(docker: DockerEngine) -> DockerEngine:
    """An app of two containers that run."""
    for name in NAMES:
        docker.start(name)
    return docker


@pytest.fixture
def others(app: DockerEngine) -> DockerEngine:
    """Beside it one container that does not run, and one that is paused."""
    for name in ("idle", "frozen"):
        app.start(name)
    app("stop", "idle")
    app("pause", "frozen")
    return app


def lives(docker: DockerEngine) -> dict[str, tuple[str, str]]:
    """Of each container since when it runs, and how it is."""
    states = {name: docker.state(name) for name in docker("ps", "--all", "--format={{.Names}}").split()}
    return {name: (state["StartedAt"], state["Status"]) for name, state in states.items()}


def notes() -> list[Path]:
    """What guards have noted on the disk of the server."""
    return list(Path(os.environ["HOME"], ".local/state/prefect-backups/stopped").glob("*"))


def guards() -> list[int]:
    """The guards that run for the daemon of this test."""
    ours, found = os.fsencode(f"DOCKER_HOST={os.environ['DOCKER_HOST']}"), []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            words = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes().split(b"\0")
            if words[0] == b"sh" and words[3:4] == [b"prefect-backups-guard"] and ours in environment:
                found.append(int(entry.name))
    return found


def wait_for_guards() -> None:
    """Until they have done their work."""
    for pid in guards():
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ended, _, _ = select.select([handle], [], [], 300)
        os.close(handle)
        assert ended


@pytest.mark.parametrize("how", ["stop", "pause"])
def test_what_runs_is_down_within_the_context_and_back_after_it(others: DockerEngine, how: How) -> None:
    app, before = others, lives(others)
    with stopped(HERE, (*NAMES, "idle", "frozen"), how) as guard:
        assert guard.names == NAMES
        assert {app.state(name)["Status"] for name in NAMES} == {"exited" if how == "stop" else "paused"}
        assert notes()
    after = lives(app)
    assert app.running() == set(NAMES)
    assert {name: after[name] for name in ("idle", "frozen")} == {name: before[name] for name in ("idle", "frozen")}
    assert guard.warnings == []
    assert (notes(), guards()) == ([], [])


def test_the_youngest_is_stopped_first_and_the_oldest_started_first(app: DockerEngine) -> None:
    with stopped(HERE, NAMES[::-1]):
        ended = [app.state(name)["FinishedAt"] for name in NAMES]
        assert ended[1] < ended[0]
    started = [app.state(name)["StartedAt"] for name in NAMES]
    assert started[0] < started[1]


def test_containers_that_are_not_named_are_left_alone(app: DockerEngine) -> None:
    before = lives(app)
    with stopped(HERE, ["shop-web"]):
        assert app.running() == {"shop-db"}
    after = lives(app)
    assert {name for name in after if after[name] != before[name]} == {"shop-web"}


def test_where_none_runs_nothing_is_done(others: DockerEngine) -> None:
    before = lives(others)
    with stopped(HERE, ["idle", "frozen"]) as guard:
        assert (guard.names, guards()) == ((), [])
    assert lives(others) == before


def test_they_can_be_had_back_before_the_end(app: DockerEngine) -> None:
    with stopped(HERE, NAMES) as guard:
        guard.release()
        wait_for_guards()
        assert app.running() == set(NAMES)


def test_a_failure_within_the_context_has_them_back_and_is_the_error(app: DockerEngine) -> None:
    with pytest.raises(ZeroDivisionError), stopped(HERE, NAMES):
        raise ZeroDivisionError
    assert app.running() == set(NAMES)


def wait_for_a_signal(_: Guard) -> None:
    """Not by ``signal.pause``, which misses the one that comes in the moment before."""
    while True:
        select.select([], [], [], 0.1)


@contextmanager
def forked(work: Callable[[Guard], object], patience: float = 60.0) -> Iterator[int]:
    """Another process in which *work* is done while the containers are down; its id, when they are."""
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with stopped(HERE, NAMES, patience=patience) as guard:
                os.write(send, b"down")
                work(guard)
            code = 0
        except SourceUnavailable:
            code = 7
        finally:
            os._exit(code)
    os.close(send)
    assert os.read(receive, 4) == b"down"
    os.close(receive)
    yield pid


@pytest.mark.fault("K02", "K13")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_killed_leaves_none_stopped(app: DockerEngine, number: signal.Signals) -> None:
    with forked(wait_for_a_signal) as pid:
        assert app.running() == set()
        os.kill(pid, number)
        os.waitpid(pid, 0)
        wait_for_guards()
    assert app.running() == set(NAMES)
    assert notes() == []


@pytest.mark.fault("X06")
def test_a_worker_that_gives_no_sign_of_life_has_them_back_and_is_told_when_it_wakes(app: DockerEngine) -> None:
    with forked(lambda _: signal.raise_signal(signal.SIGSTOP), patience=1) as pid:
        os.waitpid(pid, os.WUNTRACED)
        wait_for_guards()
        assert app.running() == set(NAMES)
        os.kill(pid, signal.SIGCONT)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_they_are_back_after_as_long_as_is_allowed_and_that_is_an_error(app: DockerEngine) -> None:
    with pytest.raises(SourceError, match="down for as long as is allowed"), stopped(HERE, NAMES, limit=1):
        wait_for_guards()
    assert app.running() == set(NAMES)


def test_a_shell_that_is_cut_off_has_them_back_and_that_is_an_error(app: DockerEngine) -> None:
    """All that hangs on the connection is killed, as sshd or a dropped session does it; the guard is not."""

    def cut() -> None:
        for child in children():
            if b"prefect-backups-guard" in Path("/proc", str(child), "cmdline").read_bytes():
                os.killpg(child, signal.SIGKILL)
        wait_for_guards()

    with pytest.raises(SourceError, match=r"connection to them was cut|killed by SIGKILL"), stopped(HERE, NAMES):
        cut()
    assert app.running() == set(NAMES)


def kill_guard() -> None:
    """Each with what it has started: that is a guard by its command line too, until it executes a tool."""
    groups = set()
    for pid in guards():
        with suppress(ProcessLookupError):  # it has ended
            groups.add(os.getpgid(pid))
    for group in groups:
        os.killpg(group, signal.SIGKILL)


def test_a_guard_that_is_killed_is_noticed_and_they_are_back(app: DockerEngine) -> None:
    with pytest.raises(SourceError, match="guard of the stopped containers was killed"), stopped(HERE, NAMES):
        kill_guard()
    assert app.running() == set(NAMES)
    assert notes() == []


@pytest.mark.fault("K15")
def test_what_is_down_since_its_server_went_down_is_started_by_the_next_run(app: DockerEngine) -> None:
    with forked(wait_for_a_signal) as pid:
        kill_guard()  # as when the power fails: both are gone
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert app.running() == set()
    with stopped(HERE, NAMES) as guard:
        assert guard.names == NAMES
    assert app.running() == set(NAMES)
    assert [warning for warning in guard.warnings if "was started" in warning] == guard.warnings != []
    assert repair(HERE) == []


def test_what_somebody_has_started_and_stopped_since_stays_down(app: DockerEngine) -> None:
    with forked(wait_for_a_signal) as pid:
        kill_guard()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    app("start", "shop-db")
    app("stop", "shop-db")
    assert "shop-db is down since" in " ".join(repair(HERE))
    assert app.running() == {"shop-web"}


def test_a_container_that_does_not_come_back_is_an_error_and_the_others_do(app: DockerEngine) -> None:
    with pytest.raises(SourceError, match=r"did not come back: shop-web \(it was removed"), stopped(HERE, NAMES):
        app("rm", "shop-web")
    assert app.running() == {"shop-db"}


def test_a_container_that_ends_as_soon_as_it_is_started_is_an_error(docker: DockerEngine) -> None:
    once = "[ ! -e /tmp/once ] || exit 3; touch /tmp/once; trap 'exit 0' TERM; while :; do sleep 60 & wait $!; done"
    docker.start("once", command=("sh", "-c", once))
    docker("exec", "once", "sh", "-c", "until [ -e /tmp/once ]; do :; done")
    with pytest.raises(SourceError, match=r"did not come back: once \(it ended as soon"), stopped(HERE, ["once"]):
        pass


def test_both_errors_are_told_where_the_backup_failed_too(app: DockerEngine) -> None:
    def fail() -> None:
        app("rm", "shop-web")
        raise SourceError("tar failed")

    with pytest.raises(SourceError, match=r"did not come back: .* before that: tar failed"), stopped(HERE, NAMES):
        fail()


def test_one_that_somebody_started_meanwhile_was_not_down_for_all_of_it(app: DockerEngine) -> None:
    with pytest.raises(SourceError, match="somebody has started shop-web"), stopped(HERE, NAMES):
        app("start", "shop-web")
    assert app.running() == set(NAMES)


def test_what_cannot_be_stopped_without_harm_is_refused_before_anything_is(app: DockerEngine) -> None:
    app.start("passing", "--rm")
    app.start("task", "--label=com.docker.swarm.service.name=web")
    for name, word in (("passing", "--rm"), ("task", "Swarm service web")):
        with pytest.raises(ConfigError, match=word), stopped(HERE, [*NAMES, name]):
            pass
    assert app.running() == {*NAMES, "passing", "task"}
    with stopped(HERE, ["passing", "task"], "pause"):
        assert app.running() == set(NAMES)
    assert app.running() == {*NAMES, "passing", "task"}


@pytest.mark.fault("N01", "N02", "N09")
@pytest.mark.parametrize("name", ["/etc", "a:/b", "-f", "$(touch x)", "a b", "", "a\n", "../x"])
def test_names_that_are_none_reach_no_shell(docker: DockerEngine, name: str) -> None:
    with pytest.raises(ConfigError, match="not the name of a container"), stopped(HERE, [name]):
        pass


def test_a_container_that_is_not_there_is_an_error(docker: DockerEngine) -> None:
    with pytest.raises(SourceError, match="No such container: missing"), stopped(HERE, ["missing"]):
        pass


@pytest.mark.fault("S12")
def test_a_daemon_that_is_not_there_may_come_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    with pytest.raises(SourceUnavailable, match="Docker daemon"), stopped(HERE, ["shop"]):
        pass


_APPLETS = "sh cat dd date grep timeout setsid env mkdir mv rm sync sleep tr"


def test_a_busybox_shell_is_enough_on_the_server(
    app: DockerEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in _APPLETS.split():
        (tmp_path / name).symlink_to(str(shutil.which("busybox")))
    for name in ("docker", "setpriv"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with stopped(HERE, NAMES):
            pass
    assert app.running() == set(NAMES)
