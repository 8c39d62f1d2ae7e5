"""``backups`` in a process of its own that is forked from one which has imported Prefect and all of ours already.

Each start of the command imports Prefect, which takes two seconds of CPU: more than most of what tests ask it for. Here
one process of each test session does that once, and each command is a fork of it: a child of ours, with an environment,
an output and an end of its own. ``python -m tests.peers.warm SOCKET`` is that process; ``start`` asks it.
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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NoReturn

READ_AT_IMPORT = ("BACKUPS_RETRIES", "BACKUPS_RETRY_DELAY", "PYTHONPATH")
"""Variables that a forked command has as its origin has them."""
_OURS = ("cli", "blocks", "tasks", "flows", "deployments")
_LATE = ("fastapi.encoders", "prefect.flow_engine", "prefect.task_engine", "prefect.task_runners")
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


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

    def start(self, arguments: tuple[str, ...], environment: Mapping[str, str], out: int, err: int) -> Forked:
        """As ``start`` of this module."""
        wanted = {"arguments": arguments, "environment": dict(environment), "directory": os.getcwd()}
        with socket.socket(socket.AF_UNIX) as line, _taking_orphans():
            line.connect(os.fspath(self._socket))
            socket.send_fds(line, [b"+"], [out, err])
            line.sendall(json.dumps(wanted).encode())
            line.shutdown(socket.SHUT_WR)
            with line.makefile("rb") as answer:
                return Forked(arguments, int(answer.read()))  # which ends when the process between has ended


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
    first = {name: environment[name] for name in ("PATH", *READ_AT_IMPORT) if name in environment}
    return _origin(tuple(sorted(first.items()))).start(arguments, environment, out, err)


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


def _serve(listener: socket.socket) -> tuple[str, ...]:
    """Fork a command for each that calls, until our parent is gone; returns only in a command, with its arguments."""
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        line, _ = listener.accept()
        _, (out, err), _, _ = socket.recv_fds(line, 1, 2)
        with line.makefile("rb") as sent:
            wanted = json.loads(sent.read())
        between = os.fork()  # by its end the command becomes a child of our parent
        if between == 0:
            command = os.fork()
            if command:
                line.sendall(str(command).encode())
                os._exit(0)
            line.close()
            listener.close()
            _become(wanted["environment"], wanted["directory"], out, err)
            return tuple(wanted["arguments"])
        os.waitpid(between, 0)
        for file in (out, err):
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


def _run() -> int:
    import cli

    try:
        cli.main()
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
        sys.argv[1:] = _serve(listener)
    _end(_run())


if __name__ == "__main__":
    main()
