"""Stop or pause containers for a while, and have them back whatever happens to us.

``guard.sh`` does all of it, as a process of its own on their server: it outlives the worker, the connection and the
shell that started it. It keeps a note of what it has stopped on the server's disk: when the server itself goes down
meanwhile, the next run there starts them again (:func:`repair`).
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from blocks.docker.engine import ContainerState, look_at
from blocks.host import Host, RunningTool
from vault.command import Command
from vault.errors import BackupError, ConfigError, SourceError, SourceUnavailable, printable
from vault.orphans import MARK

How = Literal["stop", "pause"]

_SCRIPT = Path(__file__).with_name("guard.sh").read_text()
# In a session of its own, and without the mark by which the next run ends what a dead one has left.
_DETACHED = f'cat | setsid env -u {MARK} sh -c "$0" "$@"'
_BEATS = 6
_STOPPING = 900.0
"""Seconds that one container may take to stop."""
_TOO_EARLY = {
    "gone": "the connection to them was cut",
    "silent": "there was no sign of life of this run",
    "late": "they had been down for as long as is allowed",
    "terminated": "somebody has ended their guard",
}


class Guard:
    """The containers that are down now, by name; ``warnings`` are complete when the context has ended."""

    def __init__(self, names: tuple[str, ...] = (), tool: RunningTool | None = None) -> None:
        self.names = names
        self.warnings: list[str] = []
        self._tool, self._ended = tool, threading.Event()
        self._lock = threading.Lock()

    def release(self) -> None:
        """Have them back now; the end of the context waits for them."""
        if not self._ended.is_set():
            self._ended.set()
            self._send(b"x")

    def beat(self, patience: float) -> None:
        """Give signs of life until they are released."""
        while not self._ended.wait(patience / _BEATS):
            self._send(b".")

    def _send(self, byte: bytes) -> None:
        with self._lock, suppress(BackupError):  # what the guard said last tells what happened
            if self._tool is not None:
                self._tool.stdin.write(byte)


@contextmanager
def stopped(
    server: Host, containers: Sequence[str], how: How = "stop", limit: float = 3600.0, patience: float = 60.0
) -> Iterator[Guard]:
    """Those of *containers* (names or ids) that run are down within the context, and back at its end.

    They are stopped the youngest first, and started again in the order in which they had been. Others are left
    alone. They come back too when this process dies, when nothing was heard of it for *patience* seconds, or after
    *limit* seconds in all: then the end of the context raises ``SourceError``, for they were not down for all of it.
    So it does for one that does not come back, whatever else has failed.
    """
    warnings = repair(server)
    chosen = [one for one in look_at(server, containers) if one.status == "running"]
    for one in chosen:
        _refuse(one, how)
    if not chosen:
        guard = Guard()
        guard.warnings += warnings
        yield guard
        return
    with server.session(_command(how, limit, patience, chosen)) as tool:
        guard = Guard(tuple(one.name for one in chosen), tool)
        guard.warnings += warnings
        _await_stopped(guard, tool)
        beating = threading.Thread(target=guard.beat, args=(patience,), name="guard", daemon=True)
        beating.start()
        try:
            yield guard
        except BaseException as error:
            _bring_back(server, guard, tool, error)
            raise
        finally:
            guard.release()
            beating.join()
        _bring_back(server, guard, tool, None)


def repair(server: Host) -> list[str]:
    """Start what a guard had stopped that died with its server; what was done, or could not be, as warnings."""
    said = server.run(_repairing()).stdout.decode(errors="replace").splitlines()
    done = []
    for kind, name, why in map(_parts, said):
        if kind == "started":
            done.append(f"container {name} was still down since a backup that was cut off: it was started")
        elif kind == "failed":
            done.append(f"container {name} is down since a backup that was cut off, and cannot be started: {why}")
    return done


def _repairing() -> Command:
    argv = ("sh", "-c", _SCRIPT, "prefect-backups-guard", secrets.token_hex(8), "repair", "0", "0")
    return Command(argv, idle_timeout=_STOPPING)


def _command(how: How, limit: float, patience: float, chosen: Sequence[ContainerState]) -> Command:
    entries = (f"{one.id} {one.started} {one.name}" for one in chosen)
    own = (secrets.token_hex(8), how, str(int(limit)), str(max(1, int(patience))))
    argv = ("sh", "-c", _DETACHED, _SCRIPT, "prefect-backups-guard", *own, *entries)
    return Command(argv, idle_timeout=_STOPPING)


def _refuse(container: ContainerState, how: How) -> None:
    if how == "stop" and container.vanishes:
        raise ConfigError(
            f"container {container.name} runs with --rm: stopped, it is gone", "Pause it, or run it without --rm."
        )
    if how == "stop" and container.swarm:
        raise ConfigError(
            f"container {container.name} belongs to the Swarm service {printable(container.swarm)}, "
            "which replaces what is stopped",
            "Pause it instead.",
        )


def _await_stopped(guard: Guard, tool: RunningTool) -> None:
    problems: list[str] = []
    for kind, name, why in _lines(tool):
        if kind == "stopped":
            return
        if kind in ("unstopped", "failed"):
            problems.append(f"{name}: {why}")
        if kind == "end":
            break
    tool.stdin.close()
    tool.finish()
    raise SourceError("containers could not be stopped: " + "; ".join(problems), "Those that were are started again.")


def _bring_back(server: Host, guard: Guard, tool: RunningTool, cause: BaseException | None) -> None:
    """Have the containers back; raise what went wrong with that, unless *cause* is no error but an end from outside."""
    guard.release()
    tool.stdin.close()  # should the guard be dead, nothing else would end what feeds it
    try:
        _judge(server, tool, cause is None)
    except BackupError as error:
        if isinstance(cause, BackupError):
            raise SourceError(f"{error.message}; and before that: {cause.message}", error.remedy) from cause
        if cause is not None:
            cause.add_note(str(error))
            return
        raise


def _judge(server: Host, tool: RunningTool, whole: bool) -> None:
    why, failed, early = "", [], []
    for kind, name, said in _lines(tool):
        if kind == "failed":
            failed.append(f"{name} ({said})")
        elif kind == "early":
            early.append(name)
        elif kind == "end":
            why = name
    if not why:  # the guard itself was killed
        done = repair(server)
        raise SourceError("the guard of the stopped containers was killed: " + ("; ".join(done) or "see to them"))
    if failed:
        raise SourceError(
            "containers that were stopped did not come back: " + "; ".join(failed), "Start them: docker start NAME."
        )
    if whole and why in _TOO_EARLY:
        raise _too_early(why)
    if whole and early:
        raise SourceError(f"somebody has started {', '.join(early)} while they had to be down", "Try again.")


def _too_early(why: str) -> SourceError:
    message = f"the containers were started before all was read: {_TOO_EARLY[why]}"
    if why == "late":
        return SourceError(message, "Allow them to be down for longer, or back up without stopping them.")
    return SourceUnavailable(message)


def _lines(tool: RunningTool) -> Iterator[tuple[str, str, str]]:
    while line := tool.stdout.readline():
        yield _parts(line.decode(errors="replace"))


def _parts(line: str) -> tuple[str, str, str]:
    """What happened, to which container, and what was said of it."""
    kind, _, rest = line.strip().partition(" ")
    name, _, said = rest.partition(" ")
    return kind, printable(name), printable(said)
