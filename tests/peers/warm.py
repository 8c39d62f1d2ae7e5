"""``backups``, and Prefect's server, forked from a process which has imported Prefect and all of ours already.

Each start of the command imports Prefect, which takes two seconds of CPU: more than most of what tests ask it for; a
start of the server takes four. Here one process of each test session does that once, and each of them is a fork of it:
a child of ours, with an environment, an output and an end of its own. ``python -m tests.peers.warm SOCKET`` is that
process; ``start`` and ``start_server`` ask it.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, NoReturn

READ_AT_IMPORT = ("BACKUPS_RETRIES", "BACKUPS_RETRY_DELAY", "PYTHONPATH")
"""Variables that a forked command has as its origin has them."""
_OURS = ("cli", "blocks", "tasks", "flows", "deployments")
_LATE = ("prefect.flow_engine", "prefect.task_engine", "prefect.task_runners", "prefect.server.api.server", "uvicorn")
_PARENT_DEATH_SIGNAL, _SUBREAPER = 1, 36  # PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER


class Forked(subprocess.Popen[bytes]):
    """A command that was forked elsewhere, and is a child of this process."""

    def __init__(self, arguments: tuple[str, ...], pid: int) -> None:
        self.args, self.pid, self.returncode = arguments, pid, None
        self.stdin = self.stdout = self.stderr = None
        self._child_created = True
        self._waitpid_lock = threading.Lock()


class Origin:
    """The process that all commands with one set of ``READ_AT_IMPORT`` are forked from; it ends with us."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket = Path(tempfile.mkdtemp(prefix="warm-")) / "socket"
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, self._socket],
            env=dict(environment),
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.read(1) == b"+", "it cannot import the command"

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], files: Sequence[int], directory: str, what: str
    ) -> Forked:
        """Start *what*; *files* are its output, its errors, and what else it holds open."""
        wanted = {"what": what, "arguments": arguments, "environment": dict(environment), "directory": directory}
        with socket.socket(socket.AF_UNIX) as line, _taking_orphans():
            line.connect(os.fspath(self._socket))
            socket.send_fds(line, [b"+"], files)
            line.sendall(json.dumps(wanted).encode())
            line.shutdown(socket.SHUT_WR)
            with line.makefile("rb") as answer:
                return Forked(tuple(arguments), int(answer.read()))  # which ends when the process between has ended


@contextmanager
def _taking_orphans() -> Iterator[None]:
    """Within, what is below us and loses its parent becomes our child."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_SUBREAPER, 1) == 0
    try:
        yield
    finally:
        libc.prctl(_SUBREAPER, 0)


def fits(environment: Mapping[str, str]) -> bool:
    """Whether a forked command is as good in *environment* as one that is started.

    Without an API it has to say where its server is before Prefect is imported, which then reads how it is to log.
    """
    return "PREFECT_API_URL" in environment and not any(name.startswith("PREFECT_LOGGING_") for name in environment)


def start(arguments: tuple[str, ...], environment: Mapping[str, str], out: int, err: int) -> subprocess.Popen[bytes]:
    """Start the command with *arguments* in *environment* and a session of its own; *out* and *err* are its output."""
    return _origin_for(environment).start(arguments, environment, (out, err), os.getcwd(), "cli")


def start_server(
    argv: Sequence[str], *, env: Mapping[str, str], stdout: IO[bytes], cwd: str, pass_fds: Sequence[int], **_: object
) -> subprocess.Popen[bytes]:
    """As ``subprocess.Popen`` of what ``cli.api.start_server`` starts: uvicorn, which the kernel ends with us."""
    output = stdout.fileno()
    options = list(argv[argv.index("uvicorn") + 1 :])
    return _origin_for(env).start(options, env, (output, output, *pass_fds), cwd, "uvicorn")


def _origin_for(environment: Mapping[str, str]) -> Origin:
    first = {name: environment[name] for name in ("PATH", *READ_AT_IMPORT) if name in environment}
    return _origin(tuple(sorted(first.items())))


@cache
def _origin(environment: tuple[tuple[str, str], ...]) -> Origin:
    from cli.api import _DEFAULTS

    return Origin({**_DEFAULTS, **dict(environment)})


def _import_all() -> None:
    """Whatever a command may import, so that no command has to."""
    for name in _OURS:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for name in _LATE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection of a command would copy all of it


def _serve(listener: socket.socket) -> Callable[[], object]:
    """Fork for each that calls, until our parent is gone; returns only in what was forked, and says what it runs."""
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        line, _ = listener.accept()
        _, files, _, _ = socket.recv_fds(line, 1, 8)
        with line.makefile("rb") as sent:
            wanted = json.loads(sent.read())
        between = os.fork()  # by its end what it forks becomes a child of our parent
        if between == 0:
            parent, pid = os.getpid(), os.fork()
            if pid:
                line.sendall(str(pid).encode())
                os._exit(0)
            line.close()
            listener.close()
            _become(wanted["environment"], wanted["directory"], files[0], files[1])
            sys.argv[1:] = wanted["arguments"]
            if wanted["what"] == "cli":
                return importlib.import_module("cli").main  # type: ignore[no-any-return]
            _end_with_parent(parent)
            return importlib.import_module("uvicorn.main").main  # type: ignore[no-any-return]
        os.waitpid(between, 0)
        for file in files:
            os.close(file)
        line.close()
    os._exit(0)


def _become(environment: dict[str, str], directory: str, out: int, err: int) -> None:
    """What a new process has of its own."""
    import prefect.context

    from cli.api import _DEFAULTS

    os.setsid()
    for number, own in enumerate((os.open(os.devnull, os.O_RDONLY), out, err)):
        os.dup2(own, number)
        os.close(own)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update({**_DEFAULTS, **environment})
    time.tzset()
    prefect.context.GLOBAL_SETTINGS_CONTEXT = prefect.context.root_settings_context()


def _end_with_parent(between: int) -> None:
    while os.getppid() == between:
        os.sched_yield()
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _run(work: Callable[[], object]) -> int:
    try:
        work()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else bool(ended.code)
    except BaseException:  # noqa: BLE001  (told as Python tells it)
        traceback.print_exc()
        return 1
    return 0


def _end(code: int) -> NoReturn:
    """What Python does at its end, but for taking apart all that was imported, which takes as long as a command."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """Serve; each forked command comes back here."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _import_all()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen()
        os.write(1, b"+")
        work = _serve(listener)
    _end(_run(work))


if __name__ == "__main__":
    main()
