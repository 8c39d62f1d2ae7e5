"""``backups up``: Prefect's server, a worker and the console, in one command that ends all of it again."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType

from cli.api import POOL, free_port, running_up, start_server, up_file, wait_until_healthy
from cli.console import PORT, start_console, wait_for_console
from cli.home import own_files
from cli.output import note
from vault.errors import BackupError, ConfigError
from vault.process import tied_to_us

_NAMES = ("server", "worker", "console")
_FAREWELL = 30.0  # seconds; then it is killed


class _Stop(Exception):
    pass


def up(*, port: int = 4200, console_port: int = PORT) -> int:
    """Run the console, Prefect's server with its UI, and a worker, on 127.0.0.1. Ctrl-C ends all of it.

    Example: backups up

    Parameters
    ----------
    port
        The server's port; 0 takes a free one.
    console_port
        The console's port; 0 takes a free one.
    """
    if running_up() is not None:
        raise ConfigError("`backups up` is running already", f"See {up_file()}.")
    if os.environ.get("PREFECT_API_URL"):
        raise ConfigError("PREFECT_API_URL is set: a server exists already", "Start a worker for it: backups worker")
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    port = port or free_port()
    console_port = console_port or free_port()
    _refuse_used(port, "--port")
    _refuse_used(console_port, "--console-port")
    url = f"http://127.0.0.1:{port}/api"
    environment = {"PREFECT_API_URL": url}
    password = os.environ.get("PREFECT_SERVER_API_AUTH_STRING")
    if password:
        environment["PREFECT_API_AUTH_STRING"] = password
    else:
        note("Whoever has an account on this machine can reach the server and read its secrets.")
        note("  If that is not only you, set PREFECT_SERVER_API_AUTH_STRING=admin:PASSWORD first: it asks for it then.")
    children: list[subprocess.Popen[bytes]] = []
    try:
        note("Starting Prefect's server …")
        os.environ.update(environment)  # first of all: Prefect reads it when it is imported
        children.append(start_server(port, {"PREFECT_UI_API_URL": url}))
        _advise()
        wait_until_healthy(url, children[0])
        _register()
        children.append(_start_worker())
        # What has a password must not be had without one through the console.
        log, login = own_files() / "console.log", bool(password)
        children.append(start_console("127.0.0.1", console_port, [], login, log))
        wait_for_console(console_port, children[-1])
        _announce(environment)
        note(f"Backups: http://127.0.0.1:{console_port}")
        if password:
            note("  It asks for a login: backups console user add NAME --scope admin")
        note(f"  Prefect's UI: http://127.0.0.1:{port}   Worker: pool {POOL}   Ctrl-C ends all of it.")
        _wait_for_one(children)
    except _Stop:
        note("Stopping …")
    finally:
        up_file().unlink(missing_ok=True)
        for child in reversed(children):
            _end(child)
    return 0


def _advise() -> None:
    from cli.encryption_key import advice

    unprotected = advice()
    if unprotected:
        note(unprotected)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise _Stop


def _refuse_used(port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(
                f"port {port} on 127.0.0.1 cannot be used: {error.strerror}", f"Give another: {option} N, or 0 for any."
            ) from error


def _register() -> None:
    from deployments.register import register_all

    register_all(POOL)


def _start_worker() -> subprocess.Popen[bytes]:
    log = own_files() / "worker.log"
    command = [sys.executable, "-m", "cli", "worker", "--pool", POOL, "--patience", "0"]
    with log.open("ab") as output:
        return subprocess.Popen(
            [*tied_to_us("TERM"), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=Path(__file__).parent.parent,
        )


def _announce(environment: dict[str, str]) -> None:
    text = json.dumps({"pid": os.getpid(), "environment": environment})
    path = up_file()
    path.unlink(missing_ok=True)
    with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)


def _wait_for_one(children: list[subprocess.Popen[bytes]]) -> None:
    """Until a child ends by itself, which is a failure, or a signal asks for the end."""
    handles = {os.pidfd_open(child.pid): (child, name) for child, name in zip(children, _NAMES, strict=True)}
    ended, _, _ = select.select([*handles], [], [])
    child, name = handles[ended[0]]
    whose = "the" if name == "console" else "Prefect's"
    raise BackupError(f"{whose} {name} ended with exit code {child.wait()}", f"See {own_files() / f'{name}.log'}.")


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    child.terminate()  # it alone: the worker interrupts its runs by itself, once
    try:
        child.wait(timeout=_FAREWELL)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
